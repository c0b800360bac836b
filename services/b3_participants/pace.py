"""How fast a participant acts: looks at most every `look_ms`, and so many commands a second over time.

A burst is paid back by waiting. Integers only; time comes from the clock given.
"""

from __future__ import annotations

import asyncio

from mybroker.runtime.clock import Clock

_NS_PER_SECOND = 1_000_000_000
BURST_NS = 2 * _NS_PER_SECOND
"""So much of the rate may be used at once after a quiet time."""


class Pace:
    """One participant's pace, in thousandths of a command a second."""

    def __init__(self, *, commands_per_1000_seconds: int, look_ms: int) -> None:
        assert commands_per_1000_seconds > 0 and look_ms > 0, "expected a pace above zero"
        self._cost_ns = 1_000 * _NS_PER_SECOND // commands_per_1000_seconds
        self._look_ns = look_ms * 1_000_000
        self._paid_until_ns: int | None = None

    def spent(self, commands: int) -> None:
        """Say that commands went out."""
        if self._paid_until_ns is not None:
            self._paid_until_ns += commands * self._cost_ns

    def pause_ns(self, now_ns: int) -> int:
        """Return how long to wait before the next look."""
        if self._paid_until_ns is None:
            self._paid_until_ns = now_ns
        self._paid_until_ns = max(self._paid_until_ns, now_ns - BURST_NS)
        return max(self._look_ns, self._paid_until_ns - now_ns)

    async def wait(self, clock: Clock) -> None:
        """Wait until the next look is due."""
        await asyncio.sleep(self.pause_ns(clock.monotonic_ns()) / _NS_PER_SECOND)
