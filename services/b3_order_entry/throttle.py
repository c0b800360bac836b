"""A participant's throttle: a token bucket in integers, time given from outside. Pure.

B3 throttles messages a second per connection; here per participant. Limits: BURST_SECONDS of the rate may come
at once.
"""

from __future__ import annotations

BURST_SECONDS = 2
_NS = 1_000_000_000


class Throttle:
    """Allows `per_second` requests, with bursts of BURST_SECONDS worth."""

    __slots__ = ("_at_ns", "_full", "_per_second", "_tokens_ns")

    def __init__(self, per_second: int) -> None:
        """Start full; `per_second` 0 means no limit."""
        self._per_second = per_second
        self._full = BURST_SECONDS * _NS
        self._tokens_ns = self._full
        self._at_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Take one token at `now_ns`; False when there is none."""
        if self._per_second == 0:
            return True
        if self._at_ns is not None and now_ns > self._at_ns:
            self._tokens_ns = min(self._full, self._tokens_ns + now_ns - self._at_ns)
        self._at_ns = now_ns if self._at_ns is None else max(self._at_ns, now_ns)
        cost_ns = _NS // self._per_second
        if self._tokens_ns < cost_ns:
            return False
        self._tokens_ns -= cost_ns
        return True
