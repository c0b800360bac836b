"""The commands that the engine and the matcher are measured with: the recorded flow, or a seeded one of ours.

The recorded flow is real in its mix and is not part of the repository (MYBROKER_SHARED_DIR, or `shared` beside the
clone). The seeded one has limit orders, cancels and price changes of live orders around one price; its figures are
not to be compared with the other's, so every result says which one it was.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from bench.naive_book import NaiveBook
from mybroker.contracts.commands import (
    CancelOrder,
    Command,
    InstrumentConfig,
    PlaceOrder,
    ReplaceOrder,
    SessionConfig,
)
from mybroker.domain.order import SelfTradePrevention, Side, TimeInForce
from mybroker.domain.rules import Rules
from mybroker.testing.recorded_flow import PARTICIPANT, TICKER, commands_of

SEED = 11
PRICE_TICKS = 30_750
SPREAD_TICKS = 40
APART_TICKS = 20
"""Buyers ask for less and sellers for more by so much, on average: a fair part of the orders rests."""

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Commands for one open book, and where they come from."""

    source: str
    commands: list[Command]


def load_flow(count: int) -> Flow:
    """Return the first `count` commands of the recorded flow, or as many seeded ones where that is not here."""
    folder = Path(os.environ.get("MYBROKER_SHARED_DIR") or ROOT.parent / "shared") / "data" / "flow"
    if folder.is_dir():
        commands = list(commands_of(folder, count))
        if len(commands) == count:
            return Flow(source="recorded", commands=commands)
    return Flow(source="seeded", commands=seeded_flow(SEED, count))


def seeded_flow(seed: int, count: int) -> list[Command]:
    """Return orders, cancels and price changes; every cancel and change is of an order that is live then."""
    rng = random.Random(seed)
    book = NaiveBook()
    live: list[str] = []
    commands: list[Command] = []
    while len(commands) < count:
        command: Command
        what = rng.random()
        if what < 0.55 or not live:
            command = _order(rng, f"s{len(commands)}")
            live.append(command.order_id)
        else:
            index = rng.randrange(len(live))
            live[index], live[-1] = live[-1], live[index]
            order_id = live.pop()
            if order_id not in book.where:
                continue
            if what < 0.85:
                command = CancelOrder(participant=PARTICIPANT, order_id=order_id)
            else:
                side = (Side.BUY, Side.SELL)[book.where[order_id][0]]
                command = ReplaceOrder(participant=PARTICIPANT, order_id=order_id, price_ticks=_price(rng, side))
                live.append(order_id)
        book.play((command,))
        commands.append(command)
    return commands


def _price(rng: random.Random, side: Side) -> int:
    middle_ticks = PRICE_TICKS + (-APART_TICKS if side is Side.BUY else APART_TICKS)
    return middle_ticks + rng.randint(-SPREAD_TICKS, SPREAD_TICKS)


def _order(rng: random.Random, order_id: str) -> PlaceOrder:
    side = rng.choice((Side.BUY, Side.SELL))
    return PlaceOrder(
        participant=PARTICIPANT,
        account=f"a{rng.randrange(50)}",
        order_id=order_id,
        ticker=TICKER,
        side=side,
        price_ticks=_price(rng, side),
        quantity_shares=rng.randint(1, 20),
        time_in_force=TimeInForce.IOC if rng.random() < 0.1 else TimeInForce.DAY,
        revision=None,
    )


def flow_config(session: str) -> SessionConfig:
    """Return the market both flows are for: one instrument, lots of one share, no bands."""
    return SessionConfig(
        session=session,
        market="equities",
        shard=0,
        business_date="2026-11-23",
        instruments=(InstrumentConfig(ticker=TICKER, asset=TICKER, reference_price_ticks=PRICE_TICKS),),
        schedule=(),
        rules=Rules(lot=1, bands=False, stp=SelfTradePrevention.NONE),
    )
