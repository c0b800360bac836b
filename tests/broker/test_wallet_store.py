"""The ledger on a real PostgreSQL: concurrent holds, duplicates, positions, invariants and their negative controls."""

import asyncio
import random
import threading
from collections.abc import Sequence

import psycopg
import pytest

from mybroker.contracts import broker_events as ev
from mybroker.contracts.http_broker import StatementEntry, Wallet
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.kafka import Record
from mybroker.runtime.postgres import Pool, open_pool
from services.broker_wallet.handlers import OrderEventsHandler
from services.broker_wallet.invariants import check_invariants
from services.broker_wallet.ledger.operations import (
    CloseHold,
    Deposit,
    DepositShares,
    Operation,
    Outcome,
    PlaceHold,
    PostFill,
)
from services.broker_wallet.postings import Postings
from services.broker_wallet.store import LedgerStore, Request
from services.broker_wallet.views import Views

pytestmark = pytest.mark.engines

WRITERS = 16
ORDERS_A_WRITER = 25


def buy(order_id: str, account: str = "ana", shares: int = 100, price_ticks: int = 500, revision: int = 1) -> PlaceHold:
    return PlaceHold(
        order_id=order_id,
        revision=revision,
        account=account,
        asset="PETR4",
        side=Side.BUY,
        quantity_shares=shares,
        price_ticks=price_ticks,
        at_ns=1,
    )


def pay_in(account: str, cash_cents: int, shares: int = 0) -> Deposit:
    parts = (DepositShares(asset="PETR4", quantity_shares=shares, cost_cents=shares * 400),) if shares else ()
    return Deposit(deposit_id=f"open-{account}", account=account, cash_cents=cash_cents, shares=parts, at_ns=1)


async def post(store: LedgerStore, *operations: Operation) -> list[Outcome]:
    return await store.post([Request(operation=operation) for operation in operations])


async def wallet(pool: Pool, account: str = "ana") -> Wallet:
    return await Views(pool).wallet(account)


async def broken(pool: Pool) -> list[str]:
    return [f"{c.name}: {c.first}" for c in (await check_invariants(pool)).checks if not c.ok]


