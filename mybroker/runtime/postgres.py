"""PostgreSQL: a pool that waits for the database, transactions that may be retried, and migrations.

After a restart of the server the pool notices broken connections when they are taken out (a look at the socket, no
round trip). A transaction is run again after a lost connection only when its caller says that this is harmless;
one that the server rolled back by itself (deadlock, serialization) is always run again.
"""

import asyncio
import hashlib
import random
import select
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mybroker.runtime.logging import get_logger
from mybroker.runtime.settings import hide_password
from mybroker.runtime.telemetry import counter

Connection = psycopg.AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]
T = TypeVar("T")

CONNECTIONS_MIN = 1
CONNECTIONS_MAX = 8
START_DEADLINE_MS = 60_000
CHECKOUT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 30_000
ATTEMPTS_MAX = 8
BACKOFF_MS = 25
BACKOFF_MS_MAX = 1_000

_RETRIED = counter("mbb3_postgres_retries_total", "Transactions run again", ["reason"])

_VERSION_TABLE = """
create table if not exists schema_version (
    service    text not null,
    step       integer not null,
    digest     text not null,
    applied_at timestamptz not null default now(),
    primary key (service, step)
)
"""


async def open_pool(
    url: str,
    *,
    name: str = "mybroker",
    connections_min: int = CONNECTIONS_MIN,
    connections_max: int = CONNECTIONS_MAX,
    deadline_ms: int = START_DEADLINE_MS,
) -> Pool:
    """Open a pool, waiting for the database. Raises TimeoutError, naming the URL without its password."""
    pool: Pool = AsyncConnectionPool(
        url,
        connection_class=Connection,
        min_size=connections_min,
        max_size=connections_max,
        timeout=CHECKOUT_TIMEOUT_MS / 1000,
        reconnect_timeout=deadline_ms / 1000,
        max_idle=300,
        check=_check,
        open=False,
        kwargs={
            "application_name": name,
            "connect_timeout": 5,
            "options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
            "keepalives_idle": 10,
        },
    )
    await wait_for_database(url, deadline_ms=deadline_ms)
    await pool.open(wait=True, timeout=deadline_ms / 1000)
    return pool


async def wait_for_database(url: str, *, deadline_ms: int = START_DEADLINE_MS) -> None:
    """Return once the database answers; raises TimeoutError after the deadline with the last reason."""
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=3):
                return
        except psycopg.OperationalError as error:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{hide_password(url)} did not answer for {deadline_ms} ms: {error}") from error
            _RETRIED.labels("start").inc()
        await asyncio.sleep(0.1)


async def in_transaction(pool: Pool, work: Callable[[Connection], Awaitable[T]], *, idempotent: bool = False) -> T:
    """Run `work` in one transaction and commit it.

    Deadlocks and serialization failures are run again, since the server undid them. A lost connection is run again
    only with `idempotent`: whether the commit arrived is then not known. Anything else is raised as it is.
    """
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            async with pool.connection() as connection, connection.transaction():
                return await work(connection)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            if attempt == ATTEMPTS_MAX:
                raise
            _RETRIED.labels(type(error).__name__).inc()
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            if not idempotent or attempt == ATTEMPTS_MAX or not is_connection_loss(error):
                raise
            _RETRIED.labels("connection_lost").inc()
            get_logger().warning("transaction_retried", attempt=attempt, reason=str(error).strip())
        wait_ms = min(BACKOFF_MS * 2**attempt, BACKOFF_MS_MAX)
        await asyncio.sleep(wait_ms * (0.5 + random.random() / 2) / 1000)
    raise AssertionError("expected the last attempt to return or raise")


def is_connection_loss(error: BaseException) -> bool:
    """Whether the server went away (or is starting or stopping), as opposed to refusing a statement."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    code = error.sqlstate
    return code is None or code.startswith(("08", "57P"))


async def migrate(pool: Pool, service: str, steps: Sequence[LiteralString]) -> int:
    """Apply the steps not yet applied, in order, each once, whoever starts first; returns how many were applied.

    A step never changes after it was released: one whose text differs from what was applied raises RuntimeError.
    """

    async def work(connection: Connection) -> int:
        await connection.execute("set local lock_timeout = 0")
        await connection.execute("select pg_advisory_xact_lock(%s)", [advisory_key(f"migrate:{service}")])
        await connection.execute(_VERSION_TABLE)
        cursor = await connection.execute(
            "select step, digest from schema_version where service = %s order by step", [service]
        )
        applied = {int(row[0]): str(row[1]) for row in await cursor.fetchall()}
        added = 0
        for number, text in enumerate(steps, start=1):
            digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            if number in applied:
                if applied[number] != digest:
                    raise RuntimeError(f"{service} migration {number}: expected the text applied before, was another")
                continue
            await connection.execute(text)
            await connection.execute("insert into schema_version values (%s, %s, %s)", [service, number, digest])
            added += 1
        return added

    return await in_transaction(pool, work, idempotent=True)


def advisory_key(name: str) -> int:
    """A number for PostgreSQL's advisory locks, the same for the same name everywhere."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


async def _check(connection: Any) -> None:
    """Raise when the connection is broken. An idle connection has nothing to say, so silence needs no round trip."""
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN)
    if poller.poll(0):
        await AsyncConnectionPool.check_connection(connection)
