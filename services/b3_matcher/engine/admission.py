"""Whether an order, a cancel or a replace may happen: one early return per reason, in the order of `RejectReason`.

Nothing here changes anything. What is idempotent (duplicates, barred ids) is decided before, in `orders`.
"""

from __future__ import annotations

from mybroker.contracts.commands import PlaceOrder, ReplaceOrder
from mybroker.domain.money import PRICE_TICKS_MAX
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import CALL_PHASES, Phase
from mybroker.domain.refusal import RejectReason
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.bands import is_inside_rejection_band
from services.b3_matcher.engine.items import STOPPED, Instrument, Member, Order
from services.b3_matcher.engine.state import State
from services.b3_matcher.engine.trading import is_locked

_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_PRICED = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK})
_OF_A_STOP = frozenset({TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD})
REPLACEABLE_TIMES_IN_FORCE = frozenset({TimeInForce.DAY, TimeInForce.GTC})

# An attribute of an enum costs as much as a small function; the hot path reads these instead.
_CLOSED = Phase.CLOSED
_HALTED = Phase.HALTED
_CANCEL_ONLY = Phase.CANCEL_ONLY
_AT_THE_CLOSE = TimeInForce.AT_THE_CLOSE
_GOOD_FOR_AUCTION = TimeInForce.GOOD_FOR_AUCTION
_GTD = TimeInForce.GTD
_MARKET = OrderType.MARKET


def refusal_of_shape(
    command: PlaceOrder, business_date: str, instrument: Instrument | None, rules: Rules
) -> RejectReason | None:
    """Check what can be said of an order alone, and of its stop and display as far as the instrument is known."""
    reason = _refusal_of_prices((command.price_ticks, command.stop_price_ticks, command.protection_price_ticks))
    if reason is not None:
        return reason
    if command.type in _PRICED:
        if command.price_ticks is None:
            return RejectReason.PRICE_REQUIRED
    elif command.price_ticks is not None:
        return RejectReason.PRICE_NOT_ALLOWED
    if command.type in _STOPS:
        if command.stop_price_ticks is None:
            return RejectReason.STOP_PRICE_REQUIRED
        last = instrument.last_price if instrument is not None and rules.stop_beyond_last else None
        if not is_stop_on_its_side(command.side, command.stop_price_ticks, command.price_ticks, last):
            return RejectReason.STOP_PRICE_WRONG_SIDE
    elif command.stop_price_ticks is not None:
        return RejectReason.STOP_PRICE_NOT_ALLOWED
    reason = _refusal_of_expiry(command, business_date)
    if reason is not None:
        return reason
    if command.quantity_shares <= 0:
        return RejectReason.QUANTITY_NOT_POSITIVE
    display, minimum = command.display_quantity_shares, command.min_quantity_shares
    if display is not None:
        least = 1 if instrument is None else rules.display_lots_min * instrument.lot
        if command.type not in _PRICED or not max(1, least) <= display <= command.quantity_shares:
            return RejectReason.DISPLAY_QUANTITY_INVALID
    if minimum is not None and (command.type in _STOPS or not 0 < minimum <= command.quantity_shares):
        return RejectReason.MIN_QUANTITY_INVALID
    if command.type in _STOPS and command.time_in_force not in _OF_A_STOP:
        return RejectReason.TIME_IN_FORCE_NOT_SUPPORTED
    return None


def is_stop_on_its_side(side: Side, stop: int, limit: int | None, last: int | None) -> bool:
    """Say whether a stop lies beyond the last trade, and its limit at the stop or beyond."""
    sign = 1 if side is Side.BUY else -1
    if limit is not None and (limit - stop) * sign < 0:
        return False
    return last is None or (stop - last) * sign > 0


def _refusal_of_prices(prices: tuple[int | None, ...]) -> RejectReason | None:
    reason = None
    for price in prices:
        if price is None or 0 < price <= PRICE_TICKS_MAX:
            continue
        if price <= 0:
            return RejectReason.PRICE_NOT_POSITIVE
        reason = RejectReason.PRICE_ABOVE_MAXIMUM
    return reason


def _refusal_of_expiry(command: PlaceOrder, business_date: str) -> RejectReason | None:
    if command.time_in_force is _GTD:
        if command.expires is None:
            return RejectReason.EXPIRES_REQUIRED
        if command.expires < business_date:
            return RejectReason.EXPIRES_IN_THE_PAST
    elif command.expires is not None:
        return RejectReason.EXPIRES_NOT_ALLOWED
    return None


def refusal_of_phase(instrument: Instrument) -> RejectReason | None:
    """Check whether an instrument takes orders and replaces now."""
    if instrument.quarantined:
        return RejectReason.QUARANTINED
    phase = instrument.phase
    if phase is _CLOSED:
        return RejectReason.MARKET_CLOSED
    if phase is _HALTED:
        return RejectReason.INSTRUMENT_HALTED
    if phase is _CANCEL_ONLY:
        return RejectReason.CANCEL_ONLY
    return None


