"""Start the feed: `python -m services.b3_market_feed`."""

from mybroker.runtime.lifecycle import run_service
from services.b3_market_feed.app import SERVICE, start

if __name__ == "__main__":
    run_service(SERVICE, start)
