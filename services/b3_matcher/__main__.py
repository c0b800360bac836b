"""Start the matcher: `python -m services.b3_matcher`."""

from mybroker.runtime.lifecycle import run_service
from services.b3_matcher.app import start

if __name__ == "__main__":
    run_service("b3_matcher", start)
