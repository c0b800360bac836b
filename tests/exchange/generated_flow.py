"""Seeded flows of commands for property tests: a few participants around one price, every kind of command."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from mybroker.contracts import commands as c
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase

CONTINUOUS_TIFS = (TimeInForce.DAY,) * 6 + (TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTC)
NEAR_PRICES = (2990, 3010)
WIDE_PRICES = (975, 1025)
"""Around a reference of 10.00, so that the auction bands of index shares (1.5 %) are met."""
EVERY_TIF = (*TimeInForce, *(TimeInForce.DAY,) * 8)


def continuous_flow(seed: int, length: int) -> Iterator[c.Command]:
    """Yield orders, cancels and replaces for one open book; ids are known, old, foreign and made up."""
    rng = random.Random(seed)
    placed: list[tuple[str, str]] = []
    for number in range(length):
        what = rng.random()
        if what < 0.6 or not placed:
            participant = rng.choice(("P1", "P2", "P3"))
            placed.append((participant, f"o{number}"))
            order = _order(rng, participant, f"o{number}", rng.choice(CONTINUOUS_TIFS))
            yield _stop_or_iceberg(rng, order)
            continue
        participant, order_id = rng.choice(placed[-30:])
        if rng.random() < 0.05:
            participant = "P9"
        if what < 0.75:
            yield c.CancelOrder(participant=participant, order_id=order_id)
        elif what < 0.97:
            yield c.ReplaceOrder(
                participant=participant,
                order_id=order_id,
                price_ticks=rng.choice((None, rng.randint(2990, 3010))),
                quantity_shares=rng.choice((None, rng.randint(1, 12) * 10)),
            )
        else:
            yield _order(rng, participant, order_id, TimeInForce.DAY)


def _order(
    rng: random.Random, participant: str, order_id: str, tif: TimeInForce, prices: tuple[int, int] = NEAR_PRICES
) -> c.PlaceOrder:
    market = rng.random() < 0.1
    return c.PlaceOrder(
        participant=participant,
        account=rng.choice("ABCDEF"),
        order_id=order_id,
        ticker="PETR4",
        side=rng.choice((Side.BUY, Side.SELL)),
        type=OrderType.MARKET if market else OrderType.LIMIT,
        price_ticks=None if market else rng.randint(*prices),
        protection_price_ticks=rng.choice((None, rng.randint(*prices))) if market else None,
        quantity_shares=rng.randint(1, 12) * 10,
        time_in_force=tif,
        self_trade_prevention=rng.choice((None, *SelfTradePrevention)),
        revision=None,
    )


def _stop_or_iceberg(rng: random.Random, plain: c.PlaceOrder) -> c.PlaceOrder:
    """Make a stop of one order in eight, an iceberg of another."""
    what = rng.random()
    if what < 0.125:
        limit = None if rng.random() < 0.5 else rng.randint(*NEAR_PRICES)
        return replace(
            plain,
            type=OrderType.STOP if limit is None else OrderType.STOP_LIMIT,
            price_ticks=limit,
            stop_price_ticks=rng.randint(*NEAR_PRICES),
            time_in_force=rng.choice((TimeInForce.DAY, TimeInForce.GTC)),
        )
    if what < 0.25 and plain.price_ticks is not None:
        return replace(plain, display_quantity_shares=min(10 * rng.randint(1, 3), plain.quantity_shares))
    return plain


def whole_flow(seed: int, length: int) -> Iterator[c.Command]:
    """Yield everything a log may hold after its start: phases, halts, mass cancels, logons, numbered commands, junk."""
    rng = random.Random(seed)
    tickers = ("PETR4", "VALE3", "NONE3")
    placed: list[tuple[str, str, int]] = []
    at_ns = 1
    for number in range(length):
        what = rng.random()
        if what < 0.55 or not placed:
            participant = rng.choice(("P1", "P2", "P3"))
            order_id = f"o{number}"
            placed.append((participant, order_id, 1))
            yield _numbered(rng, participant, order_id, rng.choice(tickers))
        elif what < 0.85:
            index = rng.randrange(max(0, len(placed) - 25), len(placed))
            participant, order_id, revision = placed[index]
            placed[index] = (participant, order_id, revision + 1)
            yield _amendment(rng, participant, order_id, revision + rng.choice((0, 1, 1, 1)))
        elif what < 0.95:
            at_ns += rng.randint(0, 40) * 1_000_000_000
            yield c.Tick(epoch=rng.choice((1, 1, 1, 0)), at_ns=at_ns)
        else:
            yield _supervision(rng, number)


def _numbered(rng: random.Random, participant: str, order_id: str, ticker: str) -> c.PlaceOrder:
    plain = _order(rng, participant, order_id, rng.choice(EVERY_TIF), WIDE_PRICES)
    kind = rng.choice((plain.type,) * 12 + tuple(OrderType))
    stop = rng.randint(*WIDE_PRICES) if kind in {OrderType.STOP, OrderType.STOP_LIMIT} else None
    return c.PlaceOrder(
        participant=participant,
        account=plain.account,
        order_id=order_id,
        ticker=ticker,
        side=plain.side,
        type=kind,
        price_ticks=None if kind in {OrderType.STOP, OrderType.MARKET} else plain.price_ticks,
        stop_price_ticks=stop,
        protection_price_ticks=plain.protection_price_ticks,
        quantity_shares=rng.choice((plain.quantity_shares,) * 30 + (0, 7)),
        min_quantity_shares=rng.choice((None,) * 20 + (10,)),
        display_quantity_shares=rng.choice((None,) * 8 + (10, 20)),
        time_in_force=plain.time_in_force,
        expires="2026-11-24" if plain.time_in_force is TimeInForce.GTD else None,
        self_trade_prevention=plain.self_trade_prevention,
        revision=1,
    )


def _amendment(rng: random.Random, participant: str, order_id: str, revision: int) -> c.Command:
    if rng.random() < 0.4:
        return c.CancelOrder(participant=participant, order_id=order_id, revision=revision)
    return c.ReplaceOrder(
        participant=participant,
        order_id=order_id,
        revision=revision,
        price_ticks=rng.choice((None, rng.randint(*WIDE_PRICES))),
        quantity_shares=rng.choice((None, rng.randint(0, 12) * 10)),
        protection_price_ticks=rng.choice((None, None, None, 1000)),
        time_in_force=rng.choice((None, None, None, TimeInForce.GTC, TimeInForce.DAY)),
    )


def _supervision(rng: random.Random, number: int) -> c.Command:
    ticker = rng.choice(("PETR4", "VALE3", None))
    participant = rng.choice(("P1", "P2", "P3"))
    return rng.choice(
        (
            c.SetPhase(phase=rng.choice(tuple(Phase)), ticker=ticker),
            *(c.SetPhase(phase=Phase.OPEN),) * 6,
            c.Resume(ticker="PETR4"),
            c.Logon(participant=participant),
            c.Logon(participant=participant),
            c.SetPhase(phase=Phase.AUCTION, ticker="PETR4"),
            c.Uncross(ticker="PETR4"),
            c.Halt(ticker=ticker),
            c.Resume(ticker=ticker),
            c.Resume(),
            c.MassCancel(participant=participant, ticker=ticker),
            c.Logon(participant=participant),
            c.Disconnect(participant=participant, logon_offset=number - rng.randint(0, 3)),
            c.CancelOrder(participant=participant, order_id=f"unknown{number}", revision=2),
            c.BustTrade(trade_id=f"equities-0-{rng.randint(3, max(4, number))}-0"),
            c.Redrive(ticker="PETR4"),
            c.TakeOver(owner="other", engine_version=rng.choice((2, 3))),
            c.IndexLevel(
                number=number, value_hundredths=rng.choice((100, 100, 100, 88)), previous_close_hundredths=100
            ),
            c.Trip(day="2026-11-23", level=rng.choice((1, 4))),
        )
    )