async def test_a_hold_survives_and_asking_again_gives_the_same_answer(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", 1_000_00))
    first = await post(store, buy("o1"))
    again = await post(LedgerStore(wallet_pool), buy("o1"), buy("o1", shares=200))
    assert [outcome.kind for outcome in [*first, *again]] == ["done", "repeated", "conflict"]
    found = await wallet(wallet_pool)
    assert (found.cash.available, found.cash.held) == ("500.00", "500.00")
    assert await broken(wallet_pool) == []


async def run_writers(database: str, hold: "str") -> tuple[int, list[str]]:
    """Sixteen threads, each with a connection and an event loop of its own, hold for one account and one other."""
    granted: list[int] = []
    failures: list[str] = []
    gate = threading.Barrier(WRITERS)

    def write(number: int) -> None:
        async def work() -> int:
            pool = await open_pool(database, connections_max=1)
            store = LedgerStore(pool)
            count = 0
            dice = random.Random(number)
            gate.wait(30)
            for turn in range(ORDERS_A_WRITER):
                order_id = f"{number}-{turn}"
                if hold == "naive":
                    count += await naive_hold(pool, order_id)
                    continue
                # One batch may touch several accounts, named in any order: locks must still be taken in one.
                batch: list[Operation] = [buy(order_id), buy(f"{order_id}-b", account="bia")]
                dice.shuffle(batch)
                for operation, outcome in zip(batch, await post(store, *batch), strict=True):
                    assert outcome.reason in (None, RejectReason.INSUFFICIENT_FUNDS)
                    count += outcome.ok and operation == buy(order_id)
            await pool.close()
            return count

        try:
            granted.append(asyncio.run(work()))
        except Exception as error:  # noqa: BLE001  # told to the test below
            failures.append(repr(error))
            gate.abort()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return sum(granted), failures


async def naive_hold(pool: Pool, order_id: str) -> bool:
    """What the ledger must not do: look, then act on what was seen."""
    async with pool.connection() as connection:
        await connection.set_autocommit(True)
        cursor = await connection.execute("select sum(amount)::bigint from naive_entry")
        row = await cursor.fetchone()
        if row is None or row[0] < 500_00:
            return False
        await connection.execute("insert into naive_entry values (%s, %s)", [order_id, -500_00])
    return True


async def test_sixteen_writers_cannot_spend_the_same_cash_and_never_deadlock(database: str, wallet_pool: Pool):
    affordable = 100
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", affordable * 500_00), pay_in("bia", affordable * 500_00))
    granted, failures = await run_writers(database, "ledger")
    assert failures == []
    assert granted == affordable
    assert (await wallet(wallet_pool)).cash.available == "0.00"
    assert (await wallet(wallet_pool, "bia")).cash.held == f"{affordable * 500}.00"
    assert await broken(wallet_pool) == []
    async with wallet_pool.connection() as connection:
        row = await (
            await connection.execute("select deadlocks from pg_stat_database where datname = current_database()")
        ).fetchone()
    assert row == (0,)


async def test_looking_before_acting_does_overdraw_in_the_same_test(database: str):
    """The negative control: if this passed, the test above could not find the fault it is there for."""
    affordable = 100
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table naive_entry (order_id text, amount bigint)")
        connection.execute("insert into naive_entry values ('open', %s)", [affordable * 500_00])
    granted, failures = await run_writers(database, "naive")
    assert failures == []
    assert granted > affordable


async def test_waiting_requests_share_a_transaction_and_each_gets_its_own_answer(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", 10_000_00))
    postings = Postings(store, lambda: None)
    running = asyncio.create_task(postings.run())
    outcomes = await asyncio.gather(*(postings.post(buy(f"o{n}")) for n in range(30)))
    running.cancel()
    assert [o.ok for o in outcomes].count(True) == 20
    assert {o.reason for o in outcomes if not o.ok} == {RejectReason.INSUFFICIENT_FUNDS}
    async with wallet_pool.connection() as connection:
        cursor = await connection.execute(
            "select count(distinct xmin::text) from ledger_transfer where purpose = 'hold'"
        )
        assert (await cursor.fetchone() or (99,))[0] < 20
    assert await broken(wallet_pool) == []


def traded(order_id: str, trade_id: str, shares: int, price_ticks: int, cum: int) -> ev.OrderTraded:
    return ev.OrderTraded(
        head=head(order_id, 1),
        market="equities",
        trade_id=trade_id,
        price_ticks=price_ticks,
        quantity_shares=shares,
        cum_shares=cum,
        leaves_shares=100 - cum,
        aggressor=True,
    )


def head(order_id: str, revision: int) -> ev.OrderHead:
    return ev.OrderHead(
        event_id=f"{order_id}-{revision}",
        account="ana",
        seq=1,
        order_id=order_id,
        client_order_id=order_id,
        session_key="local.day",
        ticker="PETR4F",
        side=Side.BUY,
        revision=revision,
        at_ns=5,
    )


def records(*events: ev.OrderEvent, start: int = 0) -> Sequence[Record]:
    return [
        Record(
            topic="order-events-v1",
            partition=2,
            offset=start + number,
            key=b"ana",
            value=ev.ORDER_EVENTS.encode(event),
            headers=(),
            timestamp_ms=0,
        )
        for number, event in enumerate(events)
    ]


async def test_order_events_are_posted_once_however_often_they_come(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    handler = OrderEventsHandler(store, lambda: None)
    await post(store, pay_in("ana", 1_000_00), buy("o1"))
    first, second = traded("o1", "t1", 40, 490, 40), traded("o1", "t2", 10, 500, 50)
    closed = ev.OrderClosed(head=head("o1", 1), status="canceled", reason="user", cum_shares=50)
    await handler.handle(records(first, second))
    await handler.handle(records(second, closed, start=2))
    await handler.handle(records(first, closed, closed, start=4))
    found = await wallet(wallet_pool)
    assert (found.cash.available, found.cash.held) == ("754.00", "0.00")
    assert [(s.asset, s.available) for s in found.shares] == [("PETR4", 50)]
    assert await store.positions("order-events-v1", 4) == {
        ("order-events-v1", 0): -1,
        ("order-events-v1", 1): -1,
        ("order-events-v1", 2): 7,
        ("order-events-v1", 3): -1,
    }
    (position,) = (await Views(wallet_pool).positions("ana")).positions
    assert (position.quantity, position.average_price) == (50, "4.9200")
    assert await broken(wallet_pool) == []


async def test_a_record_that_cannot_be_read_is_passed_over_and_its_position_kept(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    handler = OrderEventsHandler(store, lambda: None)
    (good,) = records(traded("o9", "t1", 10, 500, 10))
    bad = Record(topic=good.topic, partition=2, offset=1, key=b"ana", value=b"{}", headers=(), timestamp_ms=0)
    await post(store, pay_in("ana", 100_00))
    await handler.handle([good, bad])
    assert (await store.positions("order-events-v1", 4))["order-events-v1", 2] == 2
    assert (await wallet(wallet_pool)).cash.available == "50.00"


async def test_a_fill_posts_before_its_hold_and_a_debt_shows(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", 30_00))
    fill = PostFill(
        order_id="o1",
        account="ana",
        asset="PETR4",
        side=Side.BUY,
        trade_id="t",
        price_ticks=500,
        quantity_shares=10,
        at_ns=1,
    )
    await post(store, fill)
    found = await wallet(wallet_pool)
    assert (found.cash.available, found.cash.debt) == ("0.00", "20.00")
    invariants = await check_invariants(wallet_pool)
    assert (invariants.ok, invariants.debt) == (True, {"BRL": 20_00})


async def test_the_statement_pages_through_every_entry_once(wallet_pool: Pool):
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", 1_000_00, shares=10))
    for number in range(4):
        side = CloseHold(order_id=f"o{number}", account="ana", asset="PETR4", side=Side.BUY, at_ns=1)
        await post(store, buy(f"o{number}"), side)
    views, cursor = Views(wallet_pool), 0
    seen: list[StatementEntry] = []
    while True:
        page = await views.statement("ana", after=cursor, limit=3)
        seen += page.entries
        if page.next is None:
            break
        cursor = int(page.next)
    assert [entry.kind for entry in seen] == ["deposit", "deposit"] + ["hold", "release"] * 4
    assert [entry.amount for entry in seen[2:4]] == ["-500.00", "500.00"]
    assert seen[1].quantity == 10


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (
            "update ledger_account set credits_posted = credits_posted + 1 where owner = 'ana' and asset = 'BRL'",
            "balances_equal_entries",
        ),
        (
            "update ledger_account set credits_posted = credits_posted + 5 where owner = 'ana' and asset = 'PETR4'",
            "shares_equal_issued",
        ),
        ("update order_hold set amount = amount + 1 where order_id = 'o1'", "held_equals_open_holds"),
        ("update order_hold set price_ticks = price_ticks + 1 where order_id = 'o1'", "open_holds_cover_their_orders"),
        (
            "update ledger_account set cost_cents = cost_cents + 1 where asset = 'PETR4' and not house",
            "positions_equal_entries",
        ),
    ],
)
async def test_a_damaged_ledger_is_found_out(wallet_pool: Pool, damage: str, invariant: str):
    store = LedgerStore(wallet_pool)
    await post(store, pay_in("ana", 1_000_00, shares=10), buy("o1"))
    assert await broken(wallet_pool) == []
    async with wallet_pool.connection() as connection:
        await connection.execute(damage)
    assert invariant in " ".join(await broken(wallet_pool))


async def test_a_transfer_can_neither_be_changed_nor_deleted(wallet_pool: Pool):
    await post(LedgerStore(wallet_pool), pay_in("ana", 100))
    for statement in (
        "update ledger_transfer set amount = 1",
        "delete from ledger_transfer",
        "truncate ledger_transfer",
    ):
        with pytest.raises(psycopg.errors.RaiseException):
            async with wallet_pool.connection() as connection:
                await connection.execute(statement)
