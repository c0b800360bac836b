"""Transfers: immutable, with an id of the caller's, one debit and one credit of the same asset.

A pending transfer holds; it is posted (in full or in part, the rest is let go) or voided, once. Transfers that are
linked happen all or none. `Book` is the part of the ledger that one decision looks at: balances of customers and
holds that are still pending. A transfer that would take a customer's available balance below zero is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from services.broker_wallet.ledger.accounts import AccountKey, Balance
from services.broker_wallet.ledger.positions import cost_after_credit, cost_and_realised_after_debit


class TransferKind(StrEnum):
    """How a transfer moves its amount."""

    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"


class Purpose(StrEnum):
    """Why a transfer was made."""

    DEPOSIT = "deposit"
    HOLD = "hold"
    RELEASE = "release"
    FILL = "fill"
    DEBT = "debt"
    REVERSAL = "reversal"


class TransferRefusal(StrEnum):
    """Why linked transfers were not made, in order of precedence."""

    PENDING_NOT_FOUND = "pending_not_found"
    PENDING_OF_OTHER_ACCOUNTS = "pending_of_other_accounts"
    EXCEEDS_PENDING = "exceeds_pending"
    EXCEEDS_AVAILABLE = "exceeds_available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One movement. `released` is what a POST lets go of its pending; `value_cents` what shares moved for."""

    id: str
    kind: TransferKind
    purpose: Purpose
    debit: AccountKey
    credit: AccountKey
    amount: int
    link: str
    at_ns: int
    pending_id: str | None = None
    released: int = 0
    value_cents: int = 0
    order_id: str | None = None
    revision: int | None = None
    trade_id: str | None = None

    def __post_init__(self) -> None:
        assert self.debit.asset == self.credit.asset, f"transfer {self.id}: two assets"
        assert self.debit != self.credit, f"transfer {self.id}: an account with itself"
        assert self.amount > 0, f"transfer {self.id}: expected an amount above zero, was {self.amount}"
        resolves = self.kind in (TransferKind.POST, TransferKind.VOID)
        assert resolves == (self.pending_id is not None), f"transfer {self.id}: {self.kind} of {self.pending_id}"


class Book:
    """A working copy: decide on it, then write what `transfers` and `touched` say."""

    def __init__(self, balances: dict[AccountKey, Balance], pending: Iterable[Transfer] = ()) -> None:
        """Take the balances of every customer account that may move, and the pending transfers in reach."""
        self.balances = balances
        self.pending = {transfer.id: transfer for transfer in pending}
        self.transfers: list[Transfer] = []
        self.touched: set[AccountKey] = set()

    def balance(self, key: AccountKey) -> Balance:
        """Return a customer's balance; an account that was not gathered has nothing."""
        return self.balances.get(key, Balance())

    def make(self, linked: Sequence[Transfer]) -> TransferRefusal | None:
        """Make linked transfers, all or none."""
        changed: dict[AccountKey, Balance] = {}
        pending = dict(self.pending)
        for transfer in linked:
            refusal = self._make_one(transfer, changed, pending)
            if refusal is not None:
                return refusal
        # From here all of them are made.
        self.balances.update(changed)
        self.touched.update(changed)
        self.pending = pending
        self.transfers.extend(linked)
        return None

    def _make_one(
        self, transfer: Transfer, changed: dict[AccountKey, Balance], pending: dict[str, Transfer]
    ) -> TransferRefusal | None:
        if transfer.pending_id is not None:
            held = pending.pop(transfer.pending_id, None)
            if held is None:
                return TransferRefusal.PENDING_NOT_FOUND
            if (held.debit, held.credit) != (transfer.debit, transfer.credit):
                return TransferRefusal.PENDING_OF_OTHER_ACCOUNTS
            if transfer.amount + transfer.released != held.amount:
                return TransferRefusal.EXCEEDS_PENDING
        elif transfer.kind is TransferKind.PENDING:
            pending[transfer.id] = transfer
        for key in (transfer.debit, transfer.credit):
            if key.is_house:
                continue
            after = after_transfer(changed.get(key, self.balance(key)), transfer, key)
            if key == transfer.debit and transfer.pending_id is None and after.available < 0:
                return TransferRefusal.EXCEEDS_AVAILABLE
            changed[key] = after
        return None


def after_transfer(balance: Balance, transfer: Transfer, key: AccountKey) -> Balance:
    """Return an account's balance after a transfer in which it takes part."""
    if key == transfer.credit:
        return _after_credit(balance, transfer)
    amount = transfer.amount
    match transfer.kind:
        case TransferKind.PENDING:
            return replace(balance, debits_pending=balance.debits_pending + amount)
        case TransferKind.VOID:
            return replace(balance, debits_pending=balance.debits_pending - amount)
        case TransferKind.POST:
            freed = replace(balance, debits_pending=balance.debits_pending - amount - transfer.released)
            return _after_debit(freed, transfer)
        case TransferKind.POSTED:
            return _after_debit(balance, transfer)


def _after_credit(balance: Balance, transfer: Transfer) -> Balance:
    match transfer.kind:
        case TransferKind.PENDING:
            return replace(balance, credits_pending=balance.credits_pending + transfer.amount)
        case TransferKind.VOID:
            return replace(balance, credits_pending=balance.credits_pending - transfer.amount)
        case TransferKind.POST:
            balance = replace(balance, credits_pending=balance.credits_pending - transfer.amount - transfer.released)
        case TransferKind.POSTED:
            pass
    return replace(
        balance,
        credits_posted=balance.credits_posted + transfer.amount,
        cost_cents=cost_after_credit(balance.cost_cents, transfer.value_cents),
    )


def _after_debit(balance: Balance, transfer: Transfer) -> Balance:
    cost_cents, realised_cents = balance.cost_cents, balance.realised_cents
    if transfer.value_cents or cost_cents:
        if balance.total < transfer.amount:
            # Refused by the caller: the balance after shows it, and a cost of what is not there has no meaning.
            return replace(balance, debits_posted=balance.debits_posted + transfer.amount)
        cost_cents, realised_cents = cost_and_realised_after_debit(
            quantity_shares=balance.total,
            cost_cents=cost_cents,
            realised_cents=realised_cents,
            sold_shares=transfer.amount,
            value_cents=transfer.value_cents,
        )
    return replace(
        balance,
        debits_posted=balance.debits_posted + transfer.amount,
        cost_cents=cost_cents,
        realised_cents=realised_cents,
    )
