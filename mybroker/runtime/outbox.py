"""The outbox: what leaves a service is written in the transaction of its effect, and relayed afterwards.

The columns are those Debezium's EventRouter expects. One relay at a time works (a session-level advisory lock). It
looks for *unsent rows*, never for ids above the last one: a transaction that took a low id may commit late. Rows
of one `aggregateid` leave in the order of their ids; that is the order of effects only because writers of one
aggregate hold its row lock when they insert. Every row is published at least once, and again after a crash between
publishing and marking.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from mybroker.runtime.lifecycle import passing
from mybroker.runtime.logging import get_logger
from mybroker.runtime.postgres import Connection, Pool, advisory_key, is_connection_loss
from mybroker.runtime.telemetry import counter, gauge, inject_mapping

BATCH_ROWS_MAX = 500
POLL_MS = 200
LOCK_RETRY_MS = 500
FAILURE_BACKOFF_MS = 200
METRICS_EVERY_MS = 1_000
KEEP_SENT_S = 3_600
PURGE_EVERY_MS = 60_000

_PENDING = gauge("mbb3_outbox_pending", "Rows not yet sent", ["outbox"])
_OLDEST = gauge("mbb3_outbox_oldest_seconds", "Age of the oldest row not yet sent", ["outbox"])
_SENT = counter("mbb3_outbox_sent_total", "Rows sent", ["outbox"])
_FAILED = counter("mbb3_outbox_publish_failures_total", "Batches that could not be published", ["outbox"])

OUTBOX_DDL: Final[LiteralString] = """
create table outbox (
    id            bigint generated always as identity primary key,
    aggregatetype text not null,
    aggregateid   text not null,
    type          text not null,
    payload       bytea not null,
    headers       jsonb not null default '{}',
    created_at    timestamptz not null default now(),
    sent_at       timestamptz
);
create index outbox_unsent on outbox (id) where sent_at is null;
create index outbox_sent on outbox (sent_at) where sent_at is not null;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message to send; `headers` carries the traceparent."""

    id: int
    aggregatetype: str
    aggregateid: str
    type: str
    payload: bytes
    headers: Mapping[str, str]


Publish = Callable[[Sequence[OutboxRow]], Awaitable[object]]
"""Sends rows and returns when all are confirmed; an exception means that any of them may have been sent or not."""


async def put(
    connection: Connection,
    *,
    aggregatetype: str,
    aggregateid: str,
    type: str,  # noqa: A002  # the column's name, which Debezium fixes
    payload: bytes,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Write a row in the caller's transaction; returns its id. The current trace travels in the headers."""
    cursor = await connection.execute(
        "insert into outbox (aggregatetype, aggregateid, type, payload, headers)"
        " values (%s, %s, %s, %s, %s) returning id",
        [aggregatetype, aggregateid, type, payload, Jsonb({**inject_mapping(), **(headers or {})})],
    )
    row = await cursor.fetchone()
    assert row is not None, "expected the id of the row inserted"
    return int(row[0])


class Relay:
    """Relays one database's outbox. Run it with `context.supervise("outbox", relay.run())`; `wake` after commits."""

    def __init__(
        self,
        pool: Pool,
        publish: Publish,
        *,
        name: str,
        batch_rows_max: int = BATCH_ROWS_MAX,
        aggregatetypes: Sequence[str] | None = None,
    ) -> None:
        """`aggregatetypes`: relay only these, so that several routes out of one table do not wait for each other."""
        self._aggregatetypes = None if aggregatetypes is None else list(aggregatetypes)
        self._pool = pool
        self._publish = publish
        self._name = name
        self._batch_rows_max = batch_rows_max
        self._woken = asyncio.Event()
        self._key = advisory_key(f"outbox:{name}")
        self._measured_at = 0.0
        self._purged_at = time.monotonic()
        self._log = get_logger()

    def wake(self) -> None:
        """Say that a row was committed; without it the relay looks every POLL_MS."""
        self._woken.set()

    async def run(self) -> None:
        """Relay until cancelled. Survives a lost database; failures to publish are tried again for ever."""
        while True:
            try:
                await self._relay_with_lock()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not is_connection_loss(error):
                    raise
                self._log.warning("outbox_reconnected", outbox=self._name, reason=str(error).strip())
            await asyncio.sleep(LOCK_RETRY_MS / 1000)

    async def _relay_with_lock(self) -> None:
        # A connection of its own: the lock lives as long as it, and a pool would hand it on.
        url = self._pool.conninfo
        assert isinstance(url, str), "expected a pool opened with a URL"
        connection: Connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=5, application_name=f"outbox {self._name}"
        )
        async with connection:
            cursor = await connection.execute("select pg_try_advisory_lock(%s)", [self._key])
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return
            self._log.info("outbox_relay_started", outbox=self._name)
            while True:
                self._woken.clear()
                sent = await self._relay_batch(connection)
                await self._measure_and_purge(connection)
                if sent < self._batch_rows_max:
                    await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_MS / 1000):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _relay_batch(self, connection: Connection) -> int:
        cursor = await connection.execute(
            "select id, aggregatetype, aggregateid, type, payload, headers::text from outbox"
            " where sent_at is null and (%s::text[] is null or aggregatetype = any(%s::text[])) order by id limit %s",
            [self._aggregatetypes, self._aggregatetypes, self._batch_rows_max],
        )
        rows = [
            OutboxRow(
                id=row[0],
                aggregatetype=row[1],
                aggregateid=row[2],
                type=row[3],
                payload=bytes(row[4]),
                headers=msgspec.json.decode(row[5], type=dict[str, str]),
            )
            for row in await cursor.fetchall()
        ]
        if not rows:
            return 0
        while True:
            try:
                await self._publish(rows)
                break
            except Exception as error:  # noqa: BLE001  # whatever the route raises, the rows stay and are tried again
                _FAILED.labels(self._name).inc()
                self._log.warning("outbox_publish_failed", outbox=self._name, rows=len(rows), reason=repr(error))
            await asyncio.sleep(FAILURE_BACKOFF_MS / 1000)
            await connection.execute("select 1")  # the lock is gone with the connection: then another one relays
        passing("outbox_published")
        await connection.execute("update outbox set sent_at = now() where id = any(%s)", [[row.id for row in rows]])
        _SENT.labels(self._name).inc(len(rows))
        return len(rows)

    async def _measure_and_purge(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._measured_at >= METRICS_EVERY_MS / 1000:
            self._measured_at = now
            cursor = await connection.execute(
                "select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float8"
                " from outbox where sent_at is null and (%s::text[] is null or aggregatetype = any(%s::text[]))",
                [self._aggregatetypes, self._aggregatetypes],
            )
            row = await cursor.fetchone()
            assert row is not None, "expected one row of an aggregate"
            _PENDING.labels(self._name).set(row[0])
            _OLDEST.labels(self._name).set(row[1])
        if now - self._purged_at >= PURGE_EVERY_MS / 1000:
            self._purged_at = now
            await connection.execute(
                "delete from outbox where sent_at < now() - make_interval(secs => %s)", [KEEP_SENT_S]
            )
