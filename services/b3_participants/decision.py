"""What a participant sees, what it owns, and what it may decide to do. Values only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from mybroker.domain.instrument import FRACTIONAL_QUANTITY_MAX_SHARES, Instrument
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import PHASES_THAT_ACCEPT_ORDERS, Phase

BAND_BP = 1_500
"""Prices stay this near the last trade or the reference: inside the exchange's rejection band of 20 %."""

BP = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One ticker as it looks from outside: the feed's summary and the last ingested price."""

    ticker: str
    phase: Phase
    bid_ticks: int | None = None
    ask_ticks: int | None = None
    last_ticks: int | None = None
    reference_ticks: int | None = None
    quote_ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """One of the participant's own live orders that nothing is being done to."""

    order_id: str
    side: Side
    price_ticks: int | None
    cum_shares: int
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A participant's side of one ticker: its live orders, oldest first, how many more are on their way, and the
    shares it bought less those it sold since it started.
    """

    orders: tuple[Own, ...] = ()
    underway: int = 0
    position_shares: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Send a new order."""

    side: Side
    quantity_shares: int
    price_ticks: int | None
    type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.DAY
    protection_price_ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Give an order another price and total quantity."""

    order_id: str
    price_ticks: int
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Take an order out."""

    order_id: str


Action = Place | Replace | Cancel

Decide = Callable[[View, Holding, Instrument, Random], Sequence[Action]]


def is_open(view: View) -> bool:
    """Say whether orders are taken now."""
    return view.phase in PHASES_THAT_ACCEPT_ORDERS


def centre_ticks(view: View) -> int | None:
    """Return the price to trade around: the ingested one, else the market's, moved inside the band; None: unknown."""
    anchor = view.last_ticks or view.reference_ticks
    wanted = view.quote_ticks or anchor
    if wanted is None:
        return None
    return bounded_ticks(view, wanted)


def bounded_ticks(view: View, price_ticks: int) -> int:
    """Return the nearest price that the exchange takes."""
    anchor = view.last_ticks or view.reference_ticks
    if anchor is None:
        return max(1, price_ticks)
    lowest = max(1, -(-anchor * (BP - BAND_BP) // BP))
    highest = max(lowest, anchor * (BP + BAND_BP) // BP)
    return min(max(price_ticks, lowest), highest)


def size_shares(instrument: Instrument, rng: Random, fewest_lots: int, most_lots: int) -> int:
    """Return a random quantity the instrument takes; where a lot is one share, ten shares stand for a lot."""
    if instrument.is_fractional:
        most = min(instrument.order_quantity_max_shares, FRACTIONAL_QUANTITY_MAX_SHARES)
        return min(most, max(1, rng.randint(fewest_lots, most_lots) * 5))
    unit = instrument.lot_shares if instrument.lot_shares > 1 else 10
    quantity = min(unit * rng.randint(fewest_lots, most_lots), instrument.order_quantity_max_shares)
    return max(instrument.lot_shares, quantity // instrument.lot_shares * instrument.lot_shares)


def opposite(side: Side) -> Side:
    """Return the other side."""
    return Side.SELL if side is Side.BUY else Side.BUY
