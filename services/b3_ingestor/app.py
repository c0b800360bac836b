"""Wiring of both roles.

A fetcher takes tasks from its group, sends live quotes to Kafka, hands everything to the history's writer, and commits
a task only when Kafka and MongoDB both have its quote. While MongoDB is away quotes go on flowing and up to
BATCHES_WAITING_MAX batches wait for it; then fetching waits too. What was not committed comes again after a crash.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pymongo.errors import PyMongoError

from mybroker.contracts import topics
from mybroker.contracts.codec import Malformed
from mybroker.contracts.cotahist import CotahistError, DailyRecord
from mybroker.contracts.market_config import MarketConfigError, SessionSetup, load_session_setup
from mybroker.contracts.market_session import QuoteSource
from mybroker.contracts.quotes import FetchTask, decode_task, encode_quote, encode_task
from mybroker.domain.calendar import B3
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.kafka import AsyncProducer, Record
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.lifecycle import AppContext, passing
from mybroker.runtime.mongo import open_mongo, until_written
from mybroker.runtime.redis import open_redis
from mybroker.runtime.settings import Settings, SettingsError
from mybroker.runtime.telemetry import child, counter, gauge, inject_kafka, tracing
from services.b3_ingestor import brapi, cotahist, simulated
from services.b3_ingestor.brapi import BrapiSource
from services.b3_ingestor.brapi_quota import MONTHLY_REQUESTS, REFRESH_SECONDS, Quota
from services.b3_ingestor.computed import ComputedSource
from services.b3_ingestor.fetching import Fetching, Result
from services.b3_ingestor.history import PriceHistory
from services.b3_ingestor.memory import RedisMemory
from services.b3_ingestor.planner import Planner, run_planner
from services.b3_ingestor.slots import assets_of
from services.b3_ingestor.source import Fetched, Source

TASKS_PER_BATCH_MAX = 100
BATCHES_WAITING_MAX = 1_000
GROUP_SESSION_TIMEOUT_MS = 6_000
REDIS_RETRIES_MAX = 1
MONGO_PATIENCE_MS = 10_000
HISTORY_PAUSE_MS = 500
SETUP_VARIABLE = "MYBROKER_SESSION_CONFIG"

_REFUSED = counter("mbb3_fetch_tasks_malformed_total", "Fetch tasks that could not be read")
_WAITING = gauge("mbb3_history_batches_waiting", "Batches that wait for MongoDB")

_GROUP_SETTINGS: dict[str, Any] = {"session.timeout.ms": GROUP_SESSION_TIMEOUT_MS}

Waiting = tuple[list[Fetched], list[Record]]


async def start_planner(context: AppContext) -> None:
    """Start the planner; ready once it knows its session."""
    settings = context.settings
    context.readiness.declare("session")
    app = build_app("b3_ingestor_plan", [], context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    setup = read_setup(settings)
    memory = await _memory(settings, setup)
    directory = Directory(settings.kafka_url)
    context.supervise("directory", directory.run())
    producer = AsyncProducer(settings.kafka_url)
    context.on_stop("producer", producer.close)

    async def write(tasks: list[FetchTask]) -> None:
        with tracing(child()) as trace:
            headers = inject_kafka(trace)
            await asyncio.gather(
                *(producer.send(topics.FETCH_TASKS, t.ticker.encode(), encode_task(t), headers) for t in tasks)
            )

    await directory.wait_for(settings.session_key)
    context.readiness.open("session")
    planner = Planner(setup, quota=_quota(settings), memory=memory, calendar=B3, clock=context.clock)
    context.supervise("planner", run_planner(planner, lambda: directory.entry(settings.session_key), write))


async def start_fetcher(context: AppContext) -> None:
    """Start a fetcher; ready once it takes tasks."""
    settings = context.settings
    context.readiness.declare("tasks")
    app = build_app("b3_ingestor_fetch", [], context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    setup = read_setup(settings)
    memory = await _memory(settings, setup)
    first, fallback = _sources(context, setup, memory)
    fetcher = Fetcher(
        context, Fetching(first=first, fallback=fallback, memory=memory, clock=context.clock), settings.session_key
    )
    context.supervise("history", fetcher.write_history())
    context.supervise("tasks", fetcher.loop.run())
    context.on_stop("fetcher", fetcher.close)
    context.readiness.open("tasks")


class Fetcher:
    """Takes tasks, sends quotes, keeps history, commits; the decisions are `Fetching`'s."""

    def __init__(self, context: AppContext, fetching: Fetching, session_key: str) -> None:
        self._context = context
        self._fetching = fetching
        self._session_key = session_key
        self._producer = AsyncProducer(context.settings.kafka_url)
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue(BATCHES_WAITING_MAX)
        self._history: PriceHistory | None = None
        self.loop = ConsumerLoop(
            context.settings.kafka_url,
            self.hear,
            topics=[topics.FETCH_TASKS],
            group=f"ingestors.{session_key}",
            batch_messages_max=TASKS_PER_BATCH_MAX,
            **_GROUP_SETTINGS,
        )

    async def hear(self, records: Sequence[Record]) -> None:
        """Do a batch of tasks: quotes to Kafka, then everything to the history's writer."""
        results = await self._fetching.handle(self._tasks(records))
        await self._send([result for result in results if result.live])
        passing("ingestor-between-kafka-and-mongo")
        last = {(record.topic, record.partition): record for record in records}
        await self._waiting.put(([result.fetched for result in results], list(last.values())))
        _WAITING.set(self._waiting.qsize())

    async def write_history(self) -> None:
        """Write batches in order and commit each after it is written; waits as long as MongoDB is away."""
        while True:
            fetched, records = await self._waiting.get()
            # A stale quote is the last one again: it is in the history already.
            quotes = [one for one in fetched if not one.quote.stale]
            while not await self._written(quotes):
                await asyncio.sleep(HISTORY_PAUSE_MS / 1_000)
            for record in records:
                self.loop.commit(record)
            _WAITING.set(self._waiting.qsize())

    async def _written(self, quotes: list[Fetched]) -> bool:
        if not quotes:
            return True
        try:
            if self._history is None:
                client = await open_mongo(self._context.settings.mongo_url, deadline_ms=MONGO_PATIENCE_MS)
                self._context.on_stop("mongo", client.close)
                self._history = PriceHistory(client)
            history = self._history
            await until_written(partial(history.write, quotes), deadline_ms=MONGO_PATIENCE_MS)
        except (TimeoutError, PyMongoError) as error:
            self._context.log.warning("history_waited", reason=str(error)[:200], batches=self._waiting.qsize())
            return False
        return True

    async def close(self) -> None:
        """Stop taking tasks and let Kafka have what was sent."""
        self.loop.stop()
        await self._producer.close()

    def _tasks(self, records: Sequence[Record]) -> list[FetchTask]:
        tasks = []
        for record in records:
            try:
                task = decode_task(record.value or b"")
            except Malformed as error:
                _REFUSED.inc()
                self._context.log.error("fetch_task_refused", offset=record.offset, reason=str(error))
                continue
            if task.session_key == self._session_key:
                tasks.append(task)
        return tasks

    async def _send(self, results: Sequence[Result]) -> None:
        with tracing(child()) as trace:
            headers = inject_kafka(trace)
            await asyncio.gather(
                *(
                    self._producer.send(
                        topics.MARKET_DATA,
                        result.fetched.quote.ticker.encode(),
                        encode_quote(result.fetched.quote),
                        headers,
                    )
                    for result in results
                )
            )


