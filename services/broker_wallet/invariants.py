"""What is always true of the ledger, recomputed from its entries.

Each check is one query that returns the differences; none means that the invariant holds. All queries of a run see
one snapshot. The pure rules are asked again where they decide: the cover of every open hold and the cost of every
position are computed anew and compared.
"""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import msgspec

from mybroker.runtime.postgres import Connection, Pool
from mybroker.runtime.telemetry import gauge
from services.broker_wallet.ledger.positions import cost_after_credit, cost_and_realised_after_debit
from services.broker_wallet.store import hold_of

DIFFERENCES_SHOWN_MAX = 10
ROWS_A_FETCH = 5_000

_DIFFERENCES = gauge("mbb3_ledger_differences", "Differences from an invariant of the ledger", ["invariant"])
_DEBT = gauge("mbb3_ledger_debt", "What customers owe, in cents or shares", ["asset"])

_QUERIES: Final[tuple[tuple[str, LiteralString], ...]] = (
    (
        "debits_equal_credits",
        """select a.asset, sum(t.debits_posted) as debits, sum(t.credits_posted) as credits
             from ledger_entry_total t join ledger_account a on a.id = t.account group by a.asset
             having sum(t.debits_posted) <> sum(t.credits_posted)
                 or sum(t.debits_pending) <> sum(t.credits_pending)""",
    ),
    (
        "balances_equal_entries",
        """select a.owner, a.asset, a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending,
                    t.debits_posted, t.credits_posted, t.debits_pending, t.credits_pending
             from ledger_account a left join ledger_entry_total t on t.account = a.id
             where not a.house
               and (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending)
                   <> (coalesce(t.debits_posted, 0), coalesce(t.credits_posted, 0),
                       coalesce(t.debits_pending, 0), coalesce(t.credits_pending, 0))""",
    ),
    (
        "transfers_keep_their_asset",
        """select t.id, t.asset, d.asset, c.asset from ledger_transfer t
           left join ledger_account d on d.id = t.debit_account left join ledger_account c on c.id = t.credit_account
           where d.asset is distinct from t.asset or c.asset is distinct from t.asset""",
    ),
    (
        "available_is_not_negative",
        """select owner, asset, credits_posted - debits_posted - debits_pending from ledger_account
           where not house and credits_posted - debits_posted - debits_pending < 0""",
    ),
    (
        "held_equals_open_holds",
        """select a.owner, a.asset, a.debits_pending, coalesce(h.amount, 0)
           from ledger_account a
           left join (select owner, case side when 'buy' then 'BRL' else asset end as asset, sum(amount) as amount
                      from order_hold group by 1, 2) h on h.owner = a.owner and h.asset = a.asset
           where not a.house and a.debits_pending <> coalesce(h.amount, 0)""",
    ),
    (
        "closed_orders_hold_nothing",
        "select order_id, owner, amount from order_hold where closed and amount <> 0",
    ),
    (
        "pending_resolves_once",
        """select r.pending_id, p.amount, r.amount + r.released from ledger_transfer r
           left join ledger_transfer p on p.id = r.pending_id and p.kind = 'pending'
           where r.pending_id is not null and (p.id is null or p.amount <> r.amount + r.released)""",
    ),
    (
        "open_pendings_are_the_holds",
        """select p.id, p.amount, h.order_id, h.amount
           from (select p.* from ledger_transfer p left join ledger_transfer r on r.pending_id = p.id
                 where p.kind = 'pending' and r.id is null) p
           full join (select * from order_hold where pending_id is not null) h on h.pending_id = p.id
           where p.id is null or h.order_id is null or p.amount <> h.amount""",
    ),
    (
        "shares_equal_issued",
        """with held as (
             select a.asset,
                    sum(case when a.owner = 'house:issuer' then 0
                             when a.house then t.credits_posted - t.debits_posted
                             else a.credits_posted - a.debits_posted end) as in_accounts,
                    sum(case when a.owner = 'house:issuer' then t.debits_posted - t.credits_posted else 0 end) as issued
             from ledger_account a join ledger_entry_total t on t.account = a.id
             where a.asset <> 'BRL' group by a.asset)
           select asset, in_accounts, issued from held where in_accounts <> issued""",
    ),
)

