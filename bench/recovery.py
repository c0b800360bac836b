"""How long a market stands still when its matcher is killed: SIGKILL under load, ten times.

Counted from the kill to the next frame in the event log and to the next trade in it, as a reader of the log hears
them. What was on its way to the log at the kill lands within IN_FLIGHT_LANDS_S; only what comes later and carries a
new number is the successor's. Kills are PAUSE_S apart, so that the runner takes
none for a crash loop, whose restarts it delays.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence

from bench.latency import ms_text, summarise
from bench.log_reader import Heard, LogReader
from bench.report import Options, Result
from bench.session import UpSession, started, temporary_home, write_manifest
from bench.traffic import Traffic, open_traffic
from mybroker.cli.client import Client
from mybroker.contracts.events import TradeExecuted
from mybroker.contracts.frames import decode_frame_head, decode_frame_part
from mybroker.contracts.topics import events_topic
from mybroker.plan.restarts import STABLE_RUN_MS

KILLS = 10
KILLS_QUICK = 2
RATE_PER_SECOND = 50
IN_FLIGHT_LANDS_S = 0.1
PAUSE_S = STABLE_RUN_MS // 1_000 + 1
TRADE_WITHIN_S = 60.0
LOAD_SECONDS_MAX = 300
LOOK_EVERY_S = 0.005
MARKET = "equities"
AIM_MS = 2_000
NS_PER_MS = 1_000_000


def run(options: Options) -> Result:
    """Kill and measure."""
    result = Result(name="recovery", title=f"matcher killed (SIGKILL) under {RATE_PER_SECOND} orders/s")
    with temporary_home() as home, started(home, write_manifest(home, long_day=True)) as session:
        session.wait_phase("Open")
        wallet = Client(session.url_of("broker/wallet"), headers=session.internal_headers())
        kafka_url = session.record().engines["MYBROKER_KAFKA_URL"]
        with LogReader(kafka_url, events_topic("local", "bench", MARKET)) as reader:
            asyncio.run(_kill_repeatedly(session, wallet, reader, KILLS_QUICK if options.quick else KILLS, result))
    return result


async def _kill_repeatedly(session: UpSession, wallet: Client, reader: LogReader, kills: int, result: Result) -> None:
    frames_ns: list[int] = []
    trades_ns: list[int] = []
    async with open_traffic(session.record().gateway_url, session.folder.session_key, wallet) as traffic:
        load = asyncio.create_task(_load(traffic))
        try:
            for _ in range(kills):
                await asyncio.sleep(PAUSE_S)
                if load.done():
                    load.result()
                frame_ns, trade_ns = await _kill_once(session, reader)
                frames_ns.append(frame_ns)
                trades_ns.append(trade_ns)
                print(f"bench recovery: traded {ms_text(trade_ns)} ms after the kill", file=sys.stderr, flush=True)
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
    for what, values in (("kill to the next frame", frames_ns), ("kill to the next trade", trades_ns)):
        figures = summarise(values)
        assert figures is not None, "there was a kill"
        result.add_row(
            what=what, kills=figures.count, median_ms=ms_text(figures.p50_ns), max_ms=ms_text(figures.max_ns)
        )
    within = sum(value <= AIM_MS * NS_PER_MS for value in trades_ns)
    result.notes.append(f"aim: trading again within {AIM_MS / 1_000:g} s: {within} of {len(trades_ns)} kills")


async def _load(traffic: Traffic) -> None:
    await traffic.play(RATE_PER_SECOND, LOAD_SECONDS_MAX)


async def _kill_once(session: UpSession, reader: LogReader) -> tuple[int, int]:
    named = await asyncio.to_thread(session.programs)
    pid = next(pid for pid, name in named.items() if name.startswith(f"matcher/{MARKET}"))
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(IN_FLIGHT_LANDS_S)
    heard = len(reader.records)
    highest_seq = max((decode_frame_head(record.value).seq for record in reader.records[:heard]), default=0)
    give_up_s = time.monotonic() + TRADE_WITHIN_S
    while True:
        frame_ns, trade_ns = next_frame_and_trade(reader.records[heard:], highest_seq)
        if frame_ns is not None and trade_ns is not None:
            return frame_ns - killed_ns, trade_ns - killed_ns
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"no trade within {TRADE_WITHIN_S:g} s of the kill: {session.tail()}")
        await asyncio.sleep(LOOK_EVERY_S)


def next_frame_and_trade(records: Sequence[Heard], highest_seq: int) -> tuple[int | None, int | None]:
    """Return when the first frame above a number came, and the first of those with a trade."""
    frame_ns = None
    for record in records:
        part = decode_frame_part(record.value)
        if part.frame.seq <= highest_seq:
            continue
        frame_ns = record.heard_ns if frame_ns is None else frame_ns
        if any(isinstance(event, TradeExecuted) for event in part.frame.events):
            return frame_ns, record.heard_ns
    return frame_ns, None
