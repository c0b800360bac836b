"""Start the gateway: `python -m services.broker_gateway`."""

from mybroker.runtime.lifecycle import run_service
from services.broker_gateway.app import SERVICE, start

if __name__ == "__main__":
    run_service(SERVICE, start)
