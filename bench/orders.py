"""Orders a second over HTTP with everything running: acknowledged, traded, and the rate at which it saturates.

One session as `mybroker up` starts it, with its makers and noise traders; this client shares the machine with it.
Rates are open-loop (see `open_loop`). A step is saturated where less than CARRIED_PERCENT of the offered rate was
acknowledged, or the 99th percentile of acknowledgement or of order to trade is above SATURATED_P99_MS: an order that
is acknowledged but waits ever longer for the exchange is not carried either. The saturation rate is the highest rate
of the ramp that was carried. First comes a span without orders, so that each step's processor time can be told an
order at a time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass

from bench.latency import p50_text, p99_text, summarise
from bench.machine import CpuSpan, busy_ms, cpu_span, first_to_saturate
from bench.report import NS_PER_SECOND, Options, Result, per_second
from bench.session import UpSession, cpu_ms_by_program, started, temporary_home, write_manifest
from bench.traffic import Step, Traffic, open_traffic
from mybroker.cli.client import Client

FIXED_RATES = (50, 200)
RAMP_RATES = (10, 25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_200)
IDLE_SECONDS = 10
FIXED_SECONDS = 20
RAMP_SECONDS = 10
WARM_UP_SECONDS = 5
SETTLE_RATE = 20
SETTLE_SECONDS = 2
SETTLE_WITHIN_S = 90
CARRIED_PERCENT = 95
SATURATED_P99_MS = 1_000
AIM_ACK_P99_MS = 50
AIM_TRADE_P99_MS = 100
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step with what the processors did meanwhile, and what they did without orders."""

    step: Step
    cpu: CpuSpan
    idle: CpuSpan

    @property
    def achieved_per_second(self) -> int:
        """Return the rate of acknowledgements, from the first due instant to the last answer."""
        return achieved_per_second(self.step)

    @property
    def why_saturated(self) -> str | None:
        """Say why the offered rate was more than is carried; None where it was carried."""
        return why_saturated(self.step)

    @property
    def cpu_ms_per_order(self) -> str:
        """Return the processor time an order took of all our programs, above what they take without orders."""
        ours_ms = sum(share.used_ms for share in self.cpu.shares)
        idle_ms = sum(share.used_ms for share in self.idle.shares) * self.cpu.took_ms // max(1, self.idle.took_ms)
        return f"{(ours_ms - idle_ms) / max(1, len(self.step.acknowledged_ns)):.1f}"


def achieved_per_second(step: Step) -> int:
    """Return the rate of acknowledgements over a step, rounded down."""
    return per_second(len(step.acknowledged_ns), _took_ns(step))


def _took_ns(step: Step) -> int:
    """Return the plan's own length, or longer where the last answer came after it: late answers lower the rate."""
    assert step.sent is not None, "a step that was played was sent"
    planned = step.sent.sent + step.sent.held_back
    planned_ns = planned * NS_PER_SECOND // step.rate_per_second
    return max(planned_ns, step.last_acknowledged_at_ns - step.sent.started_ns)


def why_saturated(step: Step) -> str | None:
    """Say why a step was more than is carried: too few came through, or too late. None where it was carried."""
    wanted = step.rate_per_second * _took_ns(step) * CARRIED_PERCENT  # not by the rate, which is rounded
    if len(step.acknowledged_ns) * NS_PER_SECOND * 100 < wanted:
        return f"less than {CARRIED_PERCENT} % acknowledged"
    for what, values in (("acknowledgement", step.acknowledged_ns), ("order to trade", step.traded_ns)):
        latencies = summarise(values)
        if latencies is not None and latencies.p99_ns > SATURATED_P99_MS * NS_PER_MS:
            return f"{what} p99 above {SATURATED_P99_MS} ms"
    return None


def run(options: Options) -> Result:
    """Measure the fixed rates, the ramp and half of what it found."""
    result = Result(name="orders", title="order acknowledged (HTTP) and order to trade (WebSocket), everything running")
    with temporary_home() as home, started(home, write_manifest(home, long_day=True)) as session:
        session.wait_phase("Open")
        wallet = Client(session.url_of("broker/wallet"), headers=session.internal_headers())
        asyncio.run(_measure(session, wallet, result, quick=options.quick))
    return result


