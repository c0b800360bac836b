"""The ledger's decisions: what each operation does to holds and balances.

`Ledger` is a working copy of the accounts, holds and answers that a batch of operations may touch; the caller
gathers them under locks, asks for decisions one after the other, then writes everything the copy says in one
transaction. Always true afterwards: debits equal credits (a transfer has one of each), what is available to a customer
is never below zero, and every open hold holds its cover or, after a debt, what there was.

A fill always posts. What neither the hold nor the available balance covers is lent by the debt account, where it
shows. Settlement at D+2 is not here: cash and shares move against clearing with the trade.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mybroker.domain.money import notional_cents
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from services.broker_wallet.ledger.accounts import (
    CASH,
    CLEARING,
    DEBT,
    DEPOSITS,
    ISSUER,
    AccountKey,
    Balance,
    customer,
    house,
)
from services.broker_wallet.ledger.holds import Hold, Terms
from services.broker_wallet.ledger.operations import (
    Answer,
    BalanceAfter,
    CloseHold,
    ConfirmReplace,
    Deposit,
    Effect,
    Operation,
    Outcome,
    OutcomeKind,
    PlaceHold,
    PostFill,
    RefuseReplace,
    ReverseFill,
)
from services.broker_wallet.ledger.transfers import Book, Purpose, Transfer, TransferKind, TransferRefusal

_UNCHANGED = Outcome(kind=OutcomeKind.UNCHANGED)


class Ledger:
    """A working copy of what a batch of operations may touch."""

    def __init__(
        self,
        *,
        balances: dict[AccountKey, Balance],
        holds: dict[str, Hold],
        answers: dict[str, Answer],
        links: Iterable[str],
    ) -> None:
        """Take balances, holds by order id, answers by key, and the links of transfers already made."""
        self.book = Book(balances, (_pending_of(hold) for hold in holds.values() if hold.pending_id is not None))
        self.holds = holds
        self.answers = answers
        self.links = set(links)
        self.holds_changed: set[str] = set()
        self.answers_new: dict[str, Answer] = {}
        self.effects: list[Effect] = []

    def decide(self, operation: Operation) -> Outcome:
        """Do one operation on the copy."""
        match operation:
            case PlaceHold():
                return self._answered(operation)
            case Deposit():
                return self._answered(operation)
            case PostFill():
                return self._fill(operation)
            case ReverseFill():
                return self._reverse(operation)
            case ConfirmReplace():
                return self._confirm(operation)
            case RefuseReplace():
                return self._refuse_replace(operation)
            case CloseHold():
                return self._close(operation)

    # ------------------------------------------------------------ asked once

    def _answered(self, operation: PlaceHold | Deposit) -> Outcome:
        known = self.answers.get(operation.key)
        if known is not None:
            if known.content != operation.content:
                return Outcome(kind=OutcomeKind.CONFLICT, expected=known.content)
            return Outcome(kind=OutcomeKind.REPEATED, held=known.held, reason=known.reason)
        outcome = self._place(operation) if isinstance(operation, PlaceHold) else self._deposit(operation)
        if outcome.reason is not RejectReason.REPLACE_PENDING:
            answer = Answer(content=operation.content, held=outcome.held, reason=outcome.reason)
            self.answers[operation.key] = self.answers_new[operation.key] = answer
        return outcome

    def _place(self, asked: PlaceHold) -> Outcome:
        hold = self.holds.get(asked.order_id)
        terms = Terms(revision=asked.revision, quantity_shares=asked.quantity_shares, price_ticks=asked.price_ticks)
        if hold is not None and hold.closed:
            return _refused(RejectReason.ID_BARRED)
        if hold is None and asked.revision > 1:
            return _refused(RejectReason.UNKNOWN_ORDER)
        if hold is not None and (hold.owner, hold.asset, hold.side) != (asked.account, asked.asset, asked.side):
            return _refused(RejectReason.UNKNOWN_ORDER)
        if hold is not None and asked.revision <= hold.terms.revision:
            return _refused(RejectReason.TOO_LATE)
        if hold is not None and hold.next_terms is not None:
            return _refused(RejectReason.REPLACE_PENDING)

        wanted = (
            Hold(order_id=asked.order_id, owner=asked.account, asset=asked.asset, side=asked.side, terms=terms)
            if hold is None
            else hold.with_next(terms)
        )
        need = wanted.cover()
        if need <= wanted.amount:
            self._keep(wanted)
            return Outcome(kind=OutcomeKind.UNCHANGED, held=wanted.amount)
        resized, transfers = _resize(wanted, need, link=asked.key, at_ns=asked.at_ns, revision=asked.revision)
        if self.book.make(transfers) is TransferRefusal.EXCEEDS_AVAILABLE:
            buying = asked.side is Side.BUY
            return _refused(RejectReason.INSUFFICIENT_FUNDS if buying else RejectReason.INSUFFICIENT_SHARES)
        assert self.book.transfers[-1].link == asked.key, f"hold {asked.key} was not made"
        self._keep(resized)
        self._tell(asked.key, "held", resized, resized.amount - wanted.amount, asked.at_ns, revision=asked.revision)
        return Outcome(kind=OutcomeKind.DONE, held=resized.amount)

    def _deposit(self, asked: Deposit) -> Outcome:
        linked = []
        if asked.cash_cents:
            linked.append(
                Transfer(
                    id=f"{asked.key}:{CASH}",
                    kind=TransferKind.POSTED,
                    purpose=Purpose.DEPOSIT,
                    debit=house(DEPOSITS, CASH),
                    credit=customer(asked.account, CASH),
                    amount=asked.cash_cents,
                    link=asked.key,
                    at_ns=asked.at_ns,
                )
            )
        linked.extend(
            Transfer(
                id=f"{asked.key}:{shares.asset}",
                kind=TransferKind.POSTED,
                purpose=Purpose.DEPOSIT,
                debit=house(ISSUER, shares.asset),
                credit=customer(asked.account, shares.asset),
                amount=shares.quantity_shares,
                link=asked.key,
                at_ns=asked.at_ns,
                value_cents=shares.cost_cents,
            )
            for shares in asked.shares
        )
        refusal = self.book.make(linked)
        assert refusal is None, f"deposit {asked.deposit_id}: {refusal}"
        for transfer in linked:
            asset = transfer.credit.asset
            self.effects.append(
                Effect(
                    id=transfer.id,
                    account=asked.account,
                    kind="deposited",
                    asset=asset,
                    amount=transfer.amount,
                    at_ns=asked.at_ns,
                    balances=self._balances(asked.account, asset),
                )
            )
        return Outcome(kind=OutcomeKind.DONE)

    # ------------------------------------------------------------ what the exchange says

    def _fill(self, fill: PostFill) -> Outcome:
        if fill.key in self.links:
            return Outcome(kind=OutcomeKind.REPEATED)
        self.links.add(fill.key)
        hold = self.holds.get(fill.order_id) or _unheld(fill)
        shares, cents = fill.quantity_shares, notional_cents(fill.price_ticks, fill.quantity_shares)
        cost = cents if fill.side is Side.BUY else shares
        after = replace(hold, filled_shares=hold.filled_shares + shares)

        linked: list[Transfer] = []
        from_hold = min(cost, hold.amount)
        if from_hold:
            linked.append(self._leg(fill, "post", hold.debit, hold.credit, from_hold, pending=hold))
        missing = cost - from_hold
        available = self.book.balance(hold.debit).available + hold.amount - from_hold
        debt = max(0, missing - available)
        if missing:
            linked.extend(self._without_hold(fill, hold, missing, debt))
            available -= missing - debt
        got_asset, got = (fill.asset, shares) if fill.side is Side.BUY else (CASH, cents)
        linked.append(
            self._leg(
                fill, "get", house(CLEARING, got_asset), customer(fill.account, got_asset), got, value_cents=cents
            )
        )
        again = 0 if hold.closed else min(after.cover(), available)
        after = replace(after, amount=0, pending_id=None)
        if again:
            after, reopened = _reopen(after, again, link=fill.key, at_ns=fill.at_ns, revision=None)
            linked.append(reopened)
        refusal = self.book.make(linked)
        assert refusal is None, f"fill {fill.key} of {fill.account}: {refusal}"
        self._keep(after)
        self.effects.append(
            Effect(
                id=fill.key,
                account=fill.account,
                kind="filled",
                asset=fill.asset,
                amount=shares if fill.side is Side.BUY else -shares,
                at_ns=fill.at_ns,
                balances=self._balances(fill.account, CASH, fill.asset),
                debt=debt,
                debt_asset=hold.held_asset if debt else None,
                order_id=fill.order_id,
                trade_id=fill.trade_id,
            )
        )
        return Outcome(kind=OutcomeKind.DONE, held=after.amount)

    def _reverse(self, fill: ReverseFill) -> Outcome:
        if fill.key in self.links:
            return Outcome(kind=OutcomeKind.REPEATED)
        self.links.add(fill.key)
        cents = notional_cents(fill.price_ticks, fill.quantity_shares)
        buying = fill.side is Side.BUY
        gives, gives_asset = (fill.quantity_shares, fill.asset) if buying else (cents, CASH)
        gets, gets_asset = (cents, CASH) if buying else (fill.quantity_shares, fill.asset)
        payer = customer(fill.account, gives_asset)
        debt = max(0, gives - self.book.balance(payer).available)
        linked = []
        if debt:
            linked.append(self._leg(fill, "debt", house(DEBT, gives_asset), payer, debt, purpose=Purpose.DEBT))
        back = house(CLEARING, gives_asset)
        linked.append(self._leg(fill, "give", payer, back, gives, value_cents=cents if buying else 0))
        getter = customer(fill.account, gets_asset)
        got = self._leg(fill, "get", house(CLEARING, gets_asset), getter, gets, value_cents=0 if buying else cents)
        linked.append(got)
        refusal = self.book.make(linked)
        assert refusal is None, f"reversal {fill.key} of {fill.account}: {refusal}"
        self.effects.append(
            Effect(
                id=fill.key,
                account=fill.account,
                kind="reversed",
                asset=fill.asset,
                amount=-fill.quantity_shares if buying else fill.quantity_shares,
                at_ns=fill.at_ns,
                balances=self._balances(fill.account, CASH, fill.asset),
                debt=debt,
                debt_asset=gives_asset if debt else None,
                order_id=fill.order_id,
                trade_id=fill.trade_id,
            )
        )
        return Outcome(kind=OutcomeKind.DONE)

    def _confirm(self, said: ConfirmReplace) -> Outcome:
        hold = self.holds.get(said.order_id)
        if hold is None or hold.closed or said.revision <= hold.terms.revision:
            return _UNCHANGED
        terms = Terms(revision=said.revision, quantity_shares=said.quantity_shares, price_ticks=said.price_ticks)
        still_next = hold.next_terms if hold.next_terms and hold.next_terms.revision > said.revision else None
        return self._shrink(replace(hold, terms=terms, next_terms=still_next), f"{said.order_id}:{said.revision}", said)

    def _refuse_replace(self, said: RefuseReplace) -> Outcome:
        # A hold for this revision that is still on its way must find it refused.
        if said.key not in self.answers:
            late = Answer(content="", held=0, reason=RejectReason.TOO_LATE)
            self.answers[said.key] = self.answers_new[said.key] = late
        hold = self.holds.get(said.order_id)
        if hold is None or hold.closed or hold.next_terms is None or hold.next_terms.revision > said.revision:
            return _UNCHANGED
        return self._shrink(replace(hold, next_terms=None), f"{said.order_id}:{said.revision}", said)

    def _close(self, said: CloseHold) -> Outcome:
        hold = self.holds.get(said.order_id)
        if hold is None:
            self._keep(replace(_unheld(said), closed=True))
            return Outcome(kind=OutcomeKind.DONE)
        if hold.closed:
            return Outcome(kind=OutcomeKind.REPEATED)
        return self._shrink(replace(hold, closed=True, next_terms=None), f"{said.order_id}:closed", said)

    # ------------------------------------------------------------ pieces

    def _shrink(self, hold: Hold, name: str, said: ConfirmReplace | RefuseReplace | CloseHold) -> Outcome:
        """Let go of what the hold no longer needs, and keep it."""
        need = 0 if hold.closed else hold.cover()
        if need >= hold.amount:
            self._keep(hold)
            return Outcome(kind=OutcomeKind.UNCHANGED, held=hold.amount)
        link = f"release:{name}"
        revision = None if isinstance(said, CloseHold) else said.revision
        smaller, transfers = _resize(hold, need, link=link, at_ns=said.at_ns, revision=revision)
        refusal = self.book.make(transfers)
        assert refusal is None, f"release {link}: {refusal}"
        self._keep(smaller)
        self._tell(link, "released", smaller, hold.amount - smaller.amount, said.at_ns, revision=revision)
        return Outcome(kind=OutcomeKind.DONE, held=smaller.amount)

    def _without_hold(self, fill: PostFill, hold: Hold, missing: int, debt: int) -> list[Transfer]:
        linked = []
        if debt:
            lender = house(DEBT, hold.held_asset)
            linked.append(self._leg(fill, "debt", lender, hold.debit, debt, purpose=Purpose.DEBT))
        linked.append(self._leg(fill, "extra", hold.debit, hold.credit, missing))
        return linked

    def _leg(
        self,
        fill: PostFill | ReverseFill,
        name: str,
        debit: AccountKey,
        credit: AccountKey,
        amount: int,
        *,
        pending: Hold | None = None,
        purpose: Purpose | None = None,
        value_cents: int | None = None,
    ) -> Transfer:
        """Return one transfer of a fill or reversal. Cash has no value but itself; shares are worth the trade."""
        if debit.asset == CASH:
            value_cents = 0
        elif value_cents is None:
            # A sell may deliver in two legs, from the hold and without it: each is worth its part of the trade.
            value_cents = notional_cents(fill.price_ticks, amount) if purpose is None else 0
        return Transfer(
            id=f"{fill.key}:{name}",
            kind=TransferKind.POSTED if pending is None else TransferKind.POST,
            purpose=purpose or (Purpose.FILL if isinstance(fill, PostFill) else Purpose.REVERSAL),
            debit=debit,
            credit=credit,
            amount=amount,
            link=fill.key,
            at_ns=fill.at_ns,
            pending_id=None if pending is None else pending.pending_id,
            released=0 if pending is None else pending.amount - amount,
            value_cents=value_cents,
            order_id=fill.order_id,
            trade_id=fill.trade_id,
        )

    def _keep(self, hold: Hold) -> None:
        self.holds[hold.order_id] = hold
        self.holds_changed.add(hold.order_id)

    def _balances(self, owner: str, *assets: str) -> tuple[BalanceAfter, ...]:
        found = ((asset, self.book.balance(customer(owner, asset))) for asset in assets)
        return tuple(BalanceAfter(asset=asset, available=b.available, held=b.held) for asset, b in found)

    def _tell(self, id_: str, kind: str, hold: Hold, amount: int, at_ns: int, *, revision: int | None) -> None:
        self.effects.append(
            Effect(
                id=id_,
                account=hold.owner,
                kind=kind,
                asset=hold.held_asset,
                amount=amount,
                at_ns=at_ns,
                balances=self._balances(hold.owner, hold.held_asset),
                order_id=hold.order_id,
                revision=revision,
            )
        )


def _refused(reason: RejectReason) -> Outcome:
    return Outcome(kind=OutcomeKind.REFUSED, reason=reason)


def _unheld(said: PostFill | CloseHold) -> Hold:
    """Return the hold of an order for which nothing was ever held."""
    terms = Terms(revision=0, quantity_shares=0, price_ticks=0)
    return Hold(order_id=said.order_id, owner=said.account, asset=said.asset, side=said.side, terms=terms)


def _pending_of(hold: Hold) -> Transfer:
    """Return the open pending transfer of a hold; what it says is all that resolving it needs."""
    assert hold.pending_id is not None, f"hold of {hold.order_id}: nothing pending"
    return Transfer(
        id=hold.pending_id,
        kind=TransferKind.PENDING,
        purpose=Purpose.HOLD,
        debit=hold.debit,
        credit=hold.credit,
        amount=hold.amount,
        link="",
        at_ns=0,
    )


def _reopen(hold: Hold, amount: int, *, link: str, at_ns: int, revision: int | None) -> tuple[Hold, Transfer]:
    number = hold.reopened + 1
    transfer = Transfer(
        id=f"pending:{hold.order_id}:{number}",
        kind=TransferKind.PENDING,
        purpose=Purpose.HOLD,
        debit=hold.debit,
        credit=hold.credit,
        amount=amount,
        link=link,
        at_ns=at_ns,
        order_id=hold.order_id,
        revision=revision,
    )
    return replace(hold, amount=amount, pending_id=transfer.id, reopened=number), transfer


def _resize(hold: Hold, need: int, *, link: str, at_ns: int, revision: int | None) -> tuple[Hold, list[Transfer]]:
    """Return the hold with another amount, and the linked pair that voids the old pending and opens the new."""
    linked = []
    if hold.pending_id is not None:
        linked.append(
            Transfer(
                id=f"void:{hold.pending_id}",
                kind=TransferKind.VOID,
                purpose=Purpose.RELEASE,
                debit=hold.debit,
                credit=hold.credit,
                amount=hold.amount,
                link=link,
                at_ns=at_ns,
                pending_id=hold.pending_id,
                order_id=hold.order_id,
                revision=revision,
            )
        )
    if need == 0:
        return replace(hold, amount=0, pending_id=None), linked
    resized, opened = _reopen(hold, need, link=link, at_ns=at_ns, revision=revision)
    return resized, [*linked, opened]
