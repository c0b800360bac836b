"""Checks of the ledger: its own laws, and that it moved for the exchange's trades and for nothing else. Pure.

Everything is computed anew from the transfers: balances, what is held, what is issued. What an order holds is
compared with the wallet's own rule (`holds.cover`) over the exchange's open remainder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from mybroker.domain.instrument import asset_of
from mybroker.domain.order import Side
from mybroker.prove.checks import Check
from mybroker.prove.exchange import ExchangeView, TradeSide
from mybroker.prove.rows import CASH, HOUSE, LedgerAccount, LedgerBook, LedgerHold, LedgerTransfer
from services.broker_wallet.ledger.holds import Terms, cover

ISSUER = "house:issuer"
_MOVES = frozenset({"posted", "post"})
Key = tuple[str, str]
"""Owner and asset."""


def check_debits_and_credits(book: LedgerBook) -> Check:
    """Debits equal credits per asset, with customers' debits and credits taken from their stored balances."""
    check = Check(name="debits equal credits", unit="transfers")
    debits: dict[str, int] = defaultdict(int)
    credits_: dict[str, int] = defaultdict(int)
    for transfer in book.transfers:
        check.compared += 1
        if transfer.kind not in _MOVES:
            continue
        if transfer.debit_owner.startswith(HOUSE):
            debits[transfer.asset] += transfer.amount
        if transfer.credit_owner.startswith(HOUSE):
            credits_[transfer.asset] += transfer.amount
    for account in book.accounts:
        debits[account.asset] += account.debits_posted
        credits_[account.asset] += account.credits_posted
    for asset in sorted(debits.keys() | credits_.keys()):
        if debits[asset] != credits_[asset]:
            check.differ(f"{asset}: debits are {debits[asset]}, credits {credits_[asset]}")
    return check


def check_balances(book: LedgerBook) -> Check:
    """Every stored balance is the sum of its entries."""
    check = Check(name="balances equal the sum of entries", unit="accounts")
    sums = balances_from(book.transfers)
    for account in book.accounts:
        check.compared += 1
        total = sums.pop((account.owner, account.asset), None) or LedgerAccount(
            owner=account.owner, asset=account.asset
        )
        if total != account:
            check.differ(f"{account.owner} {account.asset}: entries give {_said(total)}, stored is {_said(account)}")
    for owner, asset in sums:
        check.differ(f"{owner} {asset}: has entries, and no balance")
    return check


def balances_from(transfers: tuple[LedgerTransfer, ...]) -> dict[Key, LedgerAccount]:
    """Return the customers' balances that the entries give."""
    sums: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for transfer in transfers:
        posted = transfer.amount if transfer.kind in _MOVES else 0
        pending = {
            "pending": transfer.amount,
            "post": -transfer.amount - transfer.released,
            "void": -transfer.amount,
        }.get(transfer.kind, 0)
        debit, credit = sums[transfer.debit_owner, transfer.asset], sums[transfer.credit_owner, transfer.asset]
        debit[0] += posted
        debit[2] += pending
        credit[1] += posted
        credit[3] += pending
    return {
        (owner, asset): LedgerAccount(
            owner=owner,
            asset=asset,
            debits_posted=s[0],
            credits_posted=s[1],
            debits_pending=s[2],
            credits_pending=s[3],
        )
        for (owner, asset), s in sums.items()
        if not owner.startswith(HOUSE)
    }


def _said(account: LedgerAccount) -> str:
    return f"{account.total} with {account.debits_pending} held"


def check_available(book: LedgerBook) -> Check:
    """Nobody has less than nothing available."""
    check = Check(name="available is never negative", unit="accounts")
    for account in book.accounts:
        check.compared += 1
        available = account.total - account.debits_pending
        if available < 0:
            check.differ(f"{account.owner} {account.asset}: available is {available}")
    return check


