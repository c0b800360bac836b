"""What happens to shares: fills, resting, leaving the book, the auction's print.

Every fill of the engine goes through `fill`, whichever phase it comes from. Book events are absolute: after each
change of a visible order `show` says what is now visible of it.
"""

from __future__ import annotations

from mybroker.contracts.events import (
    AuctionUncrossed,
    BookEntry,
    OrderCancelled,
    TheoreticalChanged,
    TradeExecuted,
    TradeSide,
)
from mybroker.domain.money import notional_cents
from mybroker.domain.order import Aggressor, CancelReason, Side, TimeInForce
from services.b3_matcher.engine.auction import Interest, Uncrossing, uncrossing
from services.b3_matcher.engine.bands import note_print, note_trade
from services.b3_matcher.engine.book import Ladder
from services.b3_matcher.engine.items import (
    ENDED,
    NO_THEORETICAL,
    PARKED,
    RESTING,
    STOPPED,
    TRIGGERED,
    Instrument,
    Order,
    Trade,
)
from services.b3_matcher.engine.state import State

# An attribute of an enum costs as much as a small function; the hot path reads these instead.
_BUY = Side.BUY


def show(state: State, order: Order, shares: int) -> None:
    """Say what is visible of a resting order now; 0 takes it out."""
    instrument = order.instrument
    instrument.book_seq = book_seq = instrument.book_seq + 1
    state.out.append(
        BookEntry(
            ticker=instrument.ticker,
            book_seq=book_seq,
            entry=order.entry,
            side=order.side,
            price_ticks=order.price,
            quantity_shares=shares,
        )
    )


def rest(state: State, order: Order) -> None:
    """Put an order at the end of its queue."""
    instrument = order.instrument
    instrument.entries = order.entry = instrument.entries + 1
    order.state = RESTING
    state.live_orders += 1
    (instrument.bids if order.side is _BUY else instrument.asks).add(order)
    shown = order.leaves
    if order.display is not None:
        order.shown = shown = min(order.display, shown)
    show(state, order, shown)


def visible_shares(order: Order) -> int:
    """Return what the public may see of a resting order."""
    return order.leaves if order.display is None else order.shown


def _refill(state: State, order: Order) -> None:
    """Let an iceberg show its next part, from the back of its queue."""
    instrument = order.instrument
    show(state, order, 0)
    ladder = instrument.book_side(order.side)
    ladder.remove(order)
    instrument.entries = order.entry = instrument.entries + 1
    assert order.display is not None, f"{order.order_id} is an iceberg"
    order.shown = min(order.display, order.leaves)
    ladder.add(order)
    show(state, order, order.shown)


def wait_for_stop(state: State, order: Order) -> None:
    """Let a stop wait outside the book for its price; one that lies at or before the last trade is set off at once."""
    instrument = order.instrument
    instrument.entries = order.entry = instrument.entries + 1
    order.state = STOPPED
    state.live_orders += 1
    instrument.stop_side(order.side).add(order)
    if instrument.last_price is not None:
        _set_off(state, instrument, instrument.last_price)


def _set_off(state: State, instrument: Instrument, price: int) -> None:
    """Set off the stops that a trade at this price reaches: buys, then sells, the nearest and then the oldest first."""
    for ladder in (instrument.buy_stops, instrument.sell_stops):
        while (order := ladder.next_at(price)) is not None:
            state.touch(order)
            ladder.remove(order)
            instrument.entries = order.entry = instrument.entries + 1
            order.state = TRIGGERED
            instrument.triggered[order.entry] = order
            state.to_settle[instrument.ticker] = instrument


def park(state: State, order: Order) -> None:
    """Let an order wait outside the book for the auction it asks for."""
    instrument = order.instrument
    instrument.entries = order.entry = instrument.entries + 1
    order.state = PARKED
    state.live_orders += 1
    instrument.parked[order.entry] = order


def take_out(state: State, order: Order) -> None:
    """Take a live order out of the book or out of its waiting place, with its shares."""
    instrument = order.instrument
    if order.state == RESTING:
        (instrument.bids if order.side is _BUY else instrument.asks).remove(order)
        show(state, order, 0)
    elif order.state == PARKED:
        del instrument.parked[order.entry]
    elif order.state == STOPPED:
        instrument.stop_side(order.side).remove(order)
    else:
        del instrument.triggered[order.entry]
    order.state = ENDED
    state.live_orders -= 1


