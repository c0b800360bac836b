"""What is read of orders and private events: pages for their owner, positions for consumers, what is overdue."""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec
from psycopg.rows import dict_row

from mybroker.contracts.http_broker import Order as OrderView
from mybroker.contracts.http_broker import OrderList
from mybroker.runtime.postgres import Pool
from services.broker_orders.lifecycle import Order
from services.broker_orders.operations import Overdue
from services.broker_orders.order_view import order_view
from services.broker_orders.store import DOOR_AGGREGATE, ReportKey, fill_row, order_of

OVERDUE_BATCH_MAX = 100

_BY_ID: Final[LiteralString] = "select * from orders where order_id = %s"
_BY_CLIENT_ID: Final[LiteralString] = "select * from orders where account = %s and client_order_id = %s"
_PAGE: Final[LiteralString] = """
select * from orders
where (%(account)s::text is null or account = %(account)s)
  and (%(before)s::text is null or order_id < %(before)s)
  and (%(status)s::text[] is null or status = any(%(status)s))
  and (%(ticker)s::text is null or ticker = %(ticker)s)
  and (%(client_order_id)s::text is null or client_order_id = %(client_order_id)s)
order by order_id desc limit %(limit)s
"""
_FILLS: Final[LiteralString] = (
    "select order_id, trade_id, market, price_ticks, quantity_shares, at_ns, busted from order_fill"
    " where order_id = any(%s) order by at_ns, trade_id"
)
# One statement, one snapshot: the newest number never belongs to an event that is not there yet.
_EVENTS: Final[LiteralString] = """
select a.last_seq, e.event
from (select coalesce(max(last_seq), 0) as last_seq from account where account = %(account)s) a
left join lateral (select seq, event::text as event from private_event
                   where account = %(account)s and seq > %(after)s order by seq limit %(limit)s) e on true
order by e.seq
"""
# A command that still waits in the outbox is not sent again behind itself; a new order that waits there is cancelled.
_OVERDUE: Final[LiteralString] = (
    "select o.order_id, o.waiting_since_ns from orders o where o.waiting_since_ns < %s"
    " and (o.pending is null or not o.pending_routed or not exists (select from outbox m"
    "      where m.sent_at is null and m.aggregatetype = %s and m.aggregateid = o.account))"
    " order by o.waiting_since_ns limit %s"
)


class Reads:
    """Reads outside any decision."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_client_id(self, account: str, client_order_id: str) -> Order | None:
        """Return the first order under a client's id."""
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_BY_CLIENT_ID, [account, client_order_id])
            row = await cursor.fetchone()
        return None if row is None else order_of(row)

    async def row(self, order_id: str) -> Order | None:
        """Return one order as it is stored."""
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_BY_ID, [order_id])
            row = await cursor.fetchone()
        return None if row is None else order_of(row)

    async def order(self, account: str | None, order_id: str) -> OrderView | None:
        """Return one order of an account (None: of any) with its fills."""
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_BY_ID, [order_id])
            row = await cursor.fetchone()
            if row is None or (account is not None and row["account"] != account):
                return None
            filled = await connection.execute(_FILLS, [[order_id]])
            fills = [fill_row(fill) for fill in await filled.fetchall()]
        return order_view(order_of(row), fills)

    async def page(
        self,
        *,
        account: str | None,
        before: str | None,
        limit: int,
        status: Sequence[str] | None = None,
        ticker: str | None = None,
        client_order_id: str | None = None,
        with_fills: bool = False,
    ) -> OrderList:
        """Return orders, newest first, older than the cursor `before`."""
        wanted = {
            "account": account,
            "before": before,
            "limit": limit + 1,
            "status": None if status is None else list(status),
            "ticker": ticker,
            "client_order_id": client_order_id,
        }
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_PAGE, wanted)
            orders = [order_of(row) for row in await cursor.fetchall()]
            more, orders = len(orders) > limit, orders[:limit]
            fills = []
            if with_fills:
                filled = await connection.execute(_FILLS, [[order.order_id for order in orders]])
                fills = [fill_row(row) for row in await filled.fetchall()]
        views = tuple(
            order_view(order, [f for f in fills if f.order_id == order.order_id] if with_fills else None)
            for order in orders
        )
        return OrderList(orders=views, next=orders[-1].order_id if more else None)

    async def events(self, account: str, *, after: int, limit: int) -> tuple[list[msgspec.Raw], int]:
        """Return private events after a number, as they were written, and the account's newest number."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_EVENTS, {"account": account, "after": after, "limit": limit})
            rows = await cursor.fetchall()
        return [msgspec.Raw(row[1].encode()) for row in rows if row[1] is not None], int(rows[0][0])

    async def orders_open(self, account: str) -> int:
        """Return how many orders an account has at the exchange."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select orders_open from account where account = %s", [account])
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def report_positions(self) -> dict[ReportKey, int]:
        """Return the last report number of every shard's log."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select session_key, market, shard, log_id, last_number from report_position"
            )
            return {(row[0], row[1], row[2], row[3]): row[4] for row in await cursor.fetchall()}

    async def kafka_positions(self, topic: str, partitions: int) -> dict[tuple[str, int], int]:
        """Return the next offset of each partition of a topic; -1 where nothing was read yet."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select partition, next_offset from kafka_position where topic = %s", [topic]
            )
            known = {int(row[0]): int(row[1]) for row in await cursor.fetchall()}
        return {(topic, partition): known.get(partition, -1) for partition in range(partitions)}

    async def overdue(self, *, waiting_before_ns: int, at_ns: int) -> list[Overdue]:
        """Return orders that have waited since before an instant, longest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_OVERDUE, [waiting_before_ns, DOOR_AGGREGATE, OVERDUE_BATCH_MAX])
            rows = await cursor.fetchall()
        return [Overdue(order_id=row[0], waiting_since_ns=row[1], at_ns=at_ns) for row in rows]
