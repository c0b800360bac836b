"""Start surveillance: `python -m services.b3_surveillance`."""

from mybroker.runtime.lifecycle import run_service
from services.b3_surveillance.app import start

if __name__ == "__main__":
    run_service("b3_surveillance", start)
