"""Accounts of the ledger: one per (owner, asset), with debits and credits posted and pending.

Cash is the asset "BRL" in cents, shares are assets of their own in shares. What a customer has is credits minus
debits; a pending debit is money or shares that are held. House accounts are the other side of every transfer: they
are append-only (their balance is the sum of their entries, never a row that is updated), so they never become a
convoy, and they have no limit.
"""

from __future__ import annotations

from dataclasses import dataclass

CASH = "BRL"

HOUSE_PREFIX = "house:"
CLEARING = "house:clearing"
"""The exchange's side of every trade."""
DEPOSITS = "house:deposits"
"""Where customers' cash comes from."""
ISSUER = "house:issuer"
"""Where shares come from: its debits are what is issued."""
DEBT = "house:debt"
"""What was missing when a fill had to be posted all the same: its debits are what customers owe."""

HOUSE_OWNERS = (CLEARING, DEPOSITS, ISSUER, DEBT)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AccountKey:
    """Whose account of which asset."""

    owner: str
    asset: str

    @property
    def is_house(self) -> bool:
        """Say whether this is one of the house's accounts."""
        return self.owner.startswith(HOUSE_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Totals of one customer account. `cost_cents` and `realised_cents` belong to share accounts: see `positions`."""

    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    cost_cents: int = 0
    realised_cents: int = 0

    @property
    def total(self) -> int:
        """Return what the owner has, held or not."""
        return self.credits_posted - self.debits_posted

    @property
    def held(self) -> int:
        """Return what open orders hold."""
        return self.debits_pending

    @property
    def available(self) -> int:
        """Return what may still be spent."""
        return self.total - self.debits_pending


def customer(owner: str, asset: str) -> AccountKey:
    """Return a customer's account; an owner that names itself house is a bug."""
    key = AccountKey(owner=owner, asset=asset)
    assert not key.is_house, f"expected a customer, was {owner}"
    return key


def house(owner: str, asset: str) -> AccountKey:
    """Return one of the house's accounts."""
    assert owner in HOUSE_OWNERS, f"expected one of {HOUSE_OWNERS}, was {owner}"
    return AccountKey(owner=owner, asset=asset)
