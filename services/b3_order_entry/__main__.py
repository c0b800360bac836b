"""Start order entry: `python -m services.b3_order_entry`."""

from mybroker.runtime.lifecycle import run_service
from services.b3_order_entry.app import start

if __name__ == "__main__":
    run_service("b3_order_entry", start)