def end(state: State, order: Order) -> int:
    """End an order, in the book or not; return the shares that were left of it."""
    state.touch(order)
    if order.state != ENDED:
        take_out(state, order)
    leaves = order.leaves
    order.leaves = 0
    return leaves


def cancel_rest(state: State, order: Order, reason: CancelReason) -> None:
    """Cancel what is left of an order, and say why."""
    leaves = end(state, order)
    state.out.append(
        OrderCancelled(
            order=state.reference(order),
            ticker=order.instrument.ticker,
            side=order.side,
            quantity_shares=leaves,
            cum_shares=order.cum,
            reason=reason,
        )
    )


def fill(
    state: State, instrument: Instrument, buy: Order, sell: Order, price: int, shares: int, aggressor: Aggressor
) -> None:
    """Trade `shares` between two orders; resting ones leave the book when nothing is left of them."""
    market = state.market.config
    assert market is not None, f"{instrument.ticker} trades before the market is configured"
    trade_id = f"{market.market}-{market.shard}-{state.offset}-{state.trade_index}"
    state.trade_index += 1
    filled_buy = _fill_side(state, instrument.bids, buy, shares)
    filled_sell = _fill_side(state, instrument.asks, sell, shares)
    instrument.last_price = price
    if instrument.day_open is None or instrument.day_high is None or instrument.day_low is None:
        instrument.day_open = instrument.day_high = instrument.day_low = price
    elif price > instrument.day_high:
        instrument.day_high = price
    elif price < instrument.day_low:
        instrument.day_low = price
    instrument.day_trades += 1
    instrument.day_shares += shares
    instrument.day_cents += notional_cents(price, shares)
    trade = Trade(
        trade_id=trade_id,
        price_ticks=price,
        quantity_shares=shares,
        buy=(buy.member.name, buy.order_id),
        sell=(sell.member.name, sell.order_id),
    )
    instrument.trades[trade_id] = trade
    state.touch(trade)
    state.out.append(
        TradeExecuted(
            trade_id=trade_id,
            ticker=instrument.ticker,
            price_ticks=price,
            quantity_shares=shares,
            aggressor=aggressor,
            buy=TradeSide(order=state.reference(buy), cum_shares=buy.cum, leaves_shares=buy.leaves),
            sell=TradeSide(order=state.reference(sell), cum_shares=sell.cum, leaves_shares=sell.leaves),
        )
    )
    if filled_buy:
        _show_filled(state, buy)
    if filled_sell:
        _show_filled(state, sell)
    if state.rules.trades_have_bands:
        note_trade(state, instrument, price, shares)
    if instrument.buy_stops.keys or instrument.sell_stops.keys:
        _set_off(state, instrument, price)


def _show_filled(state: State, order: Order) -> None:
    if order.display is None or order.leaves == 0:
        show(state, order, order.leaves)
    elif order.shown > 0:
        show(state, order, order.shown)
    else:
        _refill(state, order)


def _fill_side(state: State, ladder: Ladder, order: Order, shares: int) -> bool:
    """Count a fill into one order; return whether it stood in the book."""
    if order.stamp != state.stamp:
        state.touch(order)
    order.cum += shares
    if order.state != RESTING:
        order.leaves -= shares
        return False
    ladder.reduce(order, shares)
    if order.leaves == 0:
        order.state = ENDED
        state.live_orders -= 1
    elif order.display is not None:
        order.shown -= shares
    return True


def indicative(state: State, instrument: Instrument) -> Uncrossing | None:
    """Return what an auction of this book would print now."""
    bids, asks = instrument.bids, instrument.asks
    best_bid, best_ask = bids.best_price(), asks.best_price()
    lowest_buy: int | None = None
    highest_sell: int | None = None
    if not bids.unpriced and not asks.unpriced:
        # Without market orders nothing trades outside the stretch where the limits overlap.
        if best_bid is None or best_ask is None or best_bid < best_ask:
            return None
        lowest_buy, highest_sell = best_ask, best_bid
    return uncrossing(
        _interest(bids, lowest_buy),
        _interest(asks, highest_sell),
        reference_ticks=instrument.centre,
        candidates=state.rules.auction_candidates,
        interval=state.rules.auction_interval,
    )


