"""A noise trader's decisions: one thing at a time, by chance, around the price. Pure.

In continuous trading it enters limit orders near the price, takes what is there (market orders with a protection
price, or limits at the other side's best that do not rest), replaces and cancels. In a call it enters limits on both
sides of the price, so that an auction has something to print, and now and then a market order; it leaves them alone
there, because what crosses is locked. It prefers the side that brings its position back to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from mybroker.domain.instrument import Instrument
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import CALL_PHASES
from services.b3_participants.decision import (
    BP,
    Action,
    Cancel,
    Holding,
    Place,
    Replace,
    View,
    bounded_ticks,
    centre_ticks,
    is_open,
    opposite,
    size_shares,
)

ORDERS_MAX = 6
REACH_BP = 30
PROTECTION_BP = 100
FEWEST_LOTS = 1
MOST_LOTS = 5
_CANCELS_BELOW = 0.15
_REPLACES_BELOW = 0.27
_TAKES_BELOW = 0.62
_MARKET_SHARE = 0.5
_MARKET_SHARE_IN_CALL = 0.1
_BACK_TO_NOTHING = 0.7


def decide(view: View, holding: Holding, instrument: Instrument, rng: Random) -> Sequence[Action]:
    """Return at most one thing to do about one ticker."""
    centre = centre_ticks(view)
    if not is_open(view) or centre is None:
        return ()
    roll = rng.random()
    if view.phase in CALL_PHASES:
        if len(holding.orders) + holding.underway >= ORDERS_MAX:
            return ()
        return (_in_a_call(view, holding, instrument, rng, centre),)
    orders = holding.orders
    if len(orders) + holding.underway >= ORDERS_MAX:
        return (Cancel(order_id=orders[0].order_id),) if orders else ()
    if orders and roll < _CANCELS_BELOW:
        return (Cancel(order_id=rng.choice(orders).order_id),)
    if orders and roll < _REPLACES_BELOW:
        order = rng.choice(orders)
        price_ticks = _passive_ticks(view, order.side, centre, rng)
        total_shares = order.cum_shares + order.leaves_shares
        return (Replace(order_id=order.order_id, price_ticks=price_ticks, quantity_shares=total_shares),)
    side = _side(holding, rng)
    best_ticks = view.ask_ticks if side is Side.BUY else view.bid_ticks
    quantity_shares = size_shares(instrument, rng, FEWEST_LOTS, MOST_LOTS)
    if roll < _TAKES_BELOW and best_ticks is not None:
        return (_taking(view, side, best_ticks, quantity_shares, rng),)
    price_ticks = _passive_ticks(view, side, centre, rng)
    return (Place(side=side, quantity_shares=quantity_shares, price_ticks=price_ticks),)


def _taking(view: View, side: Side, best_ticks: int, quantity_shares: int, rng: Random) -> Place:
    if rng.random() < _MARKET_SHARE:
        return Place(
            side=side,
            quantity_shares=quantity_shares,
            price_ticks=None,
            type=OrderType.MARKET,
            protection_price_ticks=_away_ticks(view, side, best_ticks, PROTECTION_BP),
        )
    return Place(
        side=side,
        quantity_shares=quantity_shares,
        price_ticks=bounded_ticks(view, best_ticks),
        time_in_force=TimeInForce.IOC,
    )


def _in_a_call(view: View, holding: Holding, instrument: Instrument, rng: Random, centre: int) -> Place:
    side = _side(holding, rng)
    quantity_shares = size_shares(instrument, rng, FEWEST_LOTS, MOST_LOTS)
    if rng.random() < _MARKET_SHARE_IN_CALL:
        return Place(
            side=side,
            quantity_shares=quantity_shares,
            price_ticks=None,
            type=OrderType.MARKET,
            protection_price_ticks=_away_ticks(view, side, centre, PROTECTION_BP),
        )
    reach = max(2, centre * REACH_BP // BP)
    price_ticks = bounded_ticks(view, centre + rng.randint(-reach, reach))
    return Place(side=side, quantity_shares=quantity_shares, price_ticks=price_ticks)


def _side(holding: Holding, rng: Random) -> Side:
    if holding.position_shares == 0:
        return rng.choice((Side.BUY, Side.SELL))
    back = Side.SELL if holding.position_shares > 0 else Side.BUY
    return back if rng.random() < _BACK_TO_NOTHING else opposite(back)


def _passive_ticks(view: View, side: Side, centre: int, rng: Random) -> int:
    reach = max(2, centre * REACH_BP // BP)
    away = rng.randint(0, reach)
    return bounded_ticks(view, centre - away if side is Side.BUY else centre + away)


def _away_ticks(view: View, side: Side, from_ticks: int, distance_bp: int) -> int:
    distance = max(1, from_ticks * distance_bp // BP)
    return bounded_ticks(view, from_ticks + distance if side is Side.BUY else from_ticks - distance)
