"""Ledger stories as text: one operation a line, then what it answers and what the account has afterwards.

    deposit 1000.00                       ->  ok            | BRL 1000.00/0.00
    hold o1 buy 100 PETR4 @ 5.00          ->  ok            | BRL 500.00/500.00
    fill o1 t1 100 @ 4.90                 ->  ok            | BRL 510.00/0.00  PETR4 100/0

Balances read available/held. Only the assets that are named are compared.
"""

from mybroker.domain.money import format_cents, parse_cents
from mybroker.domain.order import Side
from services.broker_wallet.ledger.accounts import CASH, customer
from services.broker_wallet.ledger.ledger import Ledger
from services.broker_wallet.ledger.operations import (
    CloseHold,
    ConfirmReplace,
    Deposit,
    DepositShares,
    Operation,
    Outcome,
    PlaceHold,
    PostFill,
    RefuseReplace,
    ReverseFill,
)

ACCOUNT = "ana"


def cents(text: str) -> int:
    found = parse_cents(text)
    assert found is not None, text
    return found


class LedgerStory:
    """Runs the lines of one story on one ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger(balances={}, holds={}, answers={}, links=[])
        self.sides: dict[str, tuple[Side, str]] = {}
        self.deposits = 0

    def run(self, text: str) -> None:
        for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
            asked, _, expected = line.partition("->")
            answer, _, balances = expected.partition("|")
            outcome = self.ledger.decide(self.operation(asked.split()))
            assert said(outcome) == answer.strip(), f"line {number}: {line}"
            for part in balances.split("  "):
                if part.strip():
                    asset, figures = part.split()
                    assert self.shown(asset) == figures, f"line {number}: {line}"
            check_ledger(self.ledger)

    def operation(self, words: list[str]) -> Operation:
        match words:
            case ["deposit", amount, *shares]:
                self.deposits += 1
                parts = tuple(
                    DepositShares(asset=asset, quantity_shares=int(quantity), cost_cents=0)
                    for quantity, asset in zip(shares[::2], shares[1::2], strict=True)
                )
                return Deposit(
                    deposit_id=str(self.deposits), account=ACCOUNT, cash_cents=cents(amount), shares=parts, at_ns=0
                )
            case ["hold", order_id, side, quantity, asset, "@", price]:
                self.sides[order_id] = (Side(side), asset)
                return self.hold(order_id, 1, int(quantity), cents(price))
            case ["replace", order_id, revision, quantity, "@", price]:
                return self.hold(order_id, int(revision), int(quantity), cents(price))
            case ["confirm", order_id, revision, quantity, "@", price]:
                side, asset = self.sides[order_id]
                return ConfirmReplace(
                    order_id=order_id,
                    account=ACCOUNT,
                    asset=asset,
                    side=side,
                    revision=int(revision),
                    quantity_shares=int(quantity),
                    price_ticks=cents(price) if side is Side.BUY else 0,
                    at_ns=0,
                )
            case ["refuse", order_id, revision]:
                side, asset = self.sides[order_id]
                return RefuseReplace(
                    order_id=order_id, account=ACCOUNT, asset=asset, side=side, revision=int(revision), at_ns=0
                )
            case ["fill" | "bust" as verb, order_id, trade_id, quantity, "@", price]:
                side, asset = self.sides[order_id]
                kind = PostFill if verb == "fill" else ReverseFill
                return kind(
                    order_id=order_id,
                    account=ACCOUNT,
                    asset=asset,
                    side=side,
                    trade_id=trade_id,
                    price_ticks=cents(price),
                    quantity_shares=int(quantity),
                    at_ns=0,
                )
            case ["close", order_id]:
                side, asset = self.sides.setdefault(order_id, (Side.BUY, "PETR4"))
                return CloseHold(order_id=order_id, account=ACCOUNT, asset=asset, side=side, at_ns=0)
            case _:
                raise AssertionError(f"no operation: {words}")

    def hold(self, order_id: str, revision: int, quantity_shares: int, price_ticks: int) -> PlaceHold:
        side, asset = self.sides[order_id]
        return PlaceHold(
            order_id=order_id,
            revision=revision,
            account=ACCOUNT,
            asset=asset,
            side=side,
            quantity_shares=quantity_shares,
            price_ticks=price_ticks if side is Side.BUY else 0,
            at_ns=0,
        )

    def shown(self, asset: str) -> str:
        balance = self.ledger.book.balance(customer(ACCOUNT, asset))
        if asset == CASH:
            return f"{format_cents(balance.available)}/{format_cents(balance.held)}"
        return f"{balance.available}/{balance.held}"


def said(outcome: Outcome) -> str:
    if outcome.reason is not None:
        return outcome.reason.value
    return "ok" if outcome.kind == "done" else outcome.kind.value


def check_ledger(ledger: Ledger) -> None:
    """What is true after every operation, recomputed from the transfers."""
    totals: dict[tuple[str, str], int] = {}
    pending: dict[str, int] = {}
    for transfer in ledger.book.transfers:
        if transfer.kind in ("posted", "post"):
            totals[transfer.debit.owner, transfer.debit.asset] = (
                totals.get((transfer.debit.owner, transfer.debit.asset), 0) - transfer.amount
            )
            totals[transfer.credit.owner, transfer.credit.asset] = (
                totals.get((transfer.credit.owner, transfer.credit.asset), 0) + transfer.amount
            )
        if transfer.kind == "pending":
            pending[transfer.id] = transfer.amount
        elif transfer.pending_id is not None:
            assert pending.pop(transfer.pending_id) == transfer.amount + transfer.released
    assert len({transfer.id for transfer in ledger.book.transfers}) == len(ledger.book.transfers)
    by_asset: dict[str, int] = {}
    for (_owner, asset), amount in totals.items():
        by_asset[asset] = by_asset.get(asset, 0) + amount
    assert not any(by_asset.values()), by_asset
    for key, balance in ledger.book.balances.items():
        assert balance.total == totals.get((key.owner, key.asset), 0), key
        assert balance.available >= 0, key
        held = sum(h.amount for h in ledger.holds.values() if h.debit == key)
        assert balance.held == held, key
    open_holds = {h.pending_id: h.amount for h in ledger.holds.values() if h.pending_id is not None}
    assert open_holds == pending