def _interest(ladder: Ladder, last: int | None) -> Interest:
    limits: list[tuple[int, int]] = []
    for price, level in ladder.depth():
        if last is not None and (price - last) * ladder.sign < 0:
            break
        limits.append((price, level.shares))
    return Interest(limits=limits, market=[(order.protection, order.leaves) for order in ladder.unpriced.values()])


def update_theoretical(state: State, instrument: Instrument) -> None:
    """Tell the theoretical price where it changed."""
    result = indicative(state, instrument)
    theoretical = (
        NO_THEORETICAL if result is None else (result.price_ticks, result.quantity_shares, result.imbalance_shares)
    )
    if theoretical == instrument.theoretical:
        return
    instrument.theoretical = theoretical
    instrument.call_changed_ns = state.market.now_ns
    price, quantity, imbalance = theoretical
    surplus = _BUY if imbalance > 0 else Side.SELL
    state.out.append(
        TheoreticalChanged(
            ticker=instrument.ticker,
            price_ticks=price,
            quantity_shares=quantity,
            imbalance_shares=abs(imbalance),
            imbalance_side=surplus if imbalance else None,
        )
    )


def uncross(state: State, instrument: Instrument) -> None:
    """Print the auction: market orders first, then limits by price and time; then drop what was for it alone.

    A market order with a protection price goes before better limits only up to that price, so the limits that are
    left when it is dropped may still cross further out. They are printed again, until the book is not crossed.
    """
    state.touch(instrument)
    result = indicative(state, instrument)
    _print(state, instrument, result)
    for ladder in (instrument.bids, instrument.asks):
        for order in list(ladder.orders()):
            if order.price is None or order.tif is TimeInForce.GOOD_FOR_AUCTION:
                cancel_rest(state, order, CancelReason.AUCTION_REMAINDER)
    if result is not None:
        while (result := indicative(state, instrument)) is not None:
            _print(state, instrument, result)
    instrument.call_pending = False
    instrument.theoretical = NO_THEORETICAL


def _print(state: State, instrument: Instrument, result: Uncrossing | None) -> None:
    if result is not None:
        _fill_all(state, instrument, result)
        note_print(state, instrument, result.price_ticks)
    state.out.append(
        AuctionUncrossed(
            ticker=instrument.ticker,
            price_ticks=None if result is None else result.price_ticks,
            quantity_shares=0 if result is None else result.quantity_shares,
        )
    )


def _fill_all(state: State, instrument: Instrument, result: Uncrossing) -> None:
    price, left = result.price_ticks, result.quantity_shares
    buys = iter([order for order in instrument.bids.orders() if _takes(order, price)])
    sells = iter([order for order in instrument.asks.orders() if _takes(order, price)])
    buy, sell = next(buys), next(sells)
    while True:
        shares = min(buy.leaves, sell.leaves)
        left -= shares
        fill(state, instrument, buy, sell, price, shares, Aggressor.AUCTION)
        if left == 0:
            break
        if buy.leaves == 0:
            buy = next(buys)
        if sell.leaves == 0:
            sell = next(sells)


def _takes(order: Order, price: int) -> bool:
    """Say whether an order agrees to an auction price."""
    worst = order.price if order.price is not None else order.protection
    return worst is None or (price <= worst if order.side is _BUY else price >= worst)


def is_locked(order: Order) -> bool:
    """Say whether the theoretical price, or being a market order, ties an order to the call it stands in."""
    if order.state != RESTING:
        return False
    if order.price is None:
        return True
    theoretical = order.instrument.theoretical[0]
    if theoretical is None:
        return False
    return order.price >= theoretical if order.side is _BUY else order.price <= theoretical


def allotted(instrument: Instrument, but: Order) -> list[tuple[str, str, int]]:
    """Return what the theoretical print gives to the orders of one order's side, that order left out.

    Only a side with a surplus can give one order's shares to another while price, quantity and balance stay.
    """
    price, left, imbalance = instrument.theoretical
    if price is None or (imbalance > 0) is not (but.side is _BUY):
        return []
    given: list[tuple[str, str, int]] = []
    for order in instrument.book_side(but.side).orders():
        if left == 0:
            break
        if not _takes(order, price):
            continue
        shares = min(left, order.leaves)
        left -= shares
        if order is not but:
            given.append((order.member.name, order.order_id, shares))
    return given
