"""The ledger in PostgreSQL: gather under locks, decide, write, commit; a batch of operations at a time.

Account rows of customers are locked in the order of their ids, so writers never deadlock; whoever holds them may
look at the holds of these owners. Everything a batch changes, wallet events and the position in the topic included,
is written by one statement in the same transaction. Every operation is idempotent, so a transaction whose commit
was lost is simply run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

import msgspec

from mybroker.contracts.broker_events import WALLET_EVENTS, AssetBalance, WalletEvent
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.postgres import Connection, Pool, in_transaction
from services.broker_wallet.ledger.accounts import CASH, HOUSE_OWNERS, AccountKey, Balance, customer
from services.broker_wallet.ledger.holds import Hold, Terms
from services.broker_wallet.ledger.ledger import Ledger
from services.broker_wallet.ledger.operations import (
    Answer,
    Deposit,
    Effect,
    Operation,
    Outcome,
    PlaceHold,
    PostFill,
    RefuseReplace,
    ReverseFill,
)

EVENT_AGGREGATE = "wallet"

_LOCK: Final[LiteralString] = (
    "select id, debits_posted, credits_posted, debits_pending, credits_pending, cost_cents, realised_cents"
    " from ledger_account where id = any(%s) order by id for update"
)
_HOLDS: Final[LiteralString] = (
    "select order_id, owner, asset, side, revision, quantity_shares, price_ticks, next_revision,"
    " next_quantity_shares, next_price_ticks, filled_shares, amount, pending_id, reopened, closed"
    " from order_hold where order_id = any(%s)"
)
_ANSWERS: Final[LiteralString] = "select key, content, held, reason from ledger_answer where key = any(%s)"
_LINKS: Final[LiteralString] = "select distinct link from ledger_transfer where link = any(%s)"

_WRITE: Final[LiteralString] = """
with transfers as (
    insert into ledger_transfer (id, kind, purpose, debit_account, credit_account, asset, amount, released, value_cents,
                                 pending_id, link, order_id, revision, trade_id, at_ns)
    select * from json_to_recordset(%(transfers)s::json)
        as x(id text, kind text, purpose text, debit_account bigint, credit_account bigint, asset text, amount bigint,
             released bigint, value_cents bigint, pending_id text, link text, order_id text, revision integer,
             trade_id text, at_ns bigint)
), balances as (
    update ledger_account a
    set debits_posted = x.debits_posted, credits_posted = x.credits_posted, debits_pending = x.debits_pending,
        credits_pending = x.credits_pending, cost_cents = x.cost_cents, realised_cents = x.realised_cents
    from json_to_recordset(%(balances)s::json)
        as x(id bigint, debits_posted bigint, credits_posted bigint, debits_pending bigint, credits_pending bigint,
             cost_cents bigint, realised_cents bigint)
    where a.id = x.id
), holds as (
    insert into order_hold
    select * from json_to_recordset(%(holds)s::json)
        as x(order_id text, owner text, asset text, side text, revision integer, quantity_shares bigint,
             price_ticks bigint, next_revision integer, next_quantity_shares bigint, next_price_ticks bigint,
             filled_shares bigint, amount bigint, pending_id text, reopened integer, closed boolean)
    on conflict (order_id) do update
    set revision = excluded.revision, quantity_shares = excluded.quantity_shares, price_ticks = excluded.price_ticks,
        next_revision = excluded.next_revision, next_quantity_shares = excluded.next_quantity_shares,
        next_price_ticks = excluded.next_price_ticks, filled_shares = excluded.filled_shares,
        amount = excluded.amount, pending_id = excluded.pending_id, reopened = excluded.reopened,
        closed = excluded.closed
), answers as (
    insert into ledger_answer
    select * from json_to_recordset(%(answers)s::json) as x(key text, content text, held bigint, reason text)
), events as (
    insert into outbox (aggregatetype, aggregateid, type, payload, headers)
    select %(aggregate)s, x.account, x.type, convert_to(x.payload, 'UTF8'), x.headers
    from json_to_recordset(%(events)s::json) as x(account text, type text, payload text, headers jsonb)
), positions as (
    insert into kafka_position
    select * from json_to_recordset(%(positions)s::json) as x(topic text, partition integer, next_offset bigint)
    on conflict (topic, partition) do update set next_offset = excluded.next_offset
)
select 1
"""

Positions = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One operation and the trace it belongs to, as headers."""

    operation: Operation
    headers: Mapping[str, str] = field(default_factory=dict)