def check_holds(book: LedgerBook, exchange: ExchangeView) -> Check:
    """What is held is what open orders may still cost: by order, and in all by account. Nothing after the close."""
    check = Check(name="held equals the open orders' remainder", unit="holds")
    in_debt = {transfer.credit_owner for transfer in book.transfers if transfer.purpose == "debt"}
    held: dict[Key, int] = defaultdict(int)
    for hold in book.holds:
        check.compared += 1
        held[hold.owner, CASH if hold.side == "buy" else hold.asset] += hold.amount
        order = exchange.orders.get(hold.order_id)
        what = f"order {hold.order_id} of {hold.owner}"
        if order is not None and order.state == "live":
            check.expect(f"{what}, filled shares at its hold", order.cum_shares, hold.filled_shares)
            needed = _needed(hold)
            if hold.closed:
                check.differ(f"{what}: {order.leaves_shares} shares are open at the exchange, its hold is closed")
            elif needed != hold.amount and hold.owner not in in_debt:
                check.differ(f"{what}: its remainder needs {needed}, held is {hold.amount}")
            elif hold.next_quantity_shares is None:
                check.expect(f"{what}, open shares at its hold", order.leaves_shares, _open_shares(hold))
        elif order is not None and hold.amount:
            check.differ(f"{what}: it is {order.state} at the exchange, {hold.amount} is still held")
        elif order is None and not hold.closed:
            check.in_flight += 1
    for account in book.accounts:
        key = (account.owner, account.asset)
        if held.get(key, 0) != account.debits_pending:
            check.differ(
                f"{account.owner} {account.asset}: holds add up to {held.get(key, 0)}, held is {account.debits_pending}"
            )
    return check


def check_every_order_was_held(book: LedgerBook, exchange: ExchangeView) -> Check:
    """No order reached the exchange without a hold of its own in the ledger."""
    check = Check(name="every order at the exchange was held for", unit="orders")
    held = {transfer.order_id for transfer in book.transfers if transfer.purpose == "hold"}
    for order in exchange.orders.values():
        check.compared += 1
        if order.order_id not in held:
            check.differ(
                f"order {order.order_id} of {order.account}: it is at the exchange, nothing was ever held for it"
            )
    return check


def _open_shares(hold: LedgerHold) -> int:
    return 0 if hold.closed else hold.quantity_shares - hold.filled_shares


def _needed(hold: LedgerHold) -> int:
    terms = Terms(revision=0, quantity_shares=hold.quantity_shares, price_ticks=hold.price_ticks)
    following = None
    if hold.next_quantity_shares is not None:
        next_price = hold.price_ticks if hold.next_price_ticks is None else hold.next_price_ticks
        following = Terms(revision=1, quantity_shares=hold.next_quantity_shares, price_ticks=next_price)
    return cover(Side(hold.side), terms, following, hold.filled_shares)


def check_issued(book: LedgerBook) -> Check:
    """Shares in all accounts are the shares issued, asset by asset."""
    check = Check(name="shares in all accounts equal shares issued", unit="assets")
    issued: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for transfer in book.transfers:
        if transfer.asset == CASH or transfer.kind not in _MOVES:
            continue
        for owner, sign in ((transfer.debit_owner, -1), (transfer.credit_owner, 1)):
            if owner == ISSUER:
                issued[transfer.asset] -= sign * transfer.amount
            elif owner.startswith(HOUSE):
                held[transfer.asset] += sign * transfer.amount
    for account in book.accounts:
        if account.asset != CASH:
            held[account.asset] += account.total
    for asset in sorted(issued.keys() | held.keys()):
        check.compared += 1
        check.expect(f"{asset}, shares in all accounts", issued[asset], held[asset])
    return check


