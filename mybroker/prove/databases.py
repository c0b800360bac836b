"""Reading the broker's databases, each in one read-only snapshot. Nothing is ever written.

The addresses are those of the auditor, who may only read; the transactions say so a second time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg

from mybroker.contracts.topics import ORDER_EVENTS, WALLET_EVENTS
from mybroker.prove.rows import (
    BrokerFill,
    BrokerOrder,
    LedgerAccount,
    LedgerBook,
    LedgerHold,
    LedgerTransfer,
    OrdersBook,
    ShardName,
)

ROWS_A_FETCH = 5_000
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60

_DONE: Final = ("filled", "canceled", "rejected", "expired")

_ORDERS: Final[LiteralString] = """
select order_id, account, client_order_id, ticker, side, quantity_shares, hold_price_ticks, cum_shares, filled_cents,
       status, terms_revision, routed
from orders where session_key = %s order by order_id
"""
_FILLS: Final[LiteralString] = """
select f.order_id, f.trade_id, f.price_ticks, f.quantity_shares, f.busted
from order_fill f join orders o using (order_id) where o.session_key = %s order by f.order_id, f.trade_id
"""
_TRANSFERS: Final[LiteralString] = """
select t.id, t.kind, t.purpose, d.owner, c.owner, t.asset, t.amount, t.released, t.pending_id, t.link, t.order_id,
       t.trade_id
from ledger_transfer t join ledger_account d on d.id = t.debit_account join ledger_account c on c.id = t.credit_account
order by t.number
"""
_HOLDS: Final[LiteralString] = """
select order_id, owner, asset, side, quantity_shares, price_ticks, next_quantity_shares, next_price_ticks,
       filled_shares, amount, closed
from order_hold order by order_id
"""
_ACCOUNTS: Final[LiteralString] = """
select owner, asset, debits_posted, credits_posted, debits_pending, credits_pending
from ledger_account where not house order by owner, asset
"""
_UNSENT: Final[LiteralString] = "select count(*) from outbox where sent_at is null"
_NEWEST: Final[LiteralString] = "select coalesce(max(number), 0) from ledger_transfer"
_POSITIONS: Final[LiteralString] = "select partition, next_offset from kafka_position where topic = %s"
_REPORTS: Final[LiteralString] = (
    "select market, shard, last_number from report_position where session_key = %s and log_id = any(%s)"
)

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """Open a connection in one repeatable read, read-only transaction."""
    options = f"-c default_transaction_read_only=on -c statement_timeout={STATEMENT_TIMEOUT_S}s"
    with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S, options=options, application_name="prove") as found:
        found.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        found.read_only = True
        yield found


def read_orders(url: str, session_key: str, log_ids: list[str]) -> OrdersBook:
    """Read broker_orders' tables; positions in other logs than `log_ids` are of days that are gone."""
    with snapshot(url) as connection:
        orders = tuple(_order(row) for row in _rows(connection, _ORDERS, [session_key]))
        fills = tuple(
            BrokerFill(order_id=row[0], trade_id=row[1], price_ticks=row[2], quantity_shares=row[3], busted=row[4])
            for row in _rows(connection, _FILLS, [session_key])
        )
        private: dict[str, list[int]] = defaultdict(list)
        for account, seq in _rows(connection, "select account, seq from private_event order by account, seq", []):
            private[account].append(seq)
        return OrdersBook(
            orders=orders,
            fills=fills,
            applied={
                ShardName(market=market, shard=shard): number
                for market, shard, number in connection.execute(_REPORTS, [session_key, log_ids])
            },
            private_seqs={account: tuple(seqs) for account, seqs in private.items()},
            private_last=dict(_pairs(connection, "select account, last_seq from account", [])),
            positions=dict(_pairs(connection, _POSITIONS, [WALLET_EVENTS])),
            unsent=_count(connection, _UNSENT),
        )


def read_ledger(url: str) -> LedgerBook:
    """Read broker_wallet's tables."""
    with snapshot(url) as connection:
        return LedgerBook(
            transfers=tuple(_transfer(row) for row in _rows(connection, _TRANSFERS, [])),
            accounts=tuple(
                LedgerAccount(
                    owner=row[0],
                    asset=row[1],
                    debits_posted=row[2],
                    credits_posted=row[3],
                    debits_pending=row[4],
                    credits_pending=row[5],
                )
                for row in _rows(connection, _ACCOUNTS, [])
            ),
            holds=tuple(_hold(row) for row in _rows(connection, _HOLDS, [])),
            positions=dict(_pairs(connection, _POSITIONS, [ORDER_EVENTS])),
            unsent=_count(connection, _UNSENT),
            newest=_count(connection, _NEWEST),
        )


def newest_transfer(url: str) -> int:
    """Return the number of the ledger's last transfer; 0 where there is none."""
    with snapshot(url) as connection:
        return _count(connection, _NEWEST)


def _rows(connection: Connection, query: LiteralString, values: list[object]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(name="prove") as cursor:
        cursor.itersize = ROWS_A_FETCH
        yield from cursor.execute(query, values)


def _pairs(connection: Connection, query: LiteralString, values: list[object]) -> Iterator[tuple[Any, int]]:
    for key, number in connection.execute(query, values):
        yield key, int(number)


def _count(connection: Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None, "expected one row of a count"
    return int(row[0])


def _order(row: tuple[Any, ...]) -> BrokerOrder:
    status, quantity_shares, cum_shares = row[9], row[5], row[7]
    return BrokerOrder(
        order_id=row[0],
        account=row[1],
        client_order_id=row[2],
        ticker=row[3],
        side=row[4],
        quantity_shares=quantity_shares,
        hold_price_ticks=row[6],
        cum_shares=cum_shares,
        filled_cents=row[8],
        leaves_shares=0 if status in _DONE else quantity_shares - cum_shares,
        status=status,
        revision=row[10],
        routed=row[11],
    )


def _transfer(row: tuple[Any, ...]) -> LedgerTransfer:
    return LedgerTransfer(
        id=row[0],
        kind=row[1],
        purpose=row[2],
        debit_owner=row[3],
        credit_owner=row[4],
        asset=row[5],
        amount=row[6],
        released=row[7],
        pending_id=row[8],
        link=row[9],
        order_id=row[10],
        trade_id=row[11],
    )


def _hold(row: tuple[Any, ...]) -> LedgerHold:
    return LedgerHold(
        order_id=row[0],
        owner=row[1],
        asset=row[2],
        side=row[3],
        quantity_shares=row[4],
        price_ticks=row[5],
        next_quantity_shares=row[6],
        next_price_ticks=row[7],
        filled_shares=row[8],
        amount=row[9],
        closed=row[10],
    )