class LedgerStore:
    """Posts batches of operations. One per process; safe for concurrent use."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ids: dict[AccountKey, int] = {}

    async def post(self, requests: Sequence[Request], positions: Positions | None = None) -> list[Outcome]:
        """Do the operations in their order, all in one transaction; returns their outcomes."""
        keys = sorted({key for request in requests for key in _keys_of(request.operation)})
        await self._know(keys)
        own = {self._ids[key]: key for key in keys if not key.is_house}

        async def work(connection: Connection) -> list[Outcome]:
            ledger = await self._gather(connection, requests, own)
            outcomes: list[Outcome] = []
            headers_of_effect: list[Mapping[str, str]] = []
            for request in requests:
                outcomes.append(ledger.decide(request.operation))
                headers_of_effect.extend([request.headers] * (len(ledger.effects) - len(headers_of_effect)))
            await self._write(connection, ledger, headers_of_effect, positions or {})
            return outcomes

        return await in_transaction(self._pool, work, idempotent=True)

    async def positions(self, topic: str, partitions: int) -> dict[tuple[str, int], int]:
        """Return the next offset of each partition of a topic; -1 where nothing was read yet."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select partition, next_offset from kafka_position where topic = %s", [topic]
            )
            known = {int(row[0]): int(row[1]) for row in await cursor.fetchall()}
        return {(topic, partition): known.get(partition, -1) for partition in range(partitions)}

    async def _know(self, keys: Sequence[AccountKey]) -> None:
        """Make the accounts that are not there yet, in order, and learn their ids, which never change."""
        missing = [key for key in keys if key not in self._ids]
        if not missing:
            return
        owners, assets = [key.owner for key in missing], [key.asset for key in missing]

        async def work(connection: Connection) -> list[Any]:
            await connection.execute(
                "insert into ledger_account (owner, asset, house)"
                " select o, a, o = any(%s) from unnest(%s::text[], %s::text[]) as u(o, a)"
                " on conflict (owner, asset) do nothing",
                [list(HOUSE_OWNERS), owners, assets],
            )
            cursor = await connection.execute(
                "select owner, asset, id from ledger_account"
                " where (owner, asset) in (select * from unnest(%s::text[], %s::text[]))",
                [owners, assets],
            )
            return await cursor.fetchall()

        for owner, asset, number in await in_transaction(self._pool, work, idempotent=True):
            self._ids[AccountKey(owner=owner, asset=asset)] = number

    async def _gather(
        self, connection: Connection, requests: Sequence[Request], own: Mapping[int, AccountKey]
    ) -> Ledger:
        order_ids = sorted({o.order_id for o in (r.operation for r in requests) if not isinstance(o, Deposit)})
        asked = [r.operation.key for r in requests if isinstance(r.operation, PlaceHold | Deposit | RefuseReplace)]
        links = [r.operation.key for r in requests if isinstance(r.operation, PostFill | ReverseFill)]
        async with connection.pipeline():
            # Statements of their own: each sees what was committed before the locks were got.
            accounts = await connection.execute(_LOCK, [sorted(own)])
            holds = await connection.execute(_HOLDS, [order_ids])
            answers = await connection.execute(_ANSWERS, [asked])
            known = await connection.execute(_LINKS, [links])
        balances = {}
        for row in await accounts.fetchall():
            balances[own[row[0]]] = Balance(
                debits_posted=row[1],
                credits_posted=row[2],
                debits_pending=row[3],
                credits_pending=row[4],
                cost_cents=row[5],
                realised_cents=row[6],
            )
        return Ledger(
            balances=balances,
            holds={row[0]: hold_of(row) for row in await holds.fetchall()},
            answers={row[0]: _answer_of(row) for row in await answers.fetchall()},
            links=[row[0] for row in await known.fetchall()],
        )

    async def _write(
        self,
        connection: Connection,
        ledger: Ledger,
        headers_of_effect: Sequence[Mapping[str, str]],
        positions: Positions,
    ) -> None:
        ids = self._ids
        transfers = [
            {
                "id": t.id,
                "kind": t.kind,
                "purpose": t.purpose,
                "debit_account": ids[t.debit],
                "credit_account": ids[t.credit],
                "asset": t.debit.asset,
                "amount": t.amount,
                "released": t.released,
                "value_cents": t.value_cents,
                "pending_id": t.pending_id,
                "link": t.link,
                "order_id": t.order_id,
                "revision": t.revision,
                "trade_id": t.trade_id,
                "at_ns": t.at_ns,
            }
            for t in ledger.book.transfers
        ]
        balances = [{"id": ids[key], **_fields(ledger.book.balances[key])} for key in sorted(ledger.book.touched)]
        answers = [
            {"key": key, "content": a.content, "held": a.held, "reason": a.reason}
            for key, a in ledger.answers_new.items()
        ]
        events = [
            _event_row(effect, headers) for effect, headers in zip(ledger.effects, headers_of_effect, strict=True)
        ]
        holds = [_hold_row(ledger.holds[order_id]) for order_id in sorted(ledger.holds_changed)]
        at = [{"topic": topic, "partition": part, "next_offset": next_} for (topic, part), next_ in positions.items()]
        if not (transfers or balances or holds or answers or at):
            return
        await connection.execute(
            _WRITE,
            {
                "transfers": _json(transfers),
                "balances": _json(balances),
                "holds": _json(holds),
                "answers": _json(answers),
                "events": _json(events),
                "positions": _json(at),
                "aggregate": EVENT_AGGREGATE,
            },
        )


