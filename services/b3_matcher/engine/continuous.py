"""Continuous trading: an aggressor against the book, the band that stops it, the stops it sets off.

Every fill outside a call happens in `match`, after its price was asked of the bands. The first fill that would leave
a band does not happen: the instrument goes to an auction and what is left of the aggressor goes with it. Stops that
the trades of a command set off enter after it, in the order they were set off, each with its own bands.
"""

from __future__ import annotations

from mybroker.contracts.events import OrderRested, OrderTriggered
from mybroker.domain.order import Aggressor, CancelReason, OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import CALL_PHASES, CONTINUOUS_PHASES, StatusReason
from services.b3_matcher.engine import calls, trading
from services.b3_matcher.engine.bands import Corridor
from services.b3_matcher.engine.items import Instrument, Order
from services.b3_matcher.engine.state import State

# An attribute of an enum costs as much as a small function; the hot path reads these instead.
_BUY = Side.BUY
_STP_NONE = SelfTradePrevention.NONE
_STP_AGGRESSOR = SelfTradePrevention.CANCEL_AGGRESSOR
_STP_RESTING = SelfTradePrevention.CANCEL_RESTING
_IOC = TimeInForce.IOC
_AGGRESSOR_BUY = Aggressor.BUY
_AGGRESSOR_SELL = Aggressor.SELL


def match(state: State, order: Order) -> CancelReason | StatusReason | None:
    """Trade an incoming order against the book while prices agree and stay inside the bands.

    Returns the reason for which what is left must not go on, or the band that the next fill would have left.
    """
    instrument = order.instrument
    buying = order.side is _BUY
    opposite = instrument.asks if buying else instrument.bids
    aggressor = _AGGRESSOR_BUY if buying else _AGGRESSOR_SELL
    worst = order.price if order.price is not None else order.protection
    keys, sign = opposite.keys, opposite.sign
    corridor = Corridor(state, instrument) if state.rules.trades_have_bands and keys else None
    inside = 0
    while order.leaves and keys:
        price = keys[-1] * sign
        if worst is not None and (price > worst if buying else price < worst):
            break
        resting = next(iter(opposite.levels[keys[-1]].orders.values()))
        if resting.account == order.account and order.stp is not _STP_NONE:
            if order.stp is not _STP_AGGRESSOR:
                trading.cancel_rest(state, resting, CancelReason.SELF_TRADE)
            if order.stp is not _STP_RESTING:
                return CancelReason.SELF_TRADE
            continue
        if corridor is not None and price != inside:
            left = corridor.left_at(price)
            if left is not None:
                return left
            inside = price
        shares = resting.leaves if resting.display is None else resting.shown
        shares = min(shares, order.leaves)
        if buying:
            trading.fill(state, instrument, order, resting, price, shares, aggressor)
        else:
            trading.fill(state, instrument, resting, order, price, shares, aggressor)
        if corridor is not None:
            corridor.note(price, shares)
    return None


def fillable_shares(state: State, order: Order) -> int:
    """Return how many shares would trade at once, bands and self-trade prevention included; changes no order."""
    buying = order.side is _BUY
    instrument = order.instrument
    opposite = instrument.asks if buying else instrument.bids
    worst = order.price if order.price is not None else order.protection
    corridor = Corridor(state, instrument) if state.rules.trades_have_bands else None
    shares = 0
    for price, level in opposite.depth():
        if shares >= order.leaves or (worst is not None and (price > worst if buying else price < worst)):
            break
        before = shares
        for resting in level.orders.values():
            if resting.account != order.account or order.stp is _STP_NONE:
                if corridor is not None and corridor.left_at(price) is not None:
                    return min(shares, order.leaves)
                shares += resting.leaves
            elif order.stp is not _STP_RESTING:
                return min(shares, order.leaves)
        if corridor is not None and shares > before:
            corridor.note(price, shares - before)
    return min(shares, order.leaves)


def trade_and_settle_the_rest(state: State, order: Order) -> None:
    """Match an order in continuous trading and give what is left its place."""
    traded_before = order.cum
    stopped = match(state, order)
    if order.leaves == 0:
        return
    if stopped is not None:
        if isinstance(stopped, StatusReason):
            _go_to_auction(state, order, stopped)
        else:
            trading.cancel_rest(state, order, stopped)
    elif order.tif is _IOC:
        trading.cancel_rest(state, order, CancelReason.IOC_REMAINDER)
    elif order.price is not None:
        trading.rest(state, order)
    elif order.cum == traded_before:
        trading.cancel_rest(state, order, CancelReason.NO_OPPOSITE_PRICE)
    else:
        order.type = OrderType.LIMIT
        order.price = order.instrument.last_price
        assert order.price is not None, f"{order.order_id} traded, so there is a last price"
        state.out.append(
            OrderRested(
                order=state.reference(order),
                ticker=order.instrument.ticker,
                price_ticks=order.price,
                leaves_shares=order.leaves,
            )
        )
        trading.rest(state, order)


def _go_to_auction(state: State, order: Order, reason: StatusReason) -> None:
    instrument = order.instrument
    price = (instrument.asks if order.side is _BUY else instrument.bids).best_price()
    assert price is not None, f"{order.order_id} was stopped by a band, so there is a price"
    calls.start_auction(state, instrument, reason, price)
    if order.tif is _IOC:
        trading.cancel_rest(state, order, CancelReason.IOC_REMAINDER)
    else:
        trading.rest(state, order)
        trading.update_theoretical(state, instrument)


def settle_triggered(state: State, instrument: Instrument) -> None:
    """Let the stops that were set off enter, oldest trigger first; those they set off follow, up to the rules' limit.

    What is left over the limit, or waits for a halt to end, enters with a later tick.
    """
    for _ in range(state.rules.stop_triggers_max):
        if not instrument.triggered or instrument.phase not in CALL_PHASES | CONTINUOUS_PHASES:
            return
        order = next(iter(instrument.triggered.values()))
        state.touch(order)
        trading.take_out(state, order)
        order.type = OrderType.LIMIT if order.type is OrderType.STOP_LIMIT else OrderType.MARKET
        state.out.append(OrderTriggered(order=state.reference(order), ticker=instrument.ticker))
        if instrument.phase in CALL_PHASES:
            trading.rest(state, order)
            trading.update_theoretical(state, instrument)
        else:
            trade_and_settle_the_rest(state, order)
