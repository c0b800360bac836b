"""Commands a second through the matching engine alone, against a naive book in the same run.

`python -m bench.engine [COMMANDS]` plays the recorded neutral flow (MYBROKER_SHARED_DIR, or `shared` beside the
clone). The baseline is NaiveLevels below: the least Python that matches this flow, with no events, numbering, undo,
phases, checks or hash; the ratio to it says what the rules cost, whatever the machine.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from bisect import insort
from pathlib import Path

from mybroker.contracts.commands import (
    CancelOrder,
    Command,
    ConfigureSession,
    InstrumentConfig,
    PlaceOrder,
    ReplaceOrder,
    SessionConfig,
    SetPhase,
    TakeOver,
)
from mybroker.domain.order import SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine
from tests.exchange.recorded_flow import TICKER, commands_of

COMMANDS_DEFAULT = 200_000


class NaiveLevels:
    """The baseline: a dict of price levels, a sorted list of prices a side, and nothing else."""

    def __init__(self) -> None:
        self.levels: tuple[dict[int, dict[str, list[int]]], ...] = ({}, {})
        self.prices: tuple[list[int], ...] = ([], [])
        self.where: dict[str, tuple[int, int]] = {}
        self.trades = 0

    def place(self, side: int, order_id: str, price: int, left: int, rests: bool) -> None:
        """Match, then rest; prices are signed so that the best is the greatest on both sides."""
        other, others = self.levels[1 - side], self.prices[1 - side]
        while left and others and price >= -others[-1]:
            level = other[others[-1]]
            maker_id, maker = next(iter(level.items()))
            shares = min(left, maker[0])
            left -= shares
            maker[0] -= shares
            self.trades += 1
            if not maker[0]:
                self.take_out(maker_id)
        if left and rests:
            if price not in self.levels[side]:
                self.levels[side][price] = {}
                insort(self.prices[side], price)
            self.levels[side][price][order_id] = [left]
            self.where[order_id] = (side, price)

    def take_out(self, order_id: str) -> int:
        """Remove an order; return what was left of it."""
        side, price = self.where.pop(order_id)
        level = self.levels[side][price]
        left = level.pop(order_id)[0]
        if not level:
            del self.levels[side][price]
            self.prices[side].remove(price)
        return left


def run_naive(commands: list[Command]) -> NaiveLevels:
    """Play the flow on the baseline."""
    book = NaiveLevels()
    totals: dict[str, int] = {}
    for command in commands:
        match command:
            case PlaceOrder():
                side = 0 if command.side is Side.BUY else 1
                price = command.price_ticks or 0
                totals[command.order_id] = command.quantity_shares
                rests = command.time_in_force is TimeInForce.DAY
                book.place(side, command.order_id, -price if side else price, command.quantity_shares, rests)
            case CancelOrder():
                book.take_out(command.order_id)
            case ReplaceOrder() if command.price_ticks is not None:
                side = book.where[command.order_id][0]
                price = -command.price_ticks if side else command.price_ticks
                book.place(side, command.order_id, price, book.take_out(command.order_id), True)
            case ReplaceOrder():
                less = totals[command.order_id] - (command.quantity_shares or 0)
                totals[command.order_id] -= less
                side, price = book.where[command.order_id]
                resting = book.levels[side][price][command.order_id]
                resting[0] -= less
                if resting[0] <= 0:
                    book.take_out(command.order_id)
    return book


def run_engine(commands: list[Command]) -> tuple[Engine, int]:
    """Play the flow on the engine; return it with the number of its events."""
    engine = Engine()
    config = SessionConfig(
        session="bench",
        market="equities",
        shard=0,
        business_date="2026-11-23",
        instruments=(InstrumentConfig(ticker=TICKER, asset=TICKER, reference_price_ticks=30_750),),
        schedule=(),
        rules=Rules(lot=1, bands=False, stp=SelfTradePrevention.NONE),
    )
    engine.apply(0, TakeOver(owner="bench", engine_version=ENGINE_VERSION))
    engine.apply(1, ConfigureSession(epoch=0, revision=1, config=config))
    engine.apply(2, SetPhase(phase=Phase.OPEN))
    events = 0
    for offset, command in enumerate(commands, start=3):
        events += len(engine.apply(offset, command))
    return engine, events


def main() -> int:
    """Measure and print one line a figure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COMMANDS_DEFAULT
    root = Path(__file__).resolve().parent.parent.parent
    folder = Path(os.environ.get("MYBROKER_SHARED_DIR") or root / "shared") / "data" / "flow"
    if not folder.is_dir():
        print(f"bench engine: expected the recorded flow in {folder}")
        return 1
    commands = list(commands_of(folder, count))
    gc.freeze()
    start_ns = time.process_time_ns()
    naive = run_naive(commands)
    naive_ns = time.process_time_ns() - start_ns
    start_ns = time.process_time_ns()
    engine, events = run_engine(commands)
    engine_ns = time.process_time_ns() - start_ns
    trades = engine.book(TICKER).trades
    assert trades == naive.trades, f"trades: expected {naive.trades} as the baseline has, was {trades}"
    print(f"commands            {count}")
    print(f"trades, events      {trades}, {events}")
    print(f"naive book          {count * 1_000_000_000 // naive_ns} commands/s")
    print(f"engine              {count * 1_000_000_000 // engine_ns} commands/s")
    print(f"engine / naive      {naive_ns / engine_ns:.2f}")
    print(f"state hash          {engine.state_hash()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
