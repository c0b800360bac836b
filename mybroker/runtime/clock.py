"""Time at the shell: the only place where a service reads the machine's clock.

The core takes `now_ns` as an argument; tests hand a `ManualClock`. Nanoseconds since 1970 in UTC for wall time;
`monotonic_ns` never steps back and is only good for durations.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell gets the time from."""

    def now_ns(self) -> int: ...

    def monotonic_ns(self) -> int: ...


class WallClock:
    """The machine's clock."""

    __slots__ = ()

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class ManualClock:
    """A clock that stands still until it is moved."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns

    def advance(self, *, ms: int = 0, ns: int = 0) -> int:
        """Move forward and return the new instant."""
        assert ms >= 0 and ns >= 0, f"expected a step forward, was {ms} ms {ns} ns"
        self._now_ns += ms * 1_000_000 + ns
        return self._now_ns
