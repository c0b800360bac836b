"""PostgreSQL with its outbox, Redis and MongoDB on real engines, killed and restarted on the way."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import psycopg
import pytest

from mybroker.local.engines.facade import Engines
from mybroker.runtime import outbox
from mybroker.runtime.mongo import open_mongo, until_written
from mybroker.runtime.outbox import OUTBOX_DDL, OutboxRow, Relay
from mybroker.runtime.postgres import Connection, Pool, in_transaction, migrate, open_pool
from mybroker.runtime.redis import open_redis
from mybroker.runtime.telemetry import tracing

pytestmark = pytest.mark.engines


async def until(condition: Callable[[], bool], deadline_s: float = 20) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def pool(engines: Engines) -> AsyncIterator[Pool]:
    """A pool on a schema of its own, so that no test sees another's tables."""
    url = engines.urls.postgres["wallet"]
    schema = "t" + uuid.uuid4().hex
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"create schema {schema}")
        await connection.execute(f"alter role current_user set search_path = {schema}")
    pool = await open_pool(url, name="test", connections_min=2)
    yield pool
    await pool.close()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("alter role current_user reset search_path")
        await connection.execute(f"drop schema {schema} cascade")


async def test_a_migration_is_applied_once_though_many_start_at_the_same_time(pool: Pool) -> None:
    steps = ("create table notes (text text)", "insert into notes values ('once')")
    assert sorted(await asyncio.gather(*(migrate(pool, "test", steps) for _ in range(5)))) == [0, 0, 0, 0, 2]
    assert await migrate(pool, "test", (*steps, "insert into notes values ('later')")) == 1
    assert await texts(pool) == ["later", "once"]
    with pytest.raises(RuntimeError, match="test migration 1: expected the text applied before, was another"):
        await migrate(pool, "test", ("create table notes (other text)",))


