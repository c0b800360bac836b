"""Planner and fetchers as real processes on real engines: Brapi, then nothing, kills, MongoDB away and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any

import pymongo
import pytest

from mybroker.contracts import topics
from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry, SessionClock, encode_entry
from mybroker.contracts.market_config import SessionMarket, SessionSetup, dump_session_setup
from mybroker.contracts.market_session import QuoteSource
from mybroker.contracts.quotes import Quote, decode_quote
from mybroker.domain.schedule import HOURS_PRESETS, local_date, local_instant_ns
from mybroker.local.engines.facade import Engines
from mybroker.runtime.kafka import ensure_topics, make_producer, read_from
from mybroker.runtime.redis import open_redis
from mybroker.testing.brapi_server import Reply, brapi_server, quote_body
from services.b3_ingestor.memory import RedisMemory

pytestmark = pytest.mark.engines

TICKERS = ("PETR4", "VALE3", "WEGE3")
DEADLINE_S = 120
QUOTE = Quote(
    ticker="PETR4",
    price="38.12",
    source="brapi",
    updated_at="2026-11-20T20:07:46+00:00",
    received_at="",
    session_key="k",
)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("engines"), dict(os.environ) | {"MYBROKER_RABBIT_URL": ""})
    engines.start()
    used = {topics.SESSIONS, topics.MARKET_DATA, topics.FETCH_TASKS}
    wanted = [spec for spec in topics.SHARED_TOPICS if spec.name in used]
    ensure_topics(engines.urls.kafka, wanted)
    yield engines
    engines.stop()
    engines.remove_data()


class Ingest:
    """A session's planner and fetchers, and what they brought."""

    def __init__(self, engines: Engines, folder: Path, name: str, source: QuoteSource, **env: str) -> None:
        self.engines = engines
        self.key = f"test.{name}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        catalogue = shipped_catalogue()
        setup = SessionSetup(
            namespace="test",
            session=name,
            source=source,
            fallback=QuoteSource.SIMULATED,
            file=None,
            seed=7,
            hours=HOURS_PRESETS["b3-summer"],
            lead_time_seconds=600,
            markets=(SessionMarket(name="equities", tickers=TICKERS),),
            instruments=tuple(catalogue.instruments[ticker] for ticker in TICKERS),
            symbols=TICKERS,
            market_makers=(),
            noise_traders=(),
        )
        config = folder / "session.json"
        config.write_bytes(dump_session_setup(setup))
        self._env = dict(os.environ) | {
            "MYBROKER_NAMESPACE": "test",
            "MYBROKER_SESSION": name,
            "MYBROKER_SESSION_CONFIG": str(config),
            "MYBROKER_KAFKA_URL": engines.urls.kafka,
            "MYBROKER_REDIS_URL": engines.urls.redis,
            "MYBROKER_MONGO_URL": engines.urls.mongo,
            **env,
        }

    def open_session(self, speed: int = 60) -> None:
        """Publish the session with a clock at its opening; at speed 100 its day lasts five minutes."""
        today = local_date(time_ns())
        opening_ns = local_instant_ns(today, 10 * 60)
        entry = DirectoryEntry(
            namespace="test",
            session=self.key.partition(".")[2],
            revision=1,
            business_date=today.isoformat(),
            desired_state="Open",
            clock=SessionClock(anchor_wall_ns=time_ns(), anchor_session_ns=opening_ns, speed=speed),
            markets=(),
            participants=(),
        )
        producer = make_producer(self.engines.urls.kafka)
        producer.produce(topics.SESSIONS, encode_entry(entry), entry.key)
        producer.flush()

    def start(self, role: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{role}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.b3_ingestor", role], env=self._env, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def quotes(self) -> list[Quote]:
        """Return everything this session published."""
        found = []
        for partition in range(6):
            for record in read_from(self.engines.urls.kafka, topics.MARKET_DATA, partition, 0):
                quote = decode_quote(record.value or b"")
                if quote.session_key == self.key:
                    assert record.key == quote.ticker.encode()
                    found.append(quote)
        return found

    def history(self) -> list[dict[str, Any]]:
        """Return everything this session's fetchers wrote."""
        with pymongo.MongoClient[dict[str, Any]](self.engines.urls.mongo) as client:
            return list(client.get_default_database("mybroker")[topics.PRICE_HISTORY].find({"session_key": self.key}))

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))


@pytest.fixture
def ingest(engines: Engines, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Ingest]]:
    made: list[Ingest] = []

    def make(source: QuoteSource, **env: str) -> Ingest:
        made.append(Ingest(engines, tmp_path, f"s{abs(hash(request.node.name)) % 10**8}", source, **env))
        return made[-1]

    yield make
    for one in made:
        for process in one.processes:
            process.kill()
            process.wait()


def until(what: Callable[[], object], said: Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    give_up_at = monotonic() + deadline_s
    while not what():
        assert monotonic() < give_up_at, said()[-6_000:]
        sleep(0.2)


def sources(quotes: list[Quote]) -> dict[str, set[str]]:
    return {ticker: {quote.source for quote in quotes if quote.ticker == ticker} for ticker in TICKERS}


def identities(rows: list[Quote]) -> set[tuple[str, str, str]]:
    return {(row.ticker, row.updated_at, row.source) for row in rows}


def kept(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["ticker"], row["ts"], row["source"].partition("@")[0]) for row in rows]


