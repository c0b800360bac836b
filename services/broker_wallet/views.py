"""What an account sees of the ledger: balances, positions and statement, read from the ledger's rows."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

from mybroker.contracts.http_broker import Cash, Position, Positions, Shares, Statement, StatementEntry, Wallet
from mybroker.domain.money import format_cents
from mybroker.domain.schedule import format_instant
from mybroker.runtime.postgres import Pool
from services.broker_wallet.ledger.accounts import CASH, DEBT
from services.broker_wallet.ledger.positions import average_price_text

_ACCOUNTS: Final[LiteralString] = (
    "select asset, credits_posted - debits_posted, debits_pending, cost_cents, realised_cents"
    " from ledger_account where owner = %s order by asset"
)
_DEBT: Final[LiteralString] = (
    "select coalesce(sum(t.amount), 0)::bigint from ledger_transfer t"
    " join ledger_account c on c.id = t.credit_account join ledger_account d on d.id = t.debit_account"
    " where c.owner = %s and c.asset = %s and d.owner = %s"
)
_STATEMENT: Final[LiteralString] = """
select t.number, t.at_ns, t.purpose, t.kind, t.asset, t.amount, t.released, t.order_id, t.trade_id,
       t.debit_account = any(own.ids)
from (select array_agg(id) as ids from ledger_account where owner = %(owner)s) own,
     lateral (select * from ledger_transfer
              where (debit_account = any(own.ids) or credit_account = any(own.ids)) and number > %(after)s
              order by number limit %(limit)s) t
order by t.number
"""


class Views:
    """Reads for one account at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def wallet(self, account: str) -> Wallet:
        """Return cash and shares; an account nobody paid into has none."""
        rows, debt_cents = await self._accounts(account)
        total_cents = held_cents = 0
        shares = []
        for asset, total, held, _cost, _realised in rows:
            if asset == CASH:
                total_cents, held_cents = total, held
            elif total or held:
                shares.append(Shares(asset=asset, available=total - held, held=held, total=total))
        cash = Cash(
            available=format_cents(total_cents - held_cents),
            held=format_cents(held_cents),
            total=format_cents(total_cents),
            to_settle=format_cents(0),
            debt=format_cents(debt_cents),
        )
        return Wallet(account=account, cash=cash, shares=tuple(shares))

    async def positions(self, account: str) -> Positions:
        """Return quantity, average price and realised result of every asset the account has or had."""
        rows, _debt = await self._accounts(account)
        found = tuple(
            Position(
                asset=asset,
                quantity=total,
                average_price=average_price_text(cost_cents, total),
                cost=format_cents(cost_cents),
                realised=format_cents(realised_cents),
            )
            for asset, total, _held, cost_cents, realised_cents in rows
            if asset != CASH and (total or realised_cents)
        )
        return Positions(account=account, positions=found)

    async def statement(self, account: str, *, after: int, limit: int) -> Statement:
        """Return entries numbered above `after`, oldest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_STATEMENT, {"owner": account, "after": after, "limit": limit + 1})
            rows = await cursor.fetchall()
        entries = tuple(_entry(row) for row in rows[:limit])
        more = len(rows) > limit
        return Statement(account=account, entries=entries, next=str(entries[-1].number) if more else None)

    async def _accounts(self, account: str) -> tuple[Sequence[Sequence[Any]], int]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_ACCOUNTS, [account])
            rows = await cursor.fetchall()
            debt = await (await connection.execute(_DEBT, [account, CASH, DEBT])).fetchone()
        return rows, int(debt[0]) if debt else 0


def _entry(row: Sequence[Any]) -> StatementEntry:
    number, at_ns, purpose, kind, asset, amount, _released, order_id, trade_id, is_debit = row
    gives = is_debit and kind != "void"
    signed = -amount if gives else amount
    return StatementEntry(
        number=number,
        at=format_instant(at_ns),
        kind=purpose,
        asset=asset,
        amount=format_cents(signed) if asset == CASH else None,
        quantity=None if asset == CASH else signed,
        order_id=order_id,
        trade_id=trade_id,
    )