def refusal_of_new(state: State, command: PlaceOrder, member: Member) -> RejectReason | None:
    """Check a new order with a fresh id, shape to limits."""
    config = state.market.config
    instrument = state.instruments.get(command.ticker)
    reason = refusal_of_shape(command, "" if config is None else config.business_date, instrument, state.rules)
    if reason is not None:
        return reason
    if not member.connected:
        return RejectReason.NOT_LOGGED_ON
    if instrument is None or not instrument.listed:
        return RejectReason.UNKNOWN_INSTRUMENT
    reason = refusal_of_phase(instrument)
    if reason is not None:
        return reason
    in_call = instrument.phase in CALL_PHASES
    if in_call and (command.min_quantity_shares is not None or command.type in _STOPS):
        return RejectReason.ORDER_TYPE_NOT_ALLOWED_IN_PHASE
    if in_call and command.time_in_force in _AT_ONCE:
        return RejectReason.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE
    if command.quantity_shares % instrument.lot or (command.display_quantity_shares or 0) % instrument.lot:
        return RejectReason.QUANTITY_NOT_MULTIPLE_OF_LOT
    if command.quantity_shares > instrument.quantity_max:
        return RejectReason.QUANTITY_ABOVE_MAXIMUM
    if command.price_ticks is not None and not is_inside_rejection_band(state.rules, instrument, command.price_ticks):
        return RejectReason.PRICE_OUTSIDE_REJECTION_BAND
    waits = in_call or waits_for_auction(command.time_in_force, instrument.phase)
    if command.type is _MARKET and not waits and not _has_opposite(command, instrument):
        return RejectReason.NO_OPPOSITE_PRICE
    if state.live_orders >= state.rules.orders_live_max:
        return RejectReason.ORDER_LIMIT_EXCEEDED
    return None


def waits_for_auction(tif: TimeInForce, phase: Phase) -> bool:
    """Say whether an order of this time in force stays outside the book in this phase."""
    if tif is _AT_THE_CLOSE:
        return phase is not Phase.CLOSING_CALL
    return tif is _GOOD_FOR_AUCTION and phase not in CALL_PHASES


def _has_opposite(command: PlaceOrder, instrument: Instrument) -> bool:
    """Say whether a market order has something to trade against, within its protection."""
    buying = command.side is Side.BUY
    best = (instrument.asks if buying else instrument.bids).best_price()
    if best is None:
        return False
    worst = command.protection_price_ticks
    return worst is None or (best <= worst if buying else best >= worst)


def refusal_of_cancel(order: Order) -> RejectReason | None:
    """Check the cancel of a live order."""
    instrument = order.instrument
    if instrument.quarantined:
        return RejectReason.QUARANTINED
    if instrument.phase is _CLOSED:
        return RejectReason.MARKET_CLOSED
    if instrument.phase in CALL_PHASES and is_locked(order):
        return RejectReason.LOCKED_IN_AUCTION
    return None


def refusal_of_replace_shape(command: ReplaceOrder) -> RejectReason | None:
    """Check what can be said of a replace alone."""
    price, protection = command.price_ticks, command.protection_price_ticks
    if protection is not None or (price is not None and not 0 < price <= PRICE_TICKS_MAX):
        reason = _refusal_of_prices((price, protection))
        if reason is not None:
            return reason
    if command.quantity_shares is not None and command.quantity_shares <= 0:
        return RejectReason.QUANTITY_NOT_POSITIVE
    return None


def refusal_of_replace(state: State, command: ReplaceOrder, order: Order) -> RejectReason | None:
    """Check the replace of a live order, against what it would become."""
    instrument = order.instrument
    if order.price is None and command.price_ticks is not None:
        return RejectReason.PRICE_NOT_ALLOWED
    tif = command.time_in_force
    if tif is not None and tif is not order.tif and not {tif, order.tif} <= REPLACEABLE_TIMES_IN_FORCE:
        return RejectReason.TIME_IN_FORCE_NOT_SUPPORTED
    reason = refusal_of_phase(instrument)
    if reason is not None:
        return reason
    if instrument.phase in CALL_PHASES and is_locked(order) and _makes_worse(command, order):
        return RejectReason.LOCKED_IN_AUCTION
    quantity = order.quantity if command.quantity_shares is None else command.quantity_shares
    if quantity % instrument.lot:
        return RejectReason.QUANTITY_NOT_MULTIPLE_OF_LOT
    if quantity > instrument.quantity_max:
        return RejectReason.QUANTITY_ABOVE_MAXIMUM
    price = command.price_ticks
    takes_a_new_place = price != order.price or quantity > order.quantity
    if price is None:
        price = order.price
        takes_a_new_place = quantity > order.quantity
    stop = order.stop if order.state == STOPPED else None
    if stop is not None and not is_stop_on_its_side(order.side, stop, price, None):
        return RejectReason.STOP_PRICE_WRONG_SIDE
    if price is not None and takes_a_new_place and not is_inside_rejection_band(state.rules, instrument, price):
        return RejectReason.PRICE_OUTSIDE_REJECTION_BAND
    return None


def _makes_worse(command: ReplaceOrder, order: Order) -> bool:
    """Say whether a replace takes something away from a locked order."""
    sign = 1 if order.side is Side.BUY else -1
    if command.quantity_shares is not None and command.quantity_shares < order.quantity:
        return True
    if command.time_in_force is not None and command.time_in_force is not order.tif:
        return True
    if command.price_ticks is not None and order.price is not None and (command.price_ticks - order.price) * sign < 0:
        return True
    protection = command.protection_price_ticks
    return protection is not None and (order.protection is None or (protection - order.protection) * sign < 0)