def check_postings(book: LedgerBook, exchange: ExchangeView) -> Check:
    """Every side of the broker's trades moved the ledger once, by its shares and its cents, and nothing else did."""
    check = Check(name="every trade is once in the ledger", unit="trade sides")
    moved = _moved_by_trade(book)
    for key, side in exchange.sides.items():
        check.compared += 1
        what = f"order {side.order_id}, trade {side.trade_id} ({side.side.value} {side.quantity_shares} {side.ticker})"
        was = moved.pop(key, None)
        if was is None:
            check.differ(f"{what}: is at the exchange, not in the ledger")
            continue
        expected = {} if side.trade_id in exchange.busted else _expected_move(side)
        found = {asset: amount for asset, amount in was.items() if amount}
        check.expect(f"{what}, what the ledger moved for {side.account}", _words(expected), _words(found))
    for (order_id, trade_id), was in moved.items():
        check.differ(
            f"order {order_id}, trade {trade_id}: the ledger moved {_words(was)}, the exchange has no such trade"
        )
    return check


def _moved_by_trade(book: LedgerBook) -> dict[tuple[str, str], dict[Key, int]]:
    moved: dict[tuple[str, str], dict[Key, int]] = {}
    for transfer in book.transfers:
        if transfer.purpose not in ("fill", "reversal") or transfer.kind not in _MOVES:
            continue
        by_key = moved.setdefault((transfer.order_id or "?", transfer.trade_id or "?"), defaultdict(int))
        for owner, sign in ((transfer.debit_owner, -1), (transfer.credit_owner, 1)):
            if not owner.startswith(HOUSE):
                by_key[owner, transfer.asset] += sign * transfer.amount
    return moved


def _expected_move(side: TradeSide) -> dict[Key, int]:
    cents = side.price_ticks * side.quantity_shares
    sign = 1 if side.side is Side.BUY else -1
    moves = {(side.account, CASH): -sign * cents, (side.account, asset_of(side.ticker)): sign * side.quantity_shares}
    return {key: amount for key, amount in moves.items() if amount}


def _words(moves: dict[Key, int]) -> str:
    return ", ".join(f"{owner} {asset} {amount:+d}" for (owner, asset), amount in sorted(moves.items())) or "nothing"


def check_accounts(book: LedgerBook, exchange: ExchangeView) -> Check:
    """Each account's cash and shares are its opening balances plus and minus its trades at the exchange."""
    check = Check(name="cash and shares equal opening balances and the exchange's trades", unit="balances")
    expected: dict[Key, int] = defaultdict(int)
    for owner, asset, amount in _deposits_and_debts(book):
        expected[owner, asset] += amount
    for side in exchange.of_participant():
        for key, amount in _expected_move(side).items():
            expected[key] += amount
    for account in book.accounts:
        check.compared += 1
        what = f"{account.owner} {account.asset}"
        check.expect(what, expected.pop((account.owner, account.asset), 0), account.total)
    for (owner, asset), amount in expected.items():
        if amount:
            check.differ(f"{owner} {asset}: expected {amount}, was no such account")
    return check


def _deposits_and_debts(book: LedgerBook) -> Iterator[tuple[str, str, int]]:
    for transfer in book.transfers:
        if transfer.purpose in ("deposit", "debt") and transfer.kind in _MOVES:
            for owner, sign in ((transfer.debit_owner, -1), (transfer.credit_owner, 1)):
                if not owner.startswith(HOUSE):
                    yield owner, transfer.asset, sign * transfer.amount


def check_resolved_once(book: LedgerBook) -> Check:
    """Every hold of the ledger is posted or voided at most once, by exactly its amount."""
    check = Check(name="every pending transfer resolves once", unit="resolutions")
    pending = {transfer.id: transfer.amount for transfer in book.transfers if transfer.kind == "pending"}
    resolved: set[str] = set()
    for transfer in book.transfers:
        if transfer.pending_id is None:
            continue
        check.compared += 1
        what = f"transfer {transfer.id} resolves {transfer.pending_id}"
        if transfer.pending_id in resolved:
            check.differ(f"{what}: it was resolved before")
        resolved.add(transfer.pending_id)
        if transfer.pending_id not in pending:
            check.differ(f"{what}: there is no such pending transfer")
        else:
            check.expect(what, pending[transfer.pending_id], transfer.amount + transfer.released)
    return check
