"""What may be seen of a book from outside: for the feed's records, for tests and for people."""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from services.b3_matcher.engine.book import Ladder
from services.b3_matcher.engine.items import Instrument, Order
from services.b3_matcher.engine.trading import visible_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleEntry:
    """One resting order as the public may see it."""

    entry: int
    side: Side
    price_ticks: int | None
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookView:
    """One instrument's whole visible book: entries best first, market orders before limits, then by time."""

    ticker: str
    book_seq: int
    phase: Phase
    last_price_ticks: int | None
    reference_price_ticks: int | None
    theoretical_price_ticks: int | None
    theoretical_quantity_shares: int
    imbalance_shares: int
    """Above 0 unfilled demand, below 0 unfilled supply."""
    bids: tuple[VisibleEntry, ...]
    asks: tuple[VisibleEntry, ...]
    bid_levels: tuple[tuple[int, int], ...]
    """(price in ticks, visible shares), best first."""
    ask_levels: tuple[tuple[int, int], ...]
    open_price_ticks: int | None
    high_price_ticks: int | None
    low_price_ticks: int | None
    trades: int
    volume_shares: int
    turnover_cents: int


def book_view(instrument: Instrument) -> BookView:
    """Return one instrument's visible book."""
    price, quantity, imbalance = instrument.theoretical
    return BookView(
        ticker=instrument.ticker,
        book_seq=instrument.book_seq,
        phase=instrument.phase,
        last_price_ticks=instrument.last_price,
        reference_price_ticks=instrument.reference,
        theoretical_price_ticks=price,
        theoretical_quantity_shares=quantity,
        imbalance_shares=imbalance,
        bids=tuple(_visible(order) for order in instrument.bids.orders()),
        asks=tuple(_visible(order) for order in instrument.asks.orders()),
        bid_levels=_levels(instrument.bids),
        ask_levels=_levels(instrument.asks),
        open_price_ticks=instrument.day_open,
        high_price_ticks=instrument.day_high,
        low_price_ticks=instrument.day_low,
        trades=instrument.day_trades,
        volume_shares=instrument.day_shares,
        turnover_cents=instrument.day_cents,
    )


def _levels(ladder: Ladder) -> tuple[tuple[int, int], ...]:
    return tuple(
        (price, sum(visible_shares(order) for order in level.orders.values())) for price, level in ladder.depth()
    )


def _visible(order: Order) -> VisibleEntry:
    return VisibleEntry(
        entry=order.entry, side=order.side, price_ticks=order.price, quantity_shares=visible_shares(order)
    )
