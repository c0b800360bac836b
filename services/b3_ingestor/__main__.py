"""`python -m services.b3_ingestor plan` writes fetch tasks, `... fetch` does them."""

import sys

from mybroker.runtime.lifecycle import run_service

ROLES = ("plan", "fetch")


def main() -> None:
    """Run one role until it is stopped."""
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        sys.exit(f"b3_ingestor: expected one role of {', '.join(ROLES)}, was {' '.join(sys.argv[1:]) or 'nothing'}")
    from services.b3_ingestor import app

    run_service(f"b3_ingestor_{role}", app.start_planner if role == "plan" else app.start_fetcher)


if __name__ == "__main__":
    main()