async def _measure(session: UpSession, wallet: Client, result: Result, *, quick: bool) -> None:
    seconds, ramp_seconds = (5, 5) if quick else (FIXED_SECONDS, RAMP_SECONDS)
    key = session.folder.session_key
    async with open_traffic(session.record().gateway_url, key, wallet) as traffic:
        idle = await _idle(session, 3 if quick else IDLE_SECONDS)
        await traffic.play(RAMP_RATES[0], WARM_UP_SECONDS)
        carried, last = 0, None
        for rate in RAMP_RATES[:3] if quick else RAMP_RATES:
            last = await _step(session, traffic, rate, ramp_seconds, idle)
            _add(result, f"ramp {rate}/s", last)
            if last.why_saturated:
                await _settle(traffic, result)
                break
            carried = rate
        assert last is not None, "the ramp has steps"
        half = await _step(session, traffic, max(1, carried // 2), seconds, idle)
        _add(result, f"half, {max(1, carried // 2)}/s", half)
        for rate in FIXED_RATES:
            fixed = await _step(session, traffic, rate, seconds, idle)
            _add(result, f"{rate}/s", fixed)
            if fixed.why_saturated:
                await _settle(traffic, result)
        if traffic.disconnections:
            result.notes.append(f"{traffic.disconnections} public reads or connections failed and were made again")
    _conclude(result, carried, last, half)


async def _idle(session: UpSession, seconds: int) -> CpuSpan:
    """Look at the processors while nobody but the session's own participants sends anything."""
    named = await asyncio.to_thread(session.programs)
    before, machine_before_ms, began_ns = cpu_ms_by_program(session, named), busy_ms(), time.monotonic_ns()
    await asyncio.sleep(seconds)
    machine_ms, took_ms = busy_ms() - machine_before_ms, (time.monotonic_ns() - began_ns) // NS_PER_MS
    return cpu_span(before, cpu_ms_by_program(session, named), took_ms=took_ms, machine_ms=machine_ms)


async def _settle(traffic: Traffic, result: Result) -> None:
    """Wait until a low rate is carried again after an overload, and note how long that took, in whole attempts."""
    began_s = time.monotonic()
    while True:
        waited_s = round(time.monotonic() - began_s)
        if why_saturated(await traffic.play(SETTLE_RATE, SETTLE_SECONDS)) is None:
            result.notes.append(f"carried {SETTLE_RATE}/s again {waited_s} s after the overload")
            return
        if waited_s > SETTLE_WITHIN_S:
            result.notes.append(f"DID NOT carry {SETTLE_RATE}/s again {waited_s} s after the overload")
            return


async def _step(session: UpSession, traffic: Traffic, rate_per_second: int, seconds: int, idle: CpuSpan) -> Measured:
    named = await asyncio.to_thread(session.programs)
    before, machine_before_ms, began_ns = cpu_ms_by_program(session, named), busy_ms(), time.monotonic_ns()
    spans: list[CpuSpan] = []

    def answered() -> None:
        machine_ms, took_ms = busy_ms() - machine_before_ms, (time.monotonic_ns() - began_ns) // NS_PER_MS
        spans.append(cpu_span(before, cpu_ms_by_program(session, named), took_ms=took_ms, machine_ms=machine_ms))

    step = await traffic.play(rate_per_second, seconds, answered)
    return Measured(step=step, cpu=spans[0], idle=idle)


def _add(result: Result, what: str, measured: Measured) -> None:
    step, sent = measured.step, measured.step.sent
    assert sent is not None, "a step that was played was sent"
    acknowledged, traded, public = (
        summarise(values) for values in (step.acknowledged_ns, step.traded_ns, step.public_ns)
    )
    result.add_row(
        step=what,
        orders=sent.sent,
        achieved_per_s=measured.achieved_per_second,
        ack_p50_ms=p50_text(acknowledged),
        ack_p99_ms=p99_text(acknowledged),
        trades=len(step.traded_ns),
        trade_p50_ms=p50_text(traded),
        trade_p99_ms=p99_text(traded),
        public_p50_ms=p50_text(public),
        public_p99_ms=p99_text(public),
        cpu_ms_per_order=measured.cpu_ms_per_order,
        others_cpu_percent=measured.cpu.percent_of_core(measured.cpu.others_ms),
    )
    told_now = f"{what}: {measured.achieved_per_second}/s acknowledged, p99 {p99_text(acknowledged)} ms"
    print(f"bench orders: {told_now}", file=sys.stderr, flush=True)
    if measured.why_saturated:
        result.notes.append(f"{what}: saturated, {measured.why_saturated}")
    wrong = {outcome: count for outcome, count in step.outcomes.items() if outcome != "acknowledged"}
    if wrong or sent.held_back or step.unanswered:
        told = [f"{count} {outcome}" for outcome, count in sorted(wrong.items())]
        told += [f"{sent.held_back} held back by the client"] if sent.held_back else []
        told += [f"{len(step.unanswered)} not heard of again"] if step.unanswered else []
        result.notes.append(f"{what}: {', '.join(told)}")


def _conclude(result: Result, carried: int, last: Measured, half: Measured) -> None:
    offered = last.step.rate_per_second
    if last.why_saturated:
        result.notes.append(
            f"carries {carried} orders/s, saturates at {offered}/s ({last.why_saturated}); "
            f"first to saturate: {first_to_saturate(last.cpu, os.cpu_count() or 1)}"
        )
    else:
        result.notes.append(f"not saturated at {carried} orders/s, the highest rate offered")
    for what, values, aim_ms in (
        ("acknowledged", half.step.acknowledged_ns, AIM_ACK_P99_MS),
        ("order to trade", half.step.traded_ns, AIM_TRADE_P99_MS),
    ):
        latencies = summarise(values)
        met = latencies is not None and latencies.p99_ns < aim_ms * NS_PER_MS
        result.notes.append(
            f"at half of it ({half.step.rate_per_second}/s) {what} p99 {p99_text(latencies)} ms, "
            f"aim below {aim_ms} ms: {'met' if met else 'MISSED'}"
        )
    table = result.add_table(f"processor, percent of one core: without orders, and over the ramp's {offered} orders/s")
    idle_ms = {share.name: share.used_ms for share in last.idle.shares}
    for share in last.cpu.shares:
        without = last.idle.percent_of_core(idle_ms.get(share.name, 0))
        table.add_row(program=share.name, without=without, percent=last.cpu.percent_of_core(share.used_ms))
    for name, pick in (("all of these", _ours_percent), ("others on this machine", _others_percent)):
        table.add_row(program=name, without=pick(last.idle), percent=pick(last.cpu))


def _ours_percent(span: CpuSpan) -> int:
    return span.percent_of_core(sum(share.used_ms for share in span.shares))


def _others_percent(span: CpuSpan) -> int:
    return span.percent_of_core(span.others_ms)