_DEBTS: Final[LiteralString] = """
select asset, sum(amount) from ledger_transfer where purpose = 'debt' group by asset
"""
_SHARE_ENTRIES: Final[LiteralString] = """
select a.id, a.owner, a.asset, a.cost_cents, a.realised_cents, t.debit_account = a.id, t.amount, t.value_cents
from ledger_account a join ledger_transfer t on a.id in (t.debit_account, t.credit_account)
where not a.house and a.asset <> 'BRL' and t.kind in ('posted', 'post')
order by a.id, t.number
"""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant: whether it holds, and the first differences."""

    name: str
    ok: bool
    differences: int
    first: tuple[str, ...]


class Invariants(msgspec.Struct, frozen=True, kw_only=True):
    """All invariants of one snapshot."""

    ok: bool
    transfers: int
    checks: tuple[Check, ...]
    debt: dict[str, int]


async def check_invariants(pool: Pool) -> Invariants:
    """Recompute everything in one snapshot and set the gauges."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("set transaction isolation level repeatable read read only")
        checks = []
        for name, query in _QUERIES:
            cursor = await connection.execute(query)
            checks.append(_check(name, await cursor.fetchall()))
        checks.append(_check("open_holds_cover_their_orders", await _uncovered(connection)))
        checks.append(_check("positions_equal_entries", await _misvalued(connection)))
        debts = {row[0]: int(row[1]) for row in await (await connection.execute(_DEBTS)).fetchall()}
        count = await (await connection.execute("select count(*) from ledger_transfer")).fetchone()
    for check in checks:
        _DIFFERENCES.labels(check.name).set(check.differences)
    for asset, amount in debts.items():
        _DEBT.labels(asset).set(amount)
    transfers = int(count[0]) if count else 0
    return Invariants(ok=all(check.ok for check in checks), transfers=transfers, checks=tuple(checks), debt=debts)


async def _uncovered(connection: Connection) -> list[tuple[Any, ...]]:
    """Open holds that hold something else than the rules say; an account in debt may hold less."""
    cursor = await connection.execute(
        "select order_id, owner, asset, side, revision, quantity_shares, price_ticks, next_revision,"
        " next_quantity_shares, next_price_ticks, filled_shares, amount, pending_id, reopened, closed,"
        " exists (select from ledger_transfer t join ledger_account a on a.id = t.credit_account"
        "         where t.purpose = 'debt' and a.owner = order_hold.owner) as in_debt"
        " from order_hold where not closed"
    )
    found = []
    for row in await cursor.fetchall():
        hold = hold_of(row)
        cover = hold.cover()
        if hold.amount != cover and not row[15]:
            found.append((hold.order_id, hold.owner, hold.amount, cover))
    return found


async def _misvalued(connection: Connection) -> list[tuple[Any, ...]]:
    """Share accounts whose cost or result is not what their entries, folded in order, give."""
    found: list[tuple[Any, ...]] = []
    now: tuple[Any, ...] | None = None
    shares = cost = realised = 0
    async with connection.cursor(name="share_entries") as cursor:
        cursor.itersize = ROWS_A_FETCH
        await cursor.execute(_SHARE_ENTRIES)
        async for number, owner, asset, cost_stored, realised_stored, is_debit, amount, value in cursor:
            account = (number, owner, asset, cost_stored, realised_stored)
            if account != now:
                _compare(found, now, cost, realised)
                now, shares, cost, realised = account, 0, 0, 0
            if not is_debit:
                shares, cost = shares + amount, cost_after_credit(cost, value)
                continue
            if (value or cost) and shares >= amount:
                cost, realised = cost_and_realised_after_debit(
                    quantity_shares=shares,
                    cost_cents=cost,
                    realised_cents=realised,
                    sold_shares=amount,
                    value_cents=value,
                )
            shares -= amount
    _compare(found, now, cost, realised)
    return found


def _compare(found: list[tuple[Any, ...]], account: tuple[Any, ...] | None, cost: int, realised: int) -> None:
    if account is not None and (cost, realised) != account[3:]:
        found.append((*account[1:], cost, realised))


def _check(name: str, rows: Sequence[tuple[Any, ...]]) -> Check:
    first = tuple(" ".join(str(value) for value in row) for row in rows[:DIFFERENCES_SHOWN_MAX])
    return Check(name=name, ok=not rows, differences=len(rows), first=first)
