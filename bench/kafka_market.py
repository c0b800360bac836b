"""One market on a Kafka of its own: its topics, its directory record and one matcher process; nothing else runs.

The matcher is started as the runner starts it. Everything ends with `open_market`, by its own process id.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.flow import ROOT, flow_config
from bench.session import own_environ
from mybroker.contracts.commands import LogStart, SetPhase
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry, encode_entry
from mybroker.contracts.frames import COMMANDS
from mybroker.contracts.market_config import dump_market_config
from mybroker.contracts.topics import SESSIONS, SHARED_TOPICS, books_topic, commands_topic, events_topic, market_topics
from mybroker.domain.phase import Phase
from mybroker.local.engines import kafka
from mybroker.local.engines.children import Nursery
from mybroker.local.engines.ports import PortClaims
from mybroker.local.engines.starting import Start
from mybroker.runtime.kafka import ensure_topics, make_producer
from mybroker.testing.recorded_flow import PARTICIPANT, TICKER

NAMESPACE, SESSION, MARKET = "local", "bench", "equities"
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Where the market's logs are."""

    kafka_url: str
    commands: str
    events: str


@contextmanager
def kafka_alone(folder: Path) -> Iterator[str]:
    """Run a broker; gives its address. Call it in the main thread: children die with the thread that forked them."""
    claims = PortClaims()
    ports = claims.choose(kafka.PORT_NAMES, {})
    engine = kafka.Kafka(folder, ports, Nursery("kafka", folder / "run.json"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        engine.prepare(_say_nothing)
        start = Start([engine], _say_nothing)
        while not start.step():
            time.sleep(POLL_S)
        yield engine.url
    finally:
        for child in reversed(engine.children()):
            child.ask_to_stop()
            give_up_s = time.monotonic() + STOP_WITHIN_S
            while not child.has_ended() and time.monotonic() < give_up_s:
                time.sleep(POLL_S)
            child.kill()
        claims.release()


@contextmanager
def running(folder: Path, module: str, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service process and wait until it is ready; it has ended when the block is left."""
    claims = PortClaims()
    port = claims.choose(["http"], {})["http"]
    log = folder / f"{module.rpartition('.')[2]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=own_environ(folder, MYBROKER_HTTP_PORT=str(port), **env),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_ready(process, f"http://127.0.0.1:{port}/readyz", log)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        claims.release()


@contextmanager
def open_market(folder: Path) -> Iterator[Market]:
    """Run a Kafka and the matcher of a market that is open."""
    names = (NAMESPACE, SESSION, MARKET)
    with kafka_alone(folder / "kafka") as url:
        market = Market(kafka_url=url, commands=commands_topic(*names), events=events_topic(*names))
        ensure_topics(url, [*SHARED_TOPICS, *market_topics(*names, 1)])
        (folder / "market.json").write_bytes(dump_market_config(flow_config(f"{NAMESPACE}.{SESSION}")))
        producer = make_producer(url)
        producer.produce(market.commands, COMMANDS.encode(LogStart(log_id="log-bench")), partition=0)
        entry = _entry(market)
        producer.produce(SESSIONS, encode_entry(entry), entry.key.encode())
        assert producer.flush(30) == 0, "the broker did not take the directory record"
        with running(folder, "services.b3_matcher", **_matcher_env(folder, url)):
            producer.produce(market.commands, COMMANDS.encode(SetPhase(phase=Phase.OPEN)), partition=0)
            assert producer.flush(30) == 0, "the broker did not take the opening"
            yield market


def _entry(market: Market) -> DirectoryEntry:
    return DirectoryEntry(
        namespace=NAMESPACE,
        session=SESSION,
        revision=1,
        business_date="2026-11-23",
        desired_state="Open",
        clock=SessionClock(anchor_wall_ns=time.time_ns(), anchor_session_ns=0, speed=1),
        markets=(
            MarketEntry(
                name=MARKET,
                commands_topic=market.commands,
                events_topic=market.events,
                books_topic=books_topic(NAMESPACE, SESSION, MARKET),
                shards=(ShardEntry(shard=0, tickers=(TICKER,)),),
            ),
        ),
        participants=(PARTICIPANT,),
    )


def _matcher_env(folder: Path, kafka_url: str) -> Mapping[str, str]:
    return {
        "MYBROKER_NAMESPACE": NAMESPACE,
        "MYBROKER_SESSION": SESSION,
        "MYBROKER_MARKET": MARKET,
        "MYBROKER_SHARD": "0",
        "MYBROKER_DATA_DIR": str(folder),
        "MYBROKER_SECRETS_DIR": str(folder / "secrets"),
        "MYBROKER_KAFKA_URL": kafka_url,
        "MYBROKER_MARKET_CONFIG": str(folder / "market.json"),
    }


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_s = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            pass
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        if process.poll() is not None:
            raise RuntimeError(f"{log.name}: ended with {process.returncode}\n{tail}")
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"{log.name}: not ready within {READY_WITHIN_S:g} s\n{tail}")
        time.sleep(POLL_S)


def _say_nothing(_engine: str, _text: str, _done: int, _total: int) -> None:
    return
