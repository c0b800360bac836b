"""The recorded neutral flow of `shared/data/flow` as commands of ours; for its test and for the benches.

A move gives a new price and loses its place; a reduce keeps it, down to nothing; a FOKB order of this flow fills
whole at any price, so it is an IOC order at the extreme.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mybroker.contracts.commands import CancelOrder, Command, PlaceOrder, ReplaceOrder
from mybroker.domain.order import Side, TimeInForce

PARTICIPANT = "P"
TICKER = "FLOW3"
_EXTREME = {"B": 38_439, "S": 23_069}
_SIDE = {"B": Side.BUY, "S": Side.SELL}


def commands_of(folder: Path, count: int) -> Iterator[Command]:
    """Yield the first commands of the flow; totals follow from the sizes and what a reduce took."""
    totals: dict[str, int] = {}
    with gzip.open(folder / "flow.csv.gz", "rt", newline="") as lines:
        for op, order_id, uid, side, price, size, new_price, kind in islice(csv.reader(lines), 1, count + 1):
            if op == "P":
                totals[order_id] = int(size)
                yield PlaceOrder(
                    participant=PARTICIPANT,
                    account=uid,
                    order_id=order_id,
                    ticker=TICKER,
                    side=_SIDE[side],
                    price_ticks=_EXTREME[side] if kind == "FOKB" else int(price),
                    quantity_shares=int(size),
                    time_in_force=TimeInForce.DAY if kind == "GTC" else TimeInForce.IOC,
                    revision=None,
                )
            elif op == "M":
                yield ReplaceOrder(participant=PARTICIPANT, order_id=order_id, price_ticks=int(new_price))
            elif op == "R" and totals[order_id] > int(size):
                totals[order_id] -= int(size)
                yield ReplaceOrder(participant=PARTICIPANT, order_id=order_id, quantity_shares=totals[order_id])
            else:
                yield CancelOrder(participant=PARTICIPANT, order_id=order_id)


def trades_of(folder: Path, count: int) -> list[tuple[int, str, str, int, int]]:
    """Return the flow's own trades up to a command: (command, taker, maker, price, size)."""
    trades = []
    with gzip.open(folder / "trades.csv.gz", "rt", newline="") as lines:
        for index, taker, maker, _, price, size in islice(csv.reader(lines), 1, None):
            if int(index) >= count:
                break
            trades.append((int(index), taker, maker, int(price), int(size)))
    return trades
