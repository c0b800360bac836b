"""Commands a second through the matching engine alone, against a naive book in the same run.

The time is this process's own CPU time, so that what else runs on the machine matters little. Both books must come to
the same number of trades.
"""

from __future__ import annotations

import gc
import time

from bench.flow import flow_config, load_flow
from bench.naive_book import NaiveBook
from bench.report import Options, Result, per_second
from mybroker.contracts.commands import Command, ConfigureSession, SetPhase, TakeOver
from mybroker.domain.phase import Phase
from mybroker.testing.recorded_flow import TICKER
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine

COMMANDS = 200_000
COMMANDS_QUICK = 20_000


def open_engine() -> Engine:
    """Return an engine whose one market is open; the next command has offset 3."""
    engine = Engine()
    engine.apply(0, TakeOver(owner="bench", engine_version=ENGINE_VERSION))
    engine.apply(1, ConfigureSession(epoch=0, revision=1, config=flow_config("bench")))
    engine.apply(2, SetPhase(phase=Phase.OPEN))
    return engine


def play(engine: Engine, commands: list[Command]) -> int:
    """Apply the commands; return the number of their events."""
    events = 0
    for offset, command in enumerate(commands, start=3):
        events += len(engine.apply(offset, command))
    return events


def run(options: Options) -> Result:
    """Measure both books on the same commands."""
    flow = load_flow(COMMANDS_QUICK if options.quick else COMMANDS)
    count = len(flow.commands)
    gc.freeze()
    naive = NaiveBook()
    start_ns = time.process_time_ns()
    naive.play(flow.commands)
    naive_ns = time.process_time_ns() - start_ns
    engine = open_engine()
    start_ns = time.process_time_ns()
    events = play(engine, flow.commands)
    engine_ns = time.process_time_ns() - start_ns
    gc.unfreeze()
    trades = engine.book(TICKER).trades
    assert trades == naive.trades, f"trades: expected {naive.trades} as the baseline has, was {trades}"
    result = Result(name="engine", title=f"the engine alone, {count:,} commands of the {flow.source} flow")
    result.add_row(what="naive book (baseline)", commands_per_second=per_second(count, naive_ns), ratio="1.00")
    engine_rate = per_second(count, engine_ns)
    result.add_row(what="engine", commands_per_second=engine_rate, ratio=f"{naive_ns / engine_ns:.2f}")
    result.notes.append(f"{trades:,} trades, {events:,} events, state hash {engine.state_hash()}")
    return result
