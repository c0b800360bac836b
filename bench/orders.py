"""Orders a second over HTTP with everything running: acknowledged, traded, and the rate at which the API saturates.

One session as `mybroker up` starts it, with its makers and noise traders; this client shares the machine with it.
Rates are open-loop (see `open_loop`). A step is saturated where less than CARRIED_PERCENT of the offered rate was
acknowledged or the 99th percentile is above SATURATED_P99_MS. The saturation rate is the highest rate that was
acknowledged in any step.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from bench.latency import p50_text, p99_text, summarise
from bench.machine import CpuSpan, busy_ms, cpu_span, first_to_saturate
from bench.report import NS_PER_SECOND, Options, Result
from bench.session import UpSession, cpu_ms_by_program, started, temporary_home, write_manifest
from bench.traffic import Step, Traffic, open_traffic
from mybroker.cli.client import Client

FIXED_RATES = (50, 200)
RAMP_RATES = (100, 150, 200, 300, 400, 600, 800, 1_200)
FIXED_SECONDS = 20
RAMP_SECONDS = 10
WARM_UP_SECONDS = 5
SETTLE_RATE = 20
SETTLE_SECONDS = 2
SETTLE_WITHIN_S = 60
CARRIED_PERCENT = 95
SATURATED_P99_MS = 1_000
AIM_ACK_P99_MS = 50
AIM_TRADE_P99_MS = 100
PROGRAMS_SHOWN = 10
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step with what the processors did meanwhile."""

    step: Step
    cpu: CpuSpan

    @property
    def achieved_per_second(self) -> int:
        """Return the rate of acknowledgements, from the first due instant to the last answer."""
        return achieved_per_second(self.step)

    @property
    def saturated(self) -> bool:
        """Say whether the offered rate was more than the API carries."""
        return is_saturated(self.step)


def achieved_per_second(step: Step) -> int:
    """Return the rate of acknowledgements over a step.

    The time is the plan's own length, and longer where the last answer came after it: late answers lower the rate.
    """
    assert step.sent is not None, "a step that was played was sent"
    count = len(step.acknowledged_ns)
    planned = step.sent.sent + step.sent.held_back
    planned_ns = planned * NS_PER_SECOND // step.rate_per_second
    took_ns = max(planned_ns, step.last_acknowledged_at_ns - step.sent.started_ns)
    return count * NS_PER_SECOND // took_ns if took_ns else 0


def is_saturated(step: Step) -> bool:
    """Say whether less came through than was offered, or too late."""
    latencies = summarise(step.acknowledged_ns)
    too_late = latencies is None or latencies.p99_ns > SATURATED_P99_MS * NS_PER_MS
    return too_late or achieved_per_second(step) * 100 < step.rate_per_second * CARRIED_PERCENT


def run(options: Options) -> Result:
    """Measure the fixed rates, the ramp and half of what it found."""
    result = Result(name="orders", title="order acknowledged (HTTP) and order to trade (WebSocket), everything running")
    with temporary_home() as home, started(home, write_manifest(home, long_day=True)) as session:
        session.wait_phase("Open")
        wallet = Client(session.url_of("broker/wallet"), headers=session.internal_headers())
        asyncio.run(_measure(session, wallet, result, quick=options.quick))
    return result


async def _measure(session: UpSession, wallet: Client, result: Result, *, quick: bool) -> None:
    seconds = 5 if quick else FIXED_SECONDS
    key = session.folder.session_key
    async with open_traffic(session.record().gateway_url, key, wallet) as traffic:
        await traffic.play(FIXED_RATES[0], WARM_UP_SECONDS)
        for rate in FIXED_RATES:
            _add(result, f"{rate}/s", await _step(session, traffic, rate, seconds))
        best, last = 0, None
        for rate in RAMP_RATES[:3] if quick else RAMP_RATES:
            last = await _step(session, traffic, rate, 5 if quick else RAMP_SECONDS)
            _add(result, f"ramp {rate}/s{' saturated' if last.saturated else ''}", last)
            best = max(best, last.achieved_per_second)
            if last.saturated:
                break
        assert last is not None, "the ramp has steps"
        if last.saturated:
            result.notes.append(f"carried {SETTLE_RATE}/s again {await _settle(traffic)} s after the overload")
        half = await _step(session, traffic, max(1, best // 2), seconds)
        _add(result, "half of saturation", half)
    _conclude(result, best, last, half)


async def _settle(traffic: Traffic) -> int:
    """Wait until a low rate is carried again after an overload; return the seconds that took, in whole attempts."""
    began_s = time.monotonic()
    while True:
        waited_s = round(time.monotonic() - began_s)
        if not is_saturated(await traffic.play(SETTLE_RATE, SETTLE_SECONDS)):
            return waited_s
        if waited_s > SETTLE_WITHIN_S:
            raise TimeoutError(f"{SETTLE_RATE} orders/s were not carried {waited_s} s after the overload")


async def _step(session: UpSession, traffic: Traffic, rate_per_second: int, seconds: int) -> Measured:
    named = await asyncio.to_thread(session.programs)
    before, machine_before_ms, began_ns = cpu_ms_by_program(session, named), busy_ms(), time.monotonic_ns()
    spans: list[CpuSpan] = []

    def answered() -> None:
        machine_ms, took_ms = busy_ms() - machine_before_ms, (time.monotonic_ns() - began_ns) // NS_PER_MS
        spans.append(cpu_span(before, cpu_ms_by_program(session, named), took_ms=took_ms, machine_ms=machine_ms))

    step = await traffic.play(rate_per_second, seconds, answered)
    return Measured(step=step, cpu=spans[0])


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
        others_cpu_percent=measured.cpu.percent_of_core(measured.cpu.others_ms),
    )
    wrong = {outcome: count for outcome, count in step.outcomes.items() if outcome != "acknowledged"}
    if wrong or sent.held_back or step.unanswered:
        told = [f"{count} {outcome}" for outcome, count in sorted(wrong.items())]
        told += [f"{sent.held_back} held back by the client"] if sent.held_back else []
        told += [f"{len(step.unanswered)} not heard of again"] if step.unanswered else []
        result.notes.append(f"{what}: {', '.join(told)}")


def _conclude(result: Result, best: int, last: Measured, half: Measured) -> None:
    cores = os.cpu_count() or 1
    if last.saturated:
        result.notes.append(
            f"saturates at {best} orders/s (offered {last.step.rate_per_second}/s); "
            f"first to saturate: {first_to_saturate(last.cpu, cores)}"
        )
    else:
        result.notes.append(f"not saturated at {best} orders/s, the highest rate offered")
    for what, values, aim_ms in (
        ("acknowledged", half.step.acknowledged_ns, AIM_ACK_P99_MS),
        ("order to trade", half.step.traded_ns, AIM_TRADE_P99_MS),
    ):
        latencies = summarise(values)
        met = latencies is not None and latencies.p99_ns < aim_ms * NS_PER_MS
        shown = p99_text(latencies)
        result.notes.append(
            f"at half of it ({half.step.rate_per_second}/s) {what} p99 {shown} ms, "
            f"aim below {aim_ms} ms: {'met' if met else 'MISSED'}"
        )
    table = result.add_table(f"processor over the step of {last.step.rate_per_second} orders/s, percent of one core")
    for share in last.cpu.shares[:PROGRAMS_SHOWN]:
        table.add_row(program=share.name, percent=last.cpu.percent_of_core(share.used_ms))
    table.add_row(program="others on this machine", percent=last.cpu.percent_of_core(last.cpu.others_ms))
