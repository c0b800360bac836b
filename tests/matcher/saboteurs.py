"""Matchers that are wrong on purpose, and one that only snapshots more often: `python -m tests.matcher.saboteurs ROLE`.

Each role changes one thing before the real service starts, so that a test can show what that thing is there for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from mybroker.runtime.lifecycle import run_service

OFTEN_EVERY_COMMANDS = 100
FRAMES_SENT = 150
POISON = "poison"


def snapshots_often() -> None:
    """Make a snapshot every OFTEN_EVERY_COMMANDS commands."""
    from services.b3_matcher import matcher

    matcher.SNAPSHOT_EVERY_COMMANDS = OFTEN_EVERY_COMMANDS


def snapshots_before_delivery() -> None:
    """Write a snapshot without waiting for its frames, which stay in the producer after the first FRAMES_SENT."""
    from mybroker.runtime.kafka import make_producer
    from services.b3_matcher import matcher

    snapshots_often()
    matcher.Matcher._may_write_snapshot = lambda self, header: True  # type: ignore[method-assign]
    vars(matcher)["make_producer"] = lambda url: _HoldsFramesBack(make_producer(url))


def trusts_its_snapshot() -> None:
    """Start from the newest snapshot whatever the event log says: what many programs do."""
    from services.b3_matcher import matcher
    from services.b3_matcher.recovery import read_written
    from services.b3_matcher.shard import Shard

    def recover(place: Any, log_id: str, snapshots: Any) -> Any:
        written = read_written(place, log_id, event_offset=0)
        newest = next(snapshots.newest_first(), None)
        return (Shard.load(newest.state) if newest is not None else Shard()), written

    vars(matcher)["recover"] = recover


def next_engine_version() -> None:
    """Be the engine of tomorrow."""
    from services.b3_matcher.engine import engine

    engine.ENGINE_VERSION += 1


def fails_on_poison() -> None:
    """Have a bug: raise for an order whose id begins with POISON, after having changed the book's state."""
    from mybroker.contracts.commands import PlaceOrder
    from services.b3_matcher.engine import engine

    place = engine._HANDLERS[PlaceOrder]

    def place_or_fail(state: Any, command: Any) -> None:
        place(state, command)
        if command.order_id.startswith(POISON):
            raise ZeroDivisionError("a bug")

    engine._HANDLERS[PlaceOrder] = place_or_fail


class _HoldsFramesBack:
    """A producer whose messages for an event log are never sent after the first FRAMES_SENT."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._frames = 0

    def produce(self, topic: str, *args: Any, **kwargs: Any) -> None:
        if topic.startswith("b3-events-"):
            self._frames += 1
            if self._frames > FRAMES_SENT:
                return
        self._producer.produce(topic, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


ROLES: dict[str, tuple[Callable[[], None], ...]] = {
    "snapshots_often": (snapshots_often,),
    "snapshots_before_delivery": (snapshots_before_delivery,),
    "naive": (snapshots_before_delivery, trusts_its_snapshot),
    "trusting": (trusts_its_snapshot,),
    "next_engine_version": (next_engine_version,),
    "fails_on_poison": (snapshots_often, fails_on_poison),
}


if __name__ == "__main__":
    for change in ROLES[sys.argv[1]]:
        change()
    from services.b3_matcher.app import start

    run_service("b3_matcher", start)