async def texts(pool: Pool) -> list[str]:
    async with pool.connection() as connection:
        cursor = await connection.execute("select text from notes order by text")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_transaction_that_fails_leaves_nothing(pool: Pool) -> None:
    await migrate(pool, "test", ("create table notes (text text)",))

    async def work(connection: Connection) -> None:
        await connection.execute("insert into notes values ('gone')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_transaction(pool, work, idempotent=True)
    assert await texts(pool) == []


async def test_a_deadlock_is_run_again(pool: Pool) -> None:
    await migrate(pool, "test", ("create table notes (text text primary key, n int default 0)",))
    async with pool.connection() as connection:
        await connection.execute("insert into notes values ('a'), ('b')")
    both = asyncio.Barrier(2)
    tries = 0

    def locks(first: str, second: str) -> Callable[[Connection], object]:
        met = False

        async def work(connection: Connection) -> None:
            nonlocal met, tries
            tries += 1
            await connection.execute("update notes set n = n + 1 where text = %s", [first])
            if not met:
                met = True
                await both.wait()
            await connection.execute("update notes set n = n + 1 where text = %s", [second])

        return work

    await asyncio.gather(
        in_transaction(pool, locks("a", "b")),  # type: ignore[arg-type]
        in_transaction(pool, locks("b", "a")),  # type: ignore[arg-type]
    )
    assert tries == 3
    async with pool.connection() as connection:
        cursor = await connection.execute("select n from notes")
        assert await cursor.fetchall() == [(2,), (2,)]


async def test_a_killed_database_is_survived_and_only_idempotent_work_is_run_again(
    engines: Engines, pool: Pool
) -> None:
    await migrate(pool, "test", ("create table notes (text text primary key)",))
    tries: dict[str, int] = {"safe": 0, "unsafe": 0}

    def insert(name: str) -> Callable[[Connection], object]:
        async def work(connection: Connection) -> None:
            tries[name] += 1
            await connection.execute("insert into notes values (%s) on conflict do nothing", [name])
            if tries[name] == 1:
                if name == "safe":
                    engines.kill("postgres")
                    engines.restart("postgres")
                else:
                    await connection.execute("select pg_terminate_backend(pg_backend_pid())")
            await connection.execute("select 1")

        return work

    await in_transaction(pool, insert("safe"), idempotent=True)  # type: ignore[arg-type]
    assert tries["safe"] == 2
    with pytest.raises(psycopg.OperationalError):
        await in_transaction(pool, insert("unsafe"))  # type: ignore[arg-type]
    assert tries["unsafe"] == 1
    assert await texts(pool) == ["safe"]


async def test_idle_connections_that_died_with_the_server_are_not_handed_out(engines: Engines, pool: Pool) -> None:
    await migrate(pool, "test", ("create table notes (text text)",))
    engines.kill("postgres")
    engines.restart("postgres")
    assert await texts(pool) == []


class Sink:
    """Where a relay publishes to; fails as often as it is told to."""

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        self.failures = 0

    async def publish(self, rows: Sequence[OutboxRow]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the route is down")
        self.rows.extend(rows)

    def types(self) -> list[str]:
        return [row.type for row in self.rows]


@pytest.fixture
async def sink(pool: Pool) -> AsyncIterator[Sink]:
    await migrate(pool, "test", (OUTBOX_DDL,))
    sink = Sink()
    name = uuid.uuid4().hex
    tasks = [asyncio.create_task(Relay(pool, sink.publish, name=name, batch_rows_max=10).run()) for _ in range(2)]
    yield sink
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def write(connection: Connection, what: str, account: str = "acc") -> int:
    return await outbox.put(connection, aggregatetype="order", aggregateid=account, type=what, payload=b"\x00{}")


async def test_rows_leave_once_in_order_with_their_trace_though_two_relays_run(pool: Pool, sink: Sink) -> None:
    with tracing(None) as trace:
        for number in range(25):

            async def work(connection: Connection, what: str = str(number)) -> None:
                await write(connection, what)

            await in_transaction(pool, work)
    await until(lambda: len(sink.rows) >= 25)
    await asyncio.sleep(0.5)  # a second relay that worked too would have sent them again by now
    assert sink.types() == [str(number) for number in range(25)]
    assert sink.rows[0].payload == b"\x00{}"
    assert sink.rows[0].headers == {"traceparent": trace.traceparent}


async def test_a_transaction_that_commits_late_with_a_lower_id_is_not_skipped(pool: Pool, sink: Sink) -> None:
    async with pool.connection() as late, late.transaction():
        low = await write(late, "late", "a")
        async with pool.connection() as early, early.transaction():
            high = await write(early, "early", "b")
        assert low < high
        await until(lambda: sink.types() == ["early"])
    await until(lambda: sink.types() == ["early", "late"])


async def test_what_was_rolled_back_never_leaves(pool: Pool, sink: Sink) -> None:
    async with pool.connection() as connection:
        async with connection.transaction(force_rollback=True):
            await write(connection, "ghost")
        await write(connection, "real")
    await until(lambda: bool(sink.rows))
    assert sink.types() == ["real"]


async def test_a_route_that_is_down_delays_rows_and_loses_none(pool: Pool, sink: Sink) -> None:
    sink.failures = 2
    async with pool.connection() as connection:
        for number in range(15):
            await write(connection, str(number))
    await until(lambda: len(sink.rows) >= 15)
    assert sink.types() == [str(number) for number in range(15)]


async def test_the_relay_goes_on_after_the_database_was_killed(engines: Engines, pool: Pool, sink: Sink) -> None:
    async with pool.connection() as connection:
        await write(connection, "before")
    await until(lambda: sink.types() == ["before"])
    engines.kill("postgres")
    engines.restart("postgres")
    async with pool.connection() as connection:
        await write(connection, "after")
    await until(lambda: "after" in sink.types())


async def test_redis_comes_back_after_a_kill(engines: Engines) -> None:
    client = await open_redis(engines.urls.redis)
    key = uuid.uuid4().hex
    await client.set(key, "1")
    engines.kill("redis")
    engines.restart("redis")
    assert await client.get(key) == "1"
    await client.aclose()


async def test_mongo_comes_back_after_a_kill_and_takes_the_write_once(engines: Engines) -> None:
    client = await open_mongo(engines.urls.mongo)
    collection = client["test"][uuid.uuid4().hex]
    await collection.insert_one({"_id": "before"})
    engines.kill("mongo")

    async def write_after() -> object:
        return await collection.update_one({"_id": "after"}, {"$set": {"n": 1}}, upsert=True)

    writing = asyncio.create_task(until_written(write_after))
    await asyncio.sleep(0)
    engines.restart("mongo")
    await writing
    assert sorted([document["_id"] async for document in collection.find()]) == ["after", "before"]
    await client.close()


NOBODY: dict[str, Callable[[], Awaitable[object]]] = {
    "postgres": lambda: open_pool("postgresql://user:hidden@127.0.0.1:9/db", deadline_ms=200),
    "redis": lambda: open_redis("redis://user:hidden@127.0.0.1:9/0", deadline_ms=200, retries_max=0),
    "mongo": lambda: open_mongo("mongodb://user:hidden@127.0.0.1:9/", deadline_ms=200),
}


@pytest.mark.parametrize("engine", NOBODY)
async def test_a_server_that_never_comes_is_named_without_its_password(engine: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        await NOBODY[engine]()
    assert "user:***@127.0.0.1:9" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert time.monotonic() - began < 15
