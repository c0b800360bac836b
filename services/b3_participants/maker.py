"""A market maker's decisions: a ladder on both sides of the ingested price. Pure.

In continuous trading it holds LEVELS orders a side, half a spread away from the centre and a step apart, and compares:
what stands at a wrong price or is half filled is replaced, what is missing is placed, what is too much is cancelled.
The centre leans against its position, so that it does not pile up shares. The side the price moves away from goes
first, so that it never meets itself. In a call it enters orders that cross those of its fellows (odd makers buy
dearer, even ones sell cheaper) and then waits: what crosses is locked there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mybroker.domain.instrument import Instrument
from mybroker.domain.order import Side
from mybroker.domain.phase import CALL_PHASES
from services.b3_participants.decision import (
    BP,
    Action,
    Cancel,
    Holding,
    Own,
    Place,
    Replace,
    View,
    bounded_ticks,
    centre_ticks,
    is_open,
    size_shares,
)

LEVELS = 3
HALF_SPREAD_BP = 4
STEP_BP = 4
CROSSING_BP = 10
LEAN_LOTS = 40
"""So many lots of position move the centre by one step."""

LEAN_STEPS_MAX = 3
FEWEST_LOTS = 4
MOST_LOTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """One market maker; `number` (from 1) tells it from its fellows."""

    number: int

    def decide(self, view: View, holding: Holding, instrument: Instrument, rng: Random) -> Sequence[Action]:
        """Return what to do about one ticker; nothing while something is on its way."""
        centre = centre_ticks(view)
        if not is_open(view) or centre is None or holding.underway:
            return ()
        buying, selling = _of(holding, Side.BUY), _of(holding, Side.SELL)
        step = max(1, centre * STEP_BP // BP)
        if view.phase in CALL_PHASES:
            if self._crosses_already(holding, centre):
                return ()
            best_bid = self._call_bid_ticks(centre)
            best_ask = best_bid + 1
        else:
            lean_lots = holding.position_shares // (LEAN_LOTS * _lot_of_position(instrument))
            centre -= min(max(lean_lots, -LEAN_STEPS_MAX), LEAN_STEPS_MAX) * step
            half_spread = max(1, centre * HALF_SPREAD_BP // BP) + self.number % 2
            best_bid, best_ask = centre - half_spread, centre + half_spread
        bids = [bounded_ticks(view, best_bid - level * step) for level in range(LEVELS)]
        asks = [bounded_ticks(view, best_ask + level * step) for level in range(LEVELS)]
        if bids[0] >= asks[0]:
            return tuple(Cancel(order_id=order.order_id) for order in holding.orders)
        buys = _ladder(Side.BUY, buying, bids, instrument, rng)
        sells = _ladder(Side.SELL, selling, asks, instrument, rng)
        rising = any(order.price_ticks is not None and order.price_ticks <= bids[0] for order in selling)
        return (*sells, *buys) if rising else (*buys, *sells)

    @property
    def _buys_dearer(self) -> bool:
        return self.number % 2 == 1

    def _call_bid_ticks(self, centre: int) -> int:
        crossing = max(1, centre * CROSSING_BP // BP)
        return centre + crossing if self._buys_dearer else centre - crossing

    def _crosses_already(self, holding: Holding, centre: int) -> bool:
        """Say whether an order stands that meets a fellow's: nothing is to be done in this call any more."""
        if self._buys_dearer:
            return any((order.price_ticks or 0) >= centre for order in _of(holding, Side.BUY))
        return any(0 < (order.price_ticks or 0) <= centre for order in _of(holding, Side.SELL))


def _ladder(
    side: Side, orders: Sequence[Own], wanted: Sequence[int], instrument: Instrument, rng: Random
) -> list[Action]:
    """Compare one side with the prices wanted, best first."""
    best_first = sorted(orders, key=lambda order: order.price_ticks or 0, reverse=side is Side.BUY)
    actions: list[Action] = [Cancel(order_id=order.order_id) for order in best_first[len(wanted) :]]
    half_shares = size_shares(instrument, Random(0), FEWEST_LOTS, FEWEST_LOTS) // 2
    for level, price_ticks in enumerate(wanted):
        if level >= len(best_first):
            quantity_shares = size_shares(instrument, rng, FEWEST_LOTS, MOST_LOTS)
            actions.append(Place(side=side, quantity_shares=quantity_shares, price_ticks=price_ticks))
            continue
        order = best_first[level]
        thin = order.leaves_shares < half_shares
        if order.price_ticks == price_ticks and not thin:
            continue
        total_shares = order.cum_shares + order.leaves_shares
        if thin and not instrument.is_fractional:
            total_shares = order.cum_shares + size_shares(instrument, rng, FEWEST_LOTS, MOST_LOTS)
        elif thin and order.price_ticks == price_ticks:
            continue  # an F order's total is at most 99, filled shares included: a thin one is left to fill
        actions.append(Replace(order_id=order.order_id, price_ticks=price_ticks, quantity_shares=total_shares))
    return actions


def _of(holding: Holding, side: Side) -> list[Own]:
    return [order for order in holding.orders if order.side is side]


def _lot_of_position(instrument: Instrument) -> int:
    return instrument.lot_shares if instrument.lot_shares > 1 else 10
