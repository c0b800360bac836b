"""Ids at the shell: time-ordered, unguessable enough, and replaceable in tests.

`TimeOrderedIds` makes UUID version 7 (RFC 9562): 48 bits of milliseconds, then randomness from the system. Within
one source ids never step back, even when the wall clock does: the millisecond part is held and the 12 bits after
it count up. Ids of orders and trades at the exchange are not made here; they derive from sequence numbers.
"""

import os
from typing import Protocol

from mybroker.runtime.clock import Clock, WallClock

_COUNTER_MAX = 0xFFF


class IdSource(Protocol):
    """Where a shell gets new ids from."""

    def new_id(self) -> str: ...


class TimeOrderedIds:
    """UUIDv7 as text with hyphens. One per process; not for use from several threads at once."""

    __slots__ = ("_clock", "_counter", "_last_ms")

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or WallClock()
        self._last_ms = 0
        self._counter = 0

    def new_id(self) -> str:
        now_ms = self._clock.now_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms, self._counter = now_ms, int.from_bytes(os.urandom(1))
        elif self._counter < _COUNTER_MAX:
            self._counter += 1
        else:
            self._last_ms, self._counter = self._last_ms + 1, 0
        tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        text = f"{self._last_ms:012x}7{self._counter:03x}{tail:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class CountingIds:
    """`prefix-1`, `prefix-2`, ...: for tests."""

    __slots__ = ("_count", "_prefix")

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"