def test_real_quotes_come_from_brapi_and_the_rest_from_the_fallback(ingest: Callable[..., Ingest]) -> None:
    with brapi_server() as server:
        candles = [{"date": 1750683600, "open": 37, "high": 39, "low": 36.5, "close": 38.01, "volume": 719}]
        server.answer("PETR4", Reply(body=quote_body("PETR4", "38.12", historicalDataPrice=candles)))
        server.answer("VALE3", Reply(status=503))
        it = ingest(QuoteSource.BRAPI, MYBROKER_BRAPI_URL=server.url)
        it.start("plan"), it.start("fetch")
        it.open_session()
        until(lambda: all(sources(it.quotes()).values()), it.logs)
        until(lambda: sum(q.ticker == "WEGE3" for q in it.quotes()) >= 3, it.logs)

        assert sources(it.quotes()) == {"PETR4": {"brapi"}, "VALE3": {"simulated"}, "WEGE3": {"simulated"}}
        until(lambda: identities(it.quotes()) <= set(kept(it.history())), it.logs)
        petr4 = [row for row in it.history() if row["ticker"] == "PETR4"]
        assert [row["price"] for row in petr4] == ["38.12"]
        assert petr4[0]["raw"] == quote_body("PETR4", "38.12", historicalDataPrice=candles).decode()
        assert "token" in it.logs(), "why WEGE3 is not asked for is said"


def test_without_a_network_every_ticker_is_simulated_within_seconds(ingest: Callable[..., Ingest]) -> None:
    it = ingest(QuoteSource.BRAPI, MYBROKER_BRAPI_URL="http://127.0.0.1:9")
    it.start("plan"), it.start("fetch")
    until(lambda: it.logs().count("http_listening") == 2, it.logs)
    began = monotonic()
    it.open_session()
    until(lambda: all(sources(it.quotes()).values()), it.logs)

    assert sources(it.quotes()) == {ticker: {"simulated"} for ticker in TICKERS}
    assert monotonic() - began < 20


def test_killed_fetchers_lose_nothing_and_two_share_the_work(ingest: Callable[..., Ingest]) -> None:
    it = ingest(QuoteSource.SIMULATED)
    it.start("plan"), it.start("fetch")
    it.open_session(speed=100)
    until(lambda: len(it.quotes()) >= 10, it.logs)
    it.processes[1].send_signal(signal.SIGKILL)
    it.start("fetch"), it.start("fetch")
    before = len(it.quotes())
    until(lambda: len(it.quotes()) >= before + 10, it.logs)
    it.processes[2].send_signal(signal.SIGKILL)
    it.start("fetch")
    before = len(it.quotes())
    until(lambda: len(it.quotes()) >= before + 10, it.logs)

    until(lambda: identities(it.quotes()) <= set(kept(it.history())), it.logs)
    assert len(kept(it.history())) == len(set(kept(it.history()))), "each quote is kept once"


def test_a_fetcher_killed_between_kafka_and_mongodb_does_its_tasks_again(ingest: Callable[..., Ingest]) -> None:
    it = ingest(QuoteSource.SIMULATED, MYBROKER_KILL_AT="ingestor-between-kafka-and-mongo:3")
    it.start("plan"), it.start("fetch")
    it.open_session(speed=100)
    until(lambda: it.processes[1].poll() is not None, it.logs)
    assert not identities(it.quotes()) <= set(kept(it.history())), "the kill left a quote without its history"
    it._env.pop("MYBROKER_KILL_AT")
    it.start("fetch")

    until(lambda: identities(it.quotes()) <= set(kept(it.history())), it.logs)


def test_while_mongodb_is_away_quotes_flow_and_afterwards_its_history_is_whole(
    engines: Engines, ingest: Callable[..., Ingest]
) -> None:
    it = ingest(QuoteSource.SIMULATED)
    it.start("plan"), it.start("fetch")
    it.open_session(speed=100)
    until(lambda: len(it.history()) >= 3, it.logs)
    engines.kill("mongo")
    before = len(it.quotes())
    until(lambda: len(it.quotes()) >= before + 8, it.logs)
    engines.restart("mongo")

    until(lambda: identities(it.quotes()) <= set(kept(it.history())), it.logs)


@pytest.mark.parametrize("kind", ["redis", "in this process"])
async def test_a_shared_memory_counts_stops_and_remembers(engines: Engines, memory, kind: str) -> None:
    redis = await open_redis(engines.urls.redis)
    shared = RedisMemory(redis, "test.memory", "brapi") if kind == "redis" else memory
    try:
        assert [await shared.take("2031-01", 2) for _ in range(3)] == [True, True, False]
        await shared.give_back("2031-01")
        assert await shared.used("2031-01") == 1
        await shared.raise_used("2031-01", 14_000)
        await shared.raise_used("2031-01", 7)
        assert await shared.used("2031-01") == 14_000
        assert await shared.used("2031-02") == 0
        assert await shared.last_quote("PETR4") is None
        await shared.keep_quote("PETR4", QUOTE, 77)
        assert await shared.last_quote("PETR4") == (QUOTE, 77)
        assert await shared.spent_until_ns() == 0
        now_ns = time_ns()
        await shared.stop_until(now_ns + 60_000_000_000, now_ns)
        assert await shared.spent_until_ns() == now_ns + 60_000_000_000
    finally:
        await redis.flushdb()
        await redis.aclose()


def test_a_wrong_role_is_a_clear_error() -> None:
    wrong = subprocess.run([sys.executable, "-m", "services.b3_ingestor", "sing"], capture_output=True, check=False)
    assert (wrong.returncode, b"expected one role" in wrong.stderr) == (1, True)


def test_a_cotahist_session_without_its_file_goes_on_with_the_fallback_and_says_so(
    ingest: Callable[..., Ingest],
) -> None:
    it = ingest(QuoteSource.COTAHIST)
    it.start("plan"), it.start("fetch")
    it.open_session()
    until(lambda: all(sources(it.quotes()).values()), it.logs)

    assert sources(it.quotes()) == {ticker: {"simulated"} for ticker in TICKERS}
    assert "cotahist_refused" in it.logs()
