"""Start all participants of a session: `python -m services.b3_participants`."""

from mybroker.runtime.lifecycle import run_service
from services.b3_participants.app import SERVICE, start

if __name__ == "__main__":
    run_service(SERVICE, start)
