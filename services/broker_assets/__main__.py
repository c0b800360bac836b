"""Start assets: `python -m services.broker_assets`."""

from mybroker.runtime.lifecycle import run_service
from services.broker_assets.app import SERVICE, start

if __name__ == "__main__":
    run_service(SERVICE, start)