def read_setup(settings: Settings) -> SessionSetup:
    """Read the session's file. Raises SettingsError."""
    path = settings.path(SETUP_VARIABLE)
    try:
        return load_session_setup(path.read_bytes())
    except (OSError, MarketConfigError) as error:
        raise SettingsError(SETUP_VARIABLE, f"a session's file ({error})", str(path)) from error


def brapi_token(settings: Settings) -> str | None:
    """Return the token: the secret `brapi_token`, else BRAPI_TOKEN; None asks the free tickers only."""
    try:
        return settings.secret("brapi_token")
    except SettingsError:
        return os.environ.get("BRAPI_TOKEN", "").strip() or None


def _quota(settings: Settings) -> Quota:
    return Quota(
        monthly_requests=settings.integer("MYBROKER_BRAPI_MONTHLY_REQUESTS", MONTHLY_REQUESTS),
        refresh_seconds=settings.integer("MYBROKER_BRAPI_REFRESH_SECONDS", REFRESH_SECONDS),
    )


async def _memory(settings: Settings, setup: SessionSetup) -> RedisMemory | None:
    if setup.source is not QuoteSource.BRAPI:
        return None
    redis = await open_redis(settings.redis_url, retries_max=REDIS_RETRIES_MAX)
    return RedisMemory(redis, settings.session_key, brapi.NAME)


def _sources(context: AppContext, setup: SessionSetup, memory: RedisMemory | None) -> tuple[Source, Source | None]:
    fallback = None if setup.fallback is None else _computed(context, setup, setup.fallback)
    if setup.source is not QuoteSource.BRAPI:
        return _computed(context, setup, setup.source), fallback
    assert memory is not None, "a metered source has a shared memory"
    settings = context.settings
    first = BrapiSource(
        url=settings.text("MYBROKER_BRAPI_URL", brapi.URL),
        token=brapi_token(settings),
        session_key=setup.key,
        memory=memory,
        clock=context.clock,
        chance=Random(),
        quota=_quota(settings),
    )
    context.on_stop("brapi", first.close)
    return first, fallback


def _computed(context: AppContext, setup: SessionSetup, source: QuoteSource) -> ComputedSource:
    if source is QuoteSource.SIMULATED:
        # An F ticker stands for its share, so that a share not traded in the session is quoted all the same.
        references_ticks = {instrument.asset: instrument.reference_price_ticks for instrument in setup.instruments}
        days = simulated.simulated_days(setup.seed, references_ticks)
        return ComputedSource(simulated.NAME, setup.key, setup.hours, days)
    if source is QuoteSource.COTAHIST:
        records = _cotahist_records(context, setup)
        return ComputedSource(cotahist.NAME, setup.key, setup.hours, cotahist.cotahist_days(setup.seed, records))
    raise SettingsError(SETUP_VARIABLE, "a source of Brapi, Cotahist, Simulated", source.value)


def _cotahist_records(context: AppContext, setup: SessionSetup) -> dict[str, DailyRecord]:
    """Read the file; one that cannot be read is fatal only where nothing stands in for it."""
    path = Path(setup.file or "")
    try:
        records = cotahist.load_cash_day(path)
    except (OSError, CotahistError) as error:
        if setup.fallback is None:
            raise SettingsError(SETUP_VARIABLE, f"a COTAHIST file ({error})", str(path)) from error
        context.log.error("cotahist_refused", path=str(path), reason=str(error), fallback=setup.fallback.value)
        return {}
    missing = cotahist.tickers_missing(records, assets_of(setup.symbols))
    context.log.info("cotahist_read", path=str(path), tickers=len(records), missing=missing)
    return records
