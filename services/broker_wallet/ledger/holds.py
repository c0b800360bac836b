"""Holds: what an open order may still cost, kept pending until it is filled or done.

A buy holds reais: quantity times the worst price it can pay. A sell holds the shares. While a replace is under way
either terms may turn out to be in force, so the hold covers the dearest course of events: the old terms to the end,
the new terms from now, or fills under the old terms first and the new terms afterwards. A fill therefore never needs
more than is held, and what a better price saves is let go with the fill.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mybroker.domain.money import notional_cents
from mybroker.domain.order import Side
from services.broker_wallet.ledger.accounts import CASH, CLEARING, AccountKey, customer, house


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an order's revision asks for in all; `price_ticks` is the worst price of a buy and 0 for a sell."""

    revision: int
    quantity_shares: int
    price_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is held for one order. `pending_id` names the open pending transfer; None while nothing is held.

    `closed`: the order is done, or its id is barred; nothing can be held for it again.
    """

    order_id: str
    owner: str
    asset: str
    side: Side
    terms: Terms
    next_terms: Terms | None = None
    filled_shares: int = 0
    amount: int = 0
    pending_id: str | None = None
    reopened: int = 0
    closed: bool = False

    @property
    def debit(self) -> AccountKey:
        """Return the customer's account that pays or delivers."""
        return customer(self.owner, self.held_asset)

    @property
    def credit(self) -> AccountKey:
        """Return the clearing account that gets it."""
        return house(CLEARING, self.held_asset)

    @property
    def held_asset(self) -> str:
        """Return what is held: reais for a buy, the shares for a sell."""
        return CASH if self.side is Side.BUY else self.asset

    def cover(self) -> int:
        """Return what must be held now, in cents or shares."""
        return cover(self.side, self.terms, self.next_terms, self.filled_shares)

    def with_next(self, terms: Terms) -> Hold:
        """Return the hold with a replace under way."""
        return replace(self, next_terms=terms)


def cover(side: Side, terms: Terms, next_terms: Terms | None, filled_shares: int) -> int:
    """Return what the dearest course of events needs from here, in cents (buy) or shares (sell)."""
    if next_terms is None:
        return _need(side, terms.quantity_shares - filled_shares, terms.price_ticks)
    courses = [
        _need(side, terms.quantity_shares - filled_shares, terms.price_ticks),
        _need(side, next_terms.quantity_shares - filled_shares, next_terms.price_ticks),
    ]
    both_shares = min(terms.quantity_shares, next_terms.quantity_shares) - filled_shares
    if both_shares > 0:
        rest_shares = next_terms.quantity_shares - filled_shares - both_shares
        first = _need(side, both_shares, terms.price_ticks)
        courses.append(first + _need(side, rest_shares, next_terms.price_ticks))
    return max(courses)


def _need(side: Side, quantity_shares: int, price_ticks: int) -> int:
    open_shares = max(0, quantity_shares)
    return notional_cents(price_ticks, open_shares) if side is Side.BUY else open_shares
