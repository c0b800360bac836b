"""Whether a new order may be tried: shape, instrument, phase, limits. Pure, told everything.

Checks run in the order of `RejectReason`; the first that fails is the answer. What is not known here (the feed is
away, the instrument is not in our catalogue) is left to the exchange, which checks everything again; but a market
order to buy needs a worst price to hold for, and without a known price it is refused as `exchange_unavailable`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.http_broker import CLIENT_ORDER_ID_LENGTH_MAX, NewOrderBody
from mybroker.domain.instrument import Instrument, is_ticker
from mybroker.domain.money import QUANTITY_SHARES_MAX, ceil_div, floor_div, parse_price_ticks
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import CALL_PHASES, Phase
from mybroker.domain.refusal import RejectReason
from mybroker.domain.rules import DEFAULT_BANDS, Bands

ORDERS_OPEN_MAX = 5_000
"""Open orders of one account."""

_BP = 10_000
_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK})
_TYPES = frozenset({OrderType.LIMIT, OrderType.MARKET})
_TIMES = frozenset(TimeInForce) - {TimeInForce.GTD}
_PHASE_REFUSALS = {
    Phase.CLOSED: RejectReason.MARKET_CLOSED,
    Phase.HALTED: RejectReason.INSTRUMENT_HALTED,
    Phase.CANCEL_ONLY: RejectReason.CANCEL_ONLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerState:
    """What the public feed says of a ticker: its phase, and the price its bands stand around."""

    phase: Phase
    centre_ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """An order's prices in ticks. `hold_price_ticks` is the worst price of a buy; None for a sell."""

    price_ticks: int | None
    protection_price_ticks: int | None
    hold_price_ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A new order whose shape is right."""

    price_ticks: int | None


def read_shape(body: NewOrderBody) -> Shape | RejectReason:
    """Check what can be said of an order alone."""
    client_id = body.client_order_id
    if client_id is not None and not 0 < len(client_id) <= CLIENT_ORDER_ID_LENGTH_MAX:
        return RejectReason.MALFORMED
    if not is_ticker(body.ticker) or abs(body.quantity) > QUANTITY_SHARES_MAX:
        return RejectReason.MALFORMED
    prices = [parse_price_ticks(text) for text in (body.price, body.stop_price) if text is not None]
    for price in prices:
        if isinstance(price, RejectReason):
            return price
    if body.type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        if body.price is None:
            return RejectReason.PRICE_REQUIRED
    elif body.price is not None:
        return RejectReason.PRICE_NOT_ALLOWED
    if body.type in _STOPS:
        if body.stop_price is None:
            return RejectReason.STOP_PRICE_REQUIRED
    elif body.stop_price is not None:
        return RejectReason.STOP_PRICE_NOT_ALLOWED
    if body.quantity <= 0:
        return RejectReason.QUANTITY_NOT_POSITIVE
    if body.type not in _TYPES:
        return RejectReason.ORDER_TYPE_NOT_SUPPORTED
    if body.time_in_force not in _TIMES:
        return RejectReason.TIME_IN_FORCE_NOT_SUPPORTED
    return Shape(price_ticks=None if body.price is None else _ticks(body.price))


def find_session(
    entries: tuple[DirectoryEntry, ...], *, ticker: str, session: str | None
) -> DirectoryEntry | RejectReason:
    """Return the session an order is meant for: the one it names, else the only one."""
    if session is not None:
        named = [entry for entry in entries if session in (entry.key, entry.session)]
        if len(named) == 1:
            return named[0] if named[0].find(ticker) else RejectReason.UNKNOWN_INSTRUMENT
        return RejectReason.SESSION_AMBIGUOUS if named else RejectReason.UNKNOWN_SESSION
    if not any(entry.find(ticker) for entry in entries):
        return RejectReason.UNKNOWN_INSTRUMENT if entries else RejectReason.MARKET_CLOSED
    return entries[0] if len(entries) == 1 else RejectReason.SESSION_AMBIGUOUS


def admit(
    body: NewOrderBody,
    shape: Shape,
    *,
    instrument: Instrument | None,
    state: TickerState | None,
    orders_open: int,
) -> Prices | RejectReason:
    """Check an order of right shape against its instrument, the market and the account's limits."""
    if state is not None:
        refusal = _PHASE_REFUSALS.get(state.phase)
        if refusal is not None:
            return refusal
        if state.phase in CALL_PHASES and body.time_in_force in _AT_ONCE:
            return RejectReason.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE
    if instrument is not None:
        if body.quantity % instrument.lot_shares:
            return RejectReason.QUANTITY_NOT_MULTIPLE_OF_LOT
        if body.quantity > instrument.order_quantity_max_shares:
            return RejectReason.QUANTITY_ABOVE_MAXIMUM
    band = rejection_band(instrument, state)
    if shape.price_ticks is not None and band is not None and not band[0] <= shape.price_ticks <= band[1]:
        return RejectReason.PRICE_OUTSIDE_REJECTION_BAND
    if orders_open >= ORDERS_OPEN_MAX:
        return RejectReason.ORDER_LIMIT_EXCEEDED
    if body.side is Side.SELL:
        return Prices(price_ticks=shape.price_ticks, protection_price_ticks=None, hold_price_ticks=None)
    if shape.price_ticks is not None:
        return Prices(price_ticks=shape.price_ticks, protection_price_ticks=None, hold_price_ticks=shape.price_ticks)
    if band is None:
        return RejectReason.EXCHANGE_UNAVAILABLE
    return Prices(price_ticks=None, protection_price_ticks=band[1], hold_price_ticks=band[1])


def admit_terms(
    quantity_shares: int, price_ticks: int | None, *, instrument: Instrument | None, state: TickerState | None
) -> RejectReason | None:
    """Check other terms of an order that is at the exchange."""
    if state is not None and state.phase in _PHASE_REFUSALS:
        return _PHASE_REFUSALS[state.phase]
    if instrument is not None:
        if quantity_shares % instrument.lot_shares:
            return RejectReason.QUANTITY_NOT_MULTIPLE_OF_LOT
        if quantity_shares > instrument.order_quantity_max_shares:
            return RejectReason.QUANTITY_ABOVE_MAXIMUM
    band = rejection_band(instrument, state)
    if price_ticks is not None and band is not None and not band[0] <= price_ticks <= band[1]:
        return RejectReason.PRICE_OUTSIDE_REJECTION_BAND
    return None


def rejection_band(instrument: Instrument | None, state: TickerState | None) -> tuple[int, int] | None:
    """Return the lowest and highest price an order may have; bounds round inwards. None where nothing is known."""
    centre_ticks = None if state is None else state.centre_ticks
    if centre_ticks is None:
        return None
    group = "other" if instrument is None else instrument.group.value
    band_bp = dict(DEFAULT_BANDS).get(group, Bands()).rejection_bp
    return ceil_div(centre_ticks * (_BP - band_bp), _BP), floor_div(centre_ticks * (_BP + band_bp), _BP)


def _ticks(text: str) -> int:
    price_ticks = parse_price_ticks(text)
    assert isinstance(price_ticks, int), f"price {text!r} was checked before"
    return price_ticks
