"""The blotter in PostgreSQL: gather under the accounts' locks, decide, write, commit; a batch at a time.

Account rows are locked in the order of their names before any order is read, so writers never deadlock, each
account's private events are numbered without a gap, and its outbox rows stand in the order of their effects. What a
batch changes, positions included, is written by one statement. Every operation is idempotent, so a transaction whose
commit was lost is run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

import msgspec
from psycopg.rows import dict_row

from mybroker.contracts.broker_events import ORDER_EVENTS
from mybroker.contracts.door import DoorRequest, encode_request
from mybroker.contracts.topics import BROKER_PARTICIPANT
from mybroker.runtime.clock import Clock
from mybroker.runtime.postgres import Connection, Pool, in_transaction
from mybroker.runtime.telemetry import TRACEPARENT
from services.broker_orders.blotter import AccountRow, Blotter
from services.broker_orders.lifecycle import Order
from services.broker_orders.messages import FillRow
from services.broker_orders.operations import Heard, Operation, Result, WalletHeard
from services.broker_orders.order_view import event_view

DOOR_AGGREGATE = "door"
ORDER_AGGREGATE = "order"

_RECEIVE: Final[LiteralString] = (
    "with sent as (select * from json_populate_recordset(null::orders, %s::json)),"
    " known as (insert into account (account) select distinct account from sent on conflict do nothing)"
    " insert into orders select * from sent on conflict (account, client_order_id) do nothing returning order_id"
)
_FIRST: Final[LiteralString] = (
    "select * from orders where (account, client_order_id) in (select * from unnest(%s::text[], %s::text[]))"
)
_LOCK: Final[LiteralString] = (
    "select account, last_seq, orders_open from account"
    " where account in (select unnest(%s::text[]) union select account from orders where order_id = any(%s::text[]))"
    " order by account for update"
)
_ORDERS: Final[LiteralString] = "select * from orders where order_id = any(%s)"
_TRADES: Final[LiteralString] = (
    "select order_id, trade_id from order_fill where order_id = any(%s) and trade_id = any(%s)"
)
_SOURCES: Final[LiteralString] = "select source from private_event where source = any(%s)"

_WRITE: Final[LiteralString] = """
with accounts as (
    insert into account (account, last_seq, orders_open)
    select * from json_to_recordset(%(accounts)s::json) as x(account text, last_seq bigint, orders_open integer)
    on conflict (account) do update set last_seq = excluded.last_seq, orders_open = excluded.orders_open
), orders_now as (
    update orders o
    set quantity_shares = x.quantity_shares, price_ticks = x.price_ticks, hold_price_ticks = x.hold_price_ticks,
        updated_at_ns = x.updated_at_ns, status = x.status, reason = x.reason, routed = x.routed,
        accepted = x.accepted, ended = x.ended, cum_shares = x.cum_shares, filled_cents = x.filled_cents,
        terms_revision = x.terms_revision, last_revision = x.last_revision,
        answered_revision = x.answered_revision, pending = x.pending, pending_revision = x.pending_revision,
        pending_routed = x.pending_routed, pending_quantity_shares = x.pending_quantity_shares,
        pending_price_ticks = x.pending_price_ticks, waiting_since_ns = x.waiting_since_ns
    from json_populate_recordset(null::orders, %(orders)s::json) as x
    where o.order_id = x.order_id
), fills as (
    insert into order_fill
    select * from json_to_recordset(%(fills)s::json)
        as x(order_id text, trade_id text, market text, price_ticks bigint, quantity_shares bigint, at_ns bigint,
             busted boolean)
    on conflict (order_id, trade_id) do update set busted = excluded.busted
), events as (
    insert into private_event (account, seq, source, event)
    select * from json_to_recordset(%(notices)s::json) as x(account text, seq bigint, source text, event json)
), messages as (
    insert into outbox (aggregatetype, aggregateid, type, payload, headers)
    select x.aggregatetype, x.account, x.type, convert_to(x.payload, 'UTF8'), x.headers
    from json_to_recordset(%(messages)s::json)
        as x(aggregatetype text, account text, type text, payload text, headers jsonb)
), reports as (
    insert into report_position
    select * from json_to_recordset(%(reports)s::json)
        as x(session_key text, market text, shard integer, log_id text, last_number bigint)
    on conflict (session_key, market, shard, log_id)
    do update set last_number = greatest(report_position.last_number, excluded.last_number)
), positions as (
    insert into kafka_position
    select * from json_to_recordset(%(positions)s::json) as x(topic text, partition integer, next_offset bigint)
    on conflict (topic, partition) do update set next_offset = excluded.next_offset
)
select 1
"""

ReportKey = tuple[str, str, int, str]
"""(session_key, market, shard, log_id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One operation and the trace it belongs to, as headers."""

    operation: Operation
    headers: Mapping[str, str] = field(default_factory=dict)


class OrderStore:
    """Writes batches of operations. One per process; safe for concurrent use."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self.orders_open: dict[str, int] = {}
        """Open orders of the accounts that moved in this process's life, as of their last transaction."""
        self._moved: set[str] = set()

    def take_moved(self) -> set[str]:
        """Return the accounts that moved since this was last asked."""
        moved, self._moved = self._moved, set()
        return moved

    async def receive(self, orders: Sequence[Order]) -> list[Order]:
        """Write new rows; returns for each the row that stands: the new one, or the first under its client id."""
        sent = msgspec.json.encode(orders).decode()

        async def work(connection: Connection) -> list[Order]:
            received = await connection.execute(_RECEIVE, [sent])
            written = {row[0] for row in await received.fetchall()}
            first = {}
            known = [order for order in orders if order.order_id not in written]
            if known:
                cursor = connection.cursor(row_factory=dict_row)
                await cursor.execute(_FIRST, [[o.account for o in known], [o.client_order_id for o in known]])
                rows = [order_of(row) for row in await cursor.fetchall()]
                first = {(order.account, order.client_order_id): order for order in rows}
            return [
                order if order.order_id in written else first[order.account, order.client_order_id] for order in orders
            ]

        return await in_transaction(self._pool, work, idempotent=True)

    async def apply(
        self,
        requests: Sequence[Request],
        *,
        reports: Mapping[ReportKey, int] | None = None,
        positions: Mapping[tuple[str, int], int] | None = None,
    ) -> list[Result]:
        """Do the operations in their order, all in one transaction; returns their results."""

        async def work(connection: Connection) -> tuple[list[Result], Blotter]:
            blotter = await self._gather(connection, [request.operation for request in requests])
            results = []
            messages: list[dict[str, object]] = []
            for request in requests:
                results.append(blotter.decide(request.operation))
                messages += _messages(blotter, request.headers)
            await _write(connection, blotter, messages, reports or {}, positions or {})
            return results, blotter

        results, blotter = await in_transaction(self._pool, work, idempotent=True)
        self._moved |= blotter.accounts_changed
        for account in blotter.accounts_changed:
            self.orders_open[account] = blotter.accounts[account].orders_open
        return results

    async def _gather(self, connection: Connection, operations: Sequence[Operation]) -> Blotter:
        order_ids = sorted({operation.order_id for operation in operations} - {""})
        wallet = [operation.event for operation in operations if isinstance(operation, WalletHeard)]
        accounts = sorted({event.account for event in wallet})
        trades = sorted(
            {o.report.trade_id for o in operations if isinstance(o, Heard) and o.report.trade_id is not None}
        )
        async with connection.pipeline():
            # Statements of their own: each sees what was committed before the locks were got.
            locked = await connection.execute(_LOCK, [accounts, order_ids])
            orders = await connection.cursor(row_factory=dict_row).execute(_ORDERS, [order_ids])
            known = await connection.execute(_TRADES, [order_ids, trades]) if trades else None
            heard = await connection.execute(_SOURCES, [[e.event_id for e in wallet]]) if wallet else None
        rows = await locked.fetchall()
        return Blotter(
            orders={row["order_id"]: order_of(row) for row in await orders.fetchall()},
            accounts={row[0]: AccountRow(last_seq=row[1], orders_open=row[2]) for row in rows},
            known_trades=[(row[0], row[1]) for row in await known.fetchall()] if known else (),
            known_sources=[row[0] for row in await heard.fetchall()] if heard else (),
            wall_ns=self._clock.now_ns(),
        )


def order_of(row: Mapping[str, Any]) -> Order:
    """Read a row of orders."""
    return msgspec.convert(row, Order)


def fill_row(row: Sequence[Any]) -> FillRow:
    """Read a row of order_fill."""
    return FillRow(
        order_id=row[0],
        trade_id=row[1],
        market=row[2],
        price_ticks=row[3],
        quantity_shares=row[4],
        at_ns=row[5],
        busted=row[6],
    )


def _messages(blotter: Blotter, headers: Mapping[str, str]) -> list[dict[str, object]]:
    """Take the commands and events the last operation left, as outbox rows that carry its trace."""
    rows: list[dict[str, object]] = []
    for order, command in blotter.commands:
        request = DoorRequest(
            participant=BROKER_PARTICIPANT,
            session_key=order.session_key,
            message_id=f"{order.order_id}:{command.revision}",
            body=command,
            traceparent=headers.get(TRACEPARENT),
        )
        name = type(command).__name__
        rows.append(_message(DOOR_AGGREGATE, order.account, name, encode_request(request), headers))
    for event in blotter.events:
        kind = ORDER_EVENTS.kind(event)
        rows.append(_message(ORDER_AGGREGATE, event.head.account, kind, ORDER_EVENTS.encode(event), headers))
    blotter.commands.clear()
    blotter.events.clear()
    return rows


def _message(aggregate: str, account: str, kind: str, payload: bytes, headers: Mapping[str, str]) -> dict[str, object]:
    return {
        "aggregatetype": aggregate,
        "account": account,
        "type": kind,
        "payload": payload.decode(),
        "headers": dict(headers),
    }


async def _write(
    connection: Connection,
    blotter: Blotter,
    messages: Sequence[Mapping[str, object]],
    reports: Mapping[ReportKey, int],
    positions: Mapping[tuple[str, int], int],
) -> None:
    accounts = [
        {"account": account, "last_seq": row.last_seq, "orders_open": row.orders_open}
        for account, row in sorted(blotter.accounts.items())
        if account in blotter.accounts_changed
    ]
    orders = [blotter.orders[order_id] for order_id in sorted(blotter.changed)]
    notices = [
        {
            "account": notice.account,
            "seq": notice.seq,
            "source": None if notice.wallet is None else notice.wallet.event_id,
            "event": event_view(notice),
        }
        for notice in blotter.notices
    ]
    # A fill and its bust may fall into one batch; a row may be written once by one statement.
    fills = {(fill.order_id, fill.trade_id): fill for fill in blotter.fills}
    told = [
        {"session_key": key[0], "market": key[1], "shard": key[2], "log_id": key[3], "last_number": number}
        for key, number in sorted(reports.items())
    ]
    at = [{"topic": topic, "partition": part, "next_offset": next_} for (topic, part), next_ in positions.items()]
    if not (accounts or orders or told or at):
        return
    await connection.execute(
        _WRITE,
        {
            "accounts": _json(accounts),
            "orders": _json(orders),
            "fills": _json(list(fills.values())),
            "notices": _json(notices),
            "messages": _json(messages),
            "reports": _json(told),
            "positions": _json(at),
        },
    )


def _json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()
