"""Requests leave by plan, and a stall shows in every request that fell due during it."""

from __future__ import annotations

import asyncio
import time

import pytest

from bench.open_loop import due_offsets_ns, send_all

MS = 1_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(("rate", "seconds"), [(1, 3), (3, 10), (7, 2), (200, 5), (5_000, 2)])
def test_a_plan_has_its_rate_in_every_second_and_no_error_adds_up(rate: int, seconds: int):
    offsets = due_offsets_ns(rate, seconds)

    assert offsets[0] == 0
    assert offsets == sorted(offsets)
    for second in range(seconds):
        assert sum(second * SECOND <= offset < (second + 1) * SECOND for offset in offsets) == rate
    assert offsets[-1] == (rate * seconds - 1) * SECOND // rate


async def test_no_request_leaves_before_it_is_due():
    early_ns: list[int] = []

    async def send(_number: int, due_ns: int) -> None:
        early_ns.append(due_ns - time.monotonic_ns())

    sent = await send_all(due_offsets_ns(500, 1)[:50], send, in_flight_max=100)

    assert (sent.sent, sent.held_back, len(early_ns)) == (50, 0, 50)
    assert max(early_ns) <= 0


async def test_a_server_that_stalls_delays_every_request_that_was_due_meanwhile():
    """Without coordinated omission: one that waits for an answer before it sends again would see one slow request."""
    opened_ns: list[int] = []
    latencies_ns: dict[int, int] = {}
    due: dict[int, int] = {}

    async def send(number: int, due_ns: int) -> None:
        due[number] = due_ns
        if number == 0:
            await asyncio.sleep(0.1)
            opened_ns.append(time.monotonic_ns())
            gate.set()
        await gate.wait()
        latencies_ns[number] = time.monotonic_ns() - due_ns

    gate = asyncio.Event()
    await send_all(due_offsets_ns(200, 1)[:40], send, in_flight_max=100)

    stalled = [number for number, due_ns in due.items() if due_ns < opened_ns[0]]
    assert len(stalled) >= 20, "the stall lasts 100 ms and 20 requests fall due in it"
    assert all(latencies_ns[number] >= opened_ns[0] - due[number] for number in stalled)


async def test_a_client_that_stalls_counts_its_own_delay():
    latencies_ns: list[int] = []

    async def send(number: int, due_ns: int) -> None:
        if number == 0:
            time.sleep(0.05)  # noqa: ASYNC251  (the stall is what is tested)
        latencies_ns.append(time.monotonic_ns() - due_ns)

    sent = await send_all([0, MS, 2 * MS], send, in_flight_max=10)

    assert len(latencies_ns) == 3
    assert min(latencies_ns) >= 45 * MS
    assert sent.late_ns_max >= 45 * MS


async def test_what_is_due_above_the_limit_is_counted_and_not_sent():
    gate = asyncio.Event()
    started: list[int] = []

    async def send(number: int, _due_ns: int) -> None:
        started.append(number)
        if number == 2:
            gate.set()
        await gate.wait()

    async def open_later() -> None:
        await asyncio.sleep(0.2)
        gate.set()

    opening = asyncio.create_task(open_later())
    sent = await send_all([0] * 10, send, in_flight_max=2)
    await opening

    assert started[:2] == [0, 1]
    assert sent.sent + sent.held_back == 10
    assert sent.sent == len(started)
    assert sent.held_back == 8


async def test_a_request_that_fails_by_a_bug_ends_the_measurement():
    async def send(number: int, _due_ns: int) -> None:
        assert number != 1, "a bug"

    with pytest.raises(AssertionError, match="a bug"):
        await send_all(due_offsets_ns(1_000, 1), send, in_flight_max=10)
