"""Services that are wrong on purpose: `python -m tests.saboteurs.processes ROLE`. Each changes one thing.

(Matchers whose snapshots are too early are in tests/matcher/saboteurs.)
"""

from __future__ import annotations

import sys
from typing import Any

from mybroker.runtime.lifecycle import run_service


def matcher_that_hears_twice() -> None:
    """Take a new order under an id that was heard before as if it were another one."""
    from mybroker.contracts.commands import PlaceOrder
    from services.b3_matcher.engine import engine

    place = engine._HANDLERS[PlaceOrder]

    def place_again(state: Any, command: Any) -> None:
        state.member(command.participant).orders.pop(command.order_id, None)
        place(state, command)

    engine._HANDLERS[PlaceOrder] = place_again
    from services.b3_matcher.app import start

    run_service("b3_matcher", start)


def feed_that_takes_any_seq() -> None:
    """Take each frame that is read for the next one."""
    from mybroker.contracts.frames import Frame, FramePart
    from mybroker.runtime import frames

    def hear(self: Any, part: FramePart) -> Frame | None:
        self.log_id, self.seq = part.frame.log_id, part.frame.seq
        return part.frame

    frames.FrameSequence.hear = hear  # type: ignore[method-assign]
    from services.b3_market_feed.app import start

    run_service("b3_market_feed", start)


if __name__ == "__main__":
    {"matcher_that_hears_twice": matcher_that_hears_twice, "feed_that_takes_any_seq": feed_that_takes_any_seq}[
        sys.argv[1]
    ]()
