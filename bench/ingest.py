"""Quotes a second through one fetcher process: fetch tasks in, quotes to Kafka, history to MongoDB.

The source is the seeded simulation and all tasks are due, so nothing is waited for. The fetcher is started on a full
topic; its rate counts from its first quote, so that its start is not part of it. A task is committed only when
both Kafka and MongoDB have its quote: the second figure is the time until the last commit. The baseline is the source
alone, computing the same quotes in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from pymongo import MongoClient

from bench.kafka_market import running
from bench.log_reader import LogReader
from bench.report import Options, Result, per_second
from bench.session import own_environ, temporary_home
from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.market_config import SessionMarket, SessionSetup, dump_session_setup
from mybroker.contracts.market_session import QuoteSource
from mybroker.contracts.quotes import FetchTask, encode_task
from mybroker.contracts.topics import FETCH_TASKS, MARKET_DATA, PRICE_HISTORY, SHARED_TOPICS
from mybroker.domain.schedule import HOURS_PRESETS, NS_PER_SECOND
from mybroker.local.engines.facade import Engines
from mybroker.runtime.kafka import ensure_topics, make_consumer, make_producer
from services.b3_ingestor import simulated
from services.b3_ingestor.computed import ComputedSource

NAMESPACE, SESSION = "local", "bench"
KEY = f"{NAMESPACE}.{SESSION}"
SEED = 7
HOURS = "b3-summer"
SLOTS_A_TICKER = 500
SLOTS_A_TICKER_QUICK = 50
FIRST_SLOT_SECONDS = 1_731_070_800
"""10:00 on 8 November 2024 in São Paulo."""

TASK_LIFE_NS = 3_600 * NS_PER_SECOND
PARTITIONS = 6
WITHIN_S = 180.0
LOOK_EVERY_S = 0.05
DATABASE = "mybroker"


def setup() -> SessionSetup:
    """Return a session over the whole shipped catalogue."""
    instruments = shipped_catalogue().instruments
    tickers = tuple(ticker for ticker, instrument in instruments.items() if instrument.asset == ticker)
    return SessionSetup(
        namespace=NAMESPACE,
        session=SESSION,
        source=QuoteSource.SIMULATED,
        fallback=None,
        file=None,
        seed=SEED,
        hours=HOURS_PRESETS[HOURS],
        lead_time_seconds=600,
        markets=(SessionMarket(name="equities", tickers=tickers),),
        instruments=tuple(instruments[ticker] for ticker in tickers),
        symbols=tickers,
        market_makers=(),
        noise_traders=(),
    )


def due_tasks(tickers: tuple[str, ...], slots: int, now_ns: int) -> list[FetchTask]:
    """Return `slots` tasks for each ticker, a session minute apart, all due and none too late."""
    return [
        FetchTask(
            session_key=KEY,
            ticker=ticker,
            slot=FIRST_SLOT_SECONDS + number * 60,
            due_wall_ns=now_ns,
            due_session_ns=(FIRST_SLOT_SECONDS + number * 60) * NS_PER_SECOND,
            expires_wall_ns=now_ns + TASK_LIFE_NS,
            source=simulated.NAME,
        )
        for number in range(slots)
        for ticker in tickers
    ]


def run(options: Options) -> Result:
    """Measure the source alone, then a fetcher."""
    session = setup()
    slots = SLOTS_A_TICKER_QUICK if options.quick else SLOTS_A_TICKER
    result = Result(
        name="ingest", title=f"{slots * len(session.symbols):,} quotes of {len(session.symbols)} tickers, one fetcher"
    )
    with temporary_home() as folder:
        engines = Engines(folder / "session" / "engines", own_environ(folder, MYBROKER_RABBIT_URL=""))
        try:
            engines.start()
            _measure(engines, folder, session, slots, result)
        finally:
            engines.stop()
    return result


def _measure(engines: Engines, folder: Path, session: SessionSetup, slots: int, result: Result) -> None:
    url = engines.urls.kafka
    tasks = due_tasks(session.symbols, slots, time.time_ns())
    count = len(tasks)
    alone_ns = _source_alone_ns(session, tasks)
    ensure_topics(url, [spec for spec in SHARED_TOPICS if spec.name in (MARKET_DATA, FETCH_TASKS)])
    producer = make_producer(url)
    for task in tasks:
        producer.produce(FETCH_TASKS, encode_task(task), task.ticker)
    assert producer.flush(60) == 0, "the broker did not take the tasks"
    config = folder / "session.json"
    config.write_bytes(dump_session_setup(session))
    env = {
        "MYBROKER_NAMESPACE": NAMESPACE,
        "MYBROKER_SESSION": SESSION,
        "MYBROKER_SESSION_CONFIG": str(config),
        "MYBROKER_KAFKA_URL": url,
        "MYBROKER_REDIS_URL": engines.urls.redis,
        "MYBROKER_MONGO_URL": engines.urls.mongo,
    }
    asker = make_consumer(url, group=f"ingestors.{KEY}")
    try:
        with LogReader(url, MARKET_DATA, PARTITIONS) as reader, running(folder, "services.b3_ingestor", "fetch", **env):
            _until("every task is committed", lambda: _committed(asker) >= count)
            committed_ns = time.monotonic_ns()
            reader.wait_count(count, within_s=WITHIN_S)
            first_ns, last_ns = reader.records[0].heard_ns, reader.records[count - 1].heard_ns
    finally:
        asker.close()
    kept = _history_count(engines.urls.mongo)
    assert kept == count, f"history: expected {count} quotes, was {kept}"
    result.add_row(what="the source alone (baseline)", quotes_per_second=per_second(count, alone_ns), ratio="1.00")
    for what, ended_ns in (("into Kafka", last_ns), ("into Kafka and MongoDB", committed_ns)):
        took_ns = ended_ns - first_ns
        rate = per_second(count, took_ns)
        result.add_row(what=what, quotes_per_second=rate, ratio=f"{alone_ns / max(1, took_ns):.2f}")
    notes = engines.notes()
    if "mongo" in notes:
        result.notes.append(f"MongoDB: {notes['mongo']}")


def _source_alone_ns(session: SessionSetup, tasks: list[FetchTask]) -> int:
    references_ticks = {instrument.asset: instrument.reference_price_ticks for instrument in session.instruments}
    source = ComputedSource(
        simulated.NAME, KEY, session.hours, simulated.simulated_days(session.seed, references_ticks)
    )
    started_ns = time.monotonic_ns()
    for task in tasks:
        assert source.quote(task.ticker, task.slot) is not None, f"the simulation knows {task.ticker}"
    return time.monotonic_ns() - started_ns


def _committed(asker: Consumer) -> int:
    asked = [TopicPartition(FETCH_TASKS, partition) for partition in range(PARTITIONS)]
    return sum(max(0, place.offset) for place in asker.committed(asked, timeout=10))


def _history_count(mongo_url: str) -> int:
    with MongoClient[dict[str, object]](mongo_url) as client:
        return client.get_default_database(DATABASE)[PRICE_HISTORY].count_documents({"session_key": KEY})


def _until(what: str, fits: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WITHIN_S
    while not fits():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"{what}: not within {WITHIN_S:g} s")
        time.sleep(LOOK_EVERY_S)
