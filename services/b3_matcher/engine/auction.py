"""The price of a call auction, by B3's three steps; a pure function of what is in the book.

1. The price at which the most shares trade. 2. Among those, the smallest imbalance. 3. Still tied: the price closest
to the reference, anywhere in the interval the tied prices span. Demand never rises with the price and supply never
falls, so everything between two tied prices trades at least as much as they do.

Candidates `limits` are the limits of the orders in the book. A protection price of a market order is no candidate;
only where it makes some other tick trade more than every limit does (step 1 comes first), all ticks are candidates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mybroker.domain.rules import AuctionCandidates, AuctionInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """One side's wish to trade: limits as (price in ticks, shares), market orders as (protection or None, shares)."""

    limits: Sequence[tuple[int, int]]
    market: Sequence[tuple[int | None, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncrossing:
    """What an auction would print: imbalance above 0 is unfilled demand, below 0 unfilled supply."""

    price_ticks: int
    quantity_shares: int
    imbalance_shares: int


class _Curves:
    """Cumulated demand and supply, answered by bisection."""

    def __init__(self, buys: Interest, sells: Interest) -> None:
        self._free_demand = sum(shares for limit, shares in buys.market if limit is None)
        self._free_supply = sum(shares for limit, shares in sells.market if limit is None)
        bounded_buys = sorted([*buys.limits, *((limit, n) for limit, n in buys.market if limit is not None)])
        bounded_sells = sorted([*sells.limits, *((limit, n) for limit, n in sells.market if limit is not None)])
        self._buy_prices = [price for price, _ in bounded_buys]
        self._sell_prices = [price for price, _ in bounded_sells]
        self._below_buy = [0, *accumulate(shares for _, shares in bounded_buys)]
        self._below_sell = [0, *accumulate(shares for _, shares in bounded_sells)]

    def at(self, price: int) -> tuple[int, int]:
        """Return (shares that trade, demand minus supply) at a price."""
        below = self._below_buy[bisect_left(self._buy_prices, price)]
        demand = self._free_demand + self._below_buy[-1] - below
        supply = self._free_supply + self._below_sell[bisect_left(self._sell_prices, price + 1)]
        return min(demand, supply), demand - supply

    def turns(self) -> list[int]:
        """Return every price at which a curve steps."""
        return self._buy_prices + self._sell_prices


def uncrossing(
    buys: Interest,
    sells: Interest,
    *,
    reference_ticks: int | None,
    candidates: AuctionCandidates,
    interval: AuctionInterval,
) -> Uncrossing | None:
    """Return what the auction prints, or None where nothing crosses.

    The reference is the last trade, else the adjusted close. Without one the middle of the interval is taken,
    rounded down; with market orders only and no reference there is no price.
    """
    curves = _Curves(buys, sells)
    ticks = _ticks_that_matter(curves.turns(), reference_ticks)
    if not ticks:
        return None
    limits = sorted({price for price, _ in (*buys.limits, *sells.limits)})
    if not limits and reference_ticks is not None:
        limits = [reference_ticks]
    most = max(curves.at(price)[0] for price in ticks)
    if most == 0:
        return None
    prices = ticks if candidates is AuctionCandidates.TICKS else limits
    tied = [price for price in prices if curves.at(price)[0] == most]
    if not tied:
        tied = [price for price in ticks if curves.at(price)[0] == most]
    least = min(abs(curves.at(price)[1]) for price in tied)
    tied = [price for price in tied if abs(curves.at(price)[1]) == least]
    low, high = _interval(tied, curves, interval)
    price = (low + high) // 2 if reference_ticks is None else min(max(reference_ticks, low), high)
    quantity, imbalance = curves.at(price)
    return Uncrossing(price_ticks=price, quantity_shares=quantity, imbalance_shares=imbalance)


def _ticks_that_matter(turns: list[int], reference_ticks: int | None) -> list[int]:
    """Return enough ticks to stand for all of them: the curves are flat between neighbours of their steps."""
    anchors = turns if reference_ticks is None else [*turns, reference_ticks]
    return sorted({tick for anchor in anchors for tick in (anchor - 1, anchor, anchor + 1) if tick > 0})


def _interval(tied: list[int], curves: _Curves, interval: AuctionInterval) -> tuple[int, int]:
    if interval is AuctionInterval.NARROW:
        with_buy_surplus = [price for price in tied if curves.at(price)[1] > 0]
        with_sell_surplus = [price for price in tied if curves.at(price)[1] < 0]
        if with_buy_surplus and with_sell_surplus:
            return with_buy_surplus[-1], with_sell_surplus[0]
    return tied[0], tied[-1]