def hold_of(row: Sequence[Any]) -> Hold:
    """Read a row of order_hold (columns as in `_HOLDS`)."""
    following = None
    if row[7] is not None:
        following = Terms(revision=row[7], quantity_shares=row[8], price_ticks=row[9])
    return Hold(
        order_id=row[0],
        owner=row[1],
        asset=row[2],
        side=Side(row[3]),
        terms=Terms(revision=row[4], quantity_shares=row[5], price_ticks=row[6]),
        next_terms=following,
        filled_shares=row[10],
        amount=row[11],
        pending_id=row[12],
        reopened=row[13],
        closed=row[14],
    )


def _hold_row(hold: Hold) -> dict[str, object]:
    following = hold.next_terms
    return {
        "order_id": hold.order_id,
        "owner": hold.owner,
        "asset": hold.asset,
        "side": hold.side,
        "revision": hold.terms.revision,
        "quantity_shares": hold.terms.quantity_shares,
        "price_ticks": hold.terms.price_ticks,
        "next_revision": following and following.revision,
        "next_quantity_shares": following and following.quantity_shares,
        "next_price_ticks": following and following.price_ticks,
        "filled_shares": hold.filled_shares,
        "amount": hold.amount,
        "pending_id": hold.pending_id,
        "reopened": hold.reopened,
        "closed": hold.closed,
    }


def _keys_of(operation: Operation) -> list[AccountKey]:
    """Every account an operation may move: the customer's, which are locked, and the house's, which are not."""
    if isinstance(operation, Deposit):
        assets = [CASH, *(shares.asset for shares in operation.shares)]
    else:
        assets = [CASH, operation.asset]
    own = [customer(operation.account, asset) for asset in assets]
    return own + [AccountKey(owner=owner, asset=asset) for owner in HOUSE_OWNERS for asset in assets]


def _fields(balance: Balance) -> dict[str, int]:
    return {
        "debits_posted": balance.debits_posted,
        "credits_posted": balance.credits_posted,
        "debits_pending": balance.debits_pending,
        "credits_pending": balance.credits_pending,
        "cost_cents": balance.cost_cents,
        "realised_cents": balance.realised_cents,
    }


def _answer_of(row: Sequence[Any]) -> Answer:
    return Answer(content=row[1], held=row[2], reason=None if row[3] is None else RejectReason(row[3]))


def _event_row(effect: Effect, headers: Mapping[str, str]) -> dict[str, object]:
    event = WalletEvent(
        event_id=effect.id,
        account=effect.account,
        kind=effect.kind,
        at_ns=effect.at_ns,
        asset=effect.asset,
        amount=effect.amount,
        debt=effect.debt,
        debt_asset=effect.debt_asset,
        order_id=effect.order_id,
        revision=effect.revision,
        trade_id=effect.trade_id,
        balances=tuple(AssetBalance(asset=b.asset, available=b.available, held=b.held) for b in effect.balances),
    )
    payload = WALLET_EVENTS.encode(event).decode()
    return {"account": effect.account, "type": effect.kind, "payload": payload, "headers": dict(headers)}


def _json(rows: Sequence[Mapping[str, object]]) -> str:
    return msgspec.json.encode(rows).decode()
