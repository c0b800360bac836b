"""Sending at a fixed rate whatever comes back: the send times are a plan made before the first send.

A latency counts from the instant at which its request was due, not from when it was sent. So a server (or this
client) that stalls delays every request that fell due meanwhile, and the figures show each of those delays; a loop
that waits for an answer before it sends again would leave them out ("coordinated omission").

Limits: `in_flight_max` requests at once; one that falls due above that is not sent and is counted as held back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

NS_PER_SECOND = 1_000_000_000

Send = Callable[[int, int], Coroutine[Any, Any, None]]
"""Sends request `number`, which was due at an instant of the monotonic clock (ns); returns when it is over."""


def due_offsets_ns(rate_per_second: int, seconds: int) -> list[int]:
    """Return when each request is due, in nanoseconds after the start; exact, so that no error adds up."""
    assert rate_per_second > 0 and seconds > 0, f"expected a rate and a time above zero: {rate_per_second}, {seconds}"
    return [number * NS_PER_SECOND // rate_per_second for number in range(rate_per_second * seconds)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a plan. `late_ns_max` is how late the worst request left this client."""

    started_ns: int
    ended_ns: int
    sent: int
    held_back: int
    late_ns_max: int


async def send_all(offsets_ns: Sequence[int], send: Send, *, in_flight_max: int) -> Sent:
    """Start each request when it is due, or at once where that has passed; return when all are over."""
    under_way: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    def over(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)

    started_ns = time.monotonic_ns()
    held_back = late_ns_max = 0
    try:
        for number, offset_ns in enumerate(offsets_ns):
            due_ns = started_ns + offset_ns
            while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                await asyncio.sleep(wait_ns / NS_PER_SECOND)
            late_ns_max = max(late_ns_max, -wait_ns)
            if failures:
                raise failures[0]
            if len(under_way) >= in_flight_max:
                held_back += 1
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(send(number, due_ns))
            under_way.add(task)
            task.add_done_callback(over)
        while under_way:
            await asyncio.wait(under_way)
        if failures:
            raise failures[0]
    finally:
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    sent = len(offsets_ns) - held_back
    ended_ns = time.monotonic_ns()
    return Sent(started_ns=started_ns, ended_ns=ended_ns, sent=sent, held_back=held_back, late_ns_max=late_ns_max)
