"""One engine alone, and one market on a Kafka: its topics, its directory record, its matcher processes.

A matcher is started as the runner starts it, `python -m services.b3_matcher` (or a test's own module around it), on a
port of its own; nothing else of the system runs. Every process is ended by its own id when the test is over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mybroker.contracts.commands import Command, InstrumentConfig, LogStart, PhaseChange, SessionConfig
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry, encode_entry
from mybroker.contracts.frames import COMMANDS, Frame, decode_frame_part
from mybroker.contracts.market_config import dump_market_config
from mybroker.contracts.topics import (
    SESSIONS,
    SHARED_TOPICS,
    books_topic,
    commands_topic,
    events_topic,
    market_topics,
)
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from mybroker.local.engines import kafka, rabbit
from mybroker.local.engines.children import Nursery
from mybroker.local.engines.model import Engine
from mybroker.local.engines.passwords import Passwords
from mybroker.local.engines.ports import PortClaims
from mybroker.local.engines.starting import Start
from mybroker.runtime.frames import FrameSequence
from mybroker.runtime.kafka import Record, ensure_topics, make_producer, read_from, watermarks
from services.b3_matcher.replay import ReplayResult, replay

NAMESPACE, SESSION, MARKET = "local", "test", "equities"
TICKERS = ("PETR4", "VALE3")
OPEN_AT_NS = 1_000_000_000
CLOCK_SPEED = 1
ROOT = Path(__file__).parents[2]
POLL_S = 0.02


def until(what: str, condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Poll until the condition gives something true; return it, or fail naming what was waited for."""
    give_up_at = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"{what}: not within {within_s:g} s"
        time.sleep(POLL_S)
    return found


class EngineAlone:
    """One engine, without the others."""

    def __init__(self, claims: PortClaims, engine: Engine) -> None:
        """Start it; `claims` holds its ports."""
        self._claims = claims
        self._engine = engine
        self.url = engine.url
        engine.prepare(_say_nothing)
        self.start()

    def start(self) -> None:
        start = Start([self._engine], _say_nothing)
        while not start.step():
            time.sleep(POLL_S)

    def kill(self) -> None:
        server = self._engine.children()[-1]
        server.kill()
        until("the engine is gone", server.has_ended)

    def stop(self) -> None:
        for child in reversed(self._engine.children()):
            child.ask_to_stop()
            until("the engine has stopped", child.has_ended)
        self._claims.release()


def kafka_alone(folder: Path) -> EngineAlone:
    claims = PortClaims()
    ports = claims.choose(kafka.PORT_NAMES, {})
    return EngineAlone(claims, kafka.Kafka(folder, ports, Nursery("kafka", folder / "run.json")))


def rabbit_alone(folder: Path) -> EngineAlone:
    claims = PortClaims()
    ports = claims.choose(rabbit.PORT_NAMES, {})
    passwords = Passwords(folder / "secrets")
    return EngineAlone(claims, rabbit.Rabbit(folder, ports, Nursery("rabbit", folder / "run.json"), passwords))


def _say_nothing(_engine: str, _text: str, _done: int, _total: int) -> None:
    return


@dataclass(slots=True)
class Service:
    """One process of ours, with its own port and log."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    started_s: float = field(default_factory=time.monotonic)

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON body; (0, None) while nobody answers."""
        return self._call(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object, headers: Mapping[str, str]) -> tuple[int, Any]:
        data = json.dumps(body).encode()
        return self._call(urllib.request.Request(self.url + path, data, dict(headers), method="POST"))

    def metric(self, name: str) -> float | None:
        """Return a metric without labels, None where it is not told."""
        try:
            with urllib.request.urlopen(self.url + "/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        return next((float(line.split()[1]) for line in lines if line.startswith(name + " ")), None)

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def wait_ready(self, *, within_s: float = 60.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.poll()}:\n{self.tail()}"
            return self.is_ready()

        until(f"{self.log.name} is ready", ready, within_s=within_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def ended(self, *, within_s: float = 60.0) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self.process.wait(within_s)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _call(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except (OSError, ValueError):
            return 0, None


class KafkaMarket:
    """One session with one market of one shard."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        participants: Iterable[str] = ("MYBROKER", "P1", "P2", "P3"),
        rules: Rules | None = None,
        session: str = SESSION,
    ) -> None:
        """Make topics, the log's first record and the directory record; the session's clock starts now."""
        self.url = url
        self.folder = folder
        self.session = session
        self.key = f"{NAMESPACE}.{session}"
        names = (NAMESPACE, session, MARKET)
        self.commands, self.events, self.books = commands_topic(*names), events_topic(*names), books_topic(*names)
        self._claims = PortClaims()
        self._services: list[Service] = []
        self._producer = make_producer(url)
        self._began_ns = time.time_ns()
        folder.mkdir(parents=True, exist_ok=True)
        ensure_topics(url, [*SHARED_TOPICS, *market_topics(*names, 1)])
        if watermarks(url, self.commands, 0)[1] == 0:
            self.send([LogStart(log_id=f"log-{session}")])
        self.config = SessionConfig(
            session=self.key,
            market=MARKET,
            shard=0,
            business_date="2026-11-23",
            instruments=tuple(
                InstrumentConfig(ticker=ticker, asset=ticker, reference_price_ticks=3000) for ticker in TICKERS
            ),
            schedule=(PhaseChange(at_ns=OPEN_AT_NS, phase=Phase.OPEN),),
            rules=rules or Rules(hash_every_commands=100, book_every_commands=50),
        )
        self.configure(self.config)
        self.entry = DirectoryEntry(
            namespace=NAMESPACE,
            session=session,
            revision=1,
            business_date="2026-11-23",
            desired_state="Open",
            clock=SessionClock(anchor_wall_ns=self._began_ns, anchor_session_ns=0, speed=CLOCK_SPEED),
            markets=(
                MarketEntry(
                    name=MARKET,
                    commands_topic=self.commands,
                    events_topic=self.events,
                    books_topic=self.books,
                    shards=(ShardEntry(shard=0, tickers=TICKERS),),
                ),
            ),
            participants=tuple(participants),
        )
        self._publish()

    def pause_clock(self) -> None:
        """Stop the session's clock, so that its owner appends nothing any more."""
        clock = SessionClock(anchor_wall_ns=time.time_ns(), anchor_session_ns=0, speed=0)
        self.entry = replace(self.entry, revision=self.entry.revision + 1, clock=clock)
        self._publish()

    def run_clock(self) -> None:
        """Let the clock go on, ahead of everything it has said."""
        now_ns = time.time_ns()
        clock = SessionClock(anchor_wall_ns=now_ns, anchor_session_ns=now_ns - self._began_ns, speed=CLOCK_SPEED)
        self.entry = replace(self.entry, revision=self.entry.revision + 1, clock=clock)
        self._publish()

    def configure(self, config: SessionConfig) -> None:
        """Write the file that the plan would write."""
        fresh = self.folder / "market.json.new"
        fresh.write_bytes(dump_market_config(config))
        fresh.replace(self.folder / "market.json")

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots" / f"{MARKET}-0"

    def matcher(self, role: str | None = None, **env: str) -> Service:
        """Start a matcher of the shard: the real one, or one of the saboteurs."""
        module = ["services.b3_matcher"] if role is None else ["tests.matcher.saboteurs", role]
        return self.service(*module, MYBROKER_MARKET=MARKET, MYBROKER_SHARD="0", **env)

    def service(self, module: str, *arguments: str, **env: str) -> Service:
        """Start a service of this session."""
        name = f"port {len(self._services)}"
        port = self._claims.choose([name], {})[name]
        base = {name: value for name, value in os.environ.items() if not name.startswith("MYBROKER_")}
        base |= {
            "PYTHONPATH": str(ROOT),
            "MYBROKER_NAMESPACE": NAMESPACE,
            "MYBROKER_SESSION": self.session,
            "MYBROKER_DATA_DIR": str(self.folder),
            "MYBROKER_SECRETS_DIR": str(self.folder / "secrets"),
            "MYBROKER_KAFKA_URL": self.url,
            "MYBROKER_MARKET_CONFIG": str(self.folder / "market.json"),
            "MYBROKER_HTTP_PORT": str(port),
        }
        log = self.folder / f"{module.rpartition('.')[2]}-{len(self._services)}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=base | env,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started = Service(process=process, url=f"http://127.0.0.1:{port}", log=log)
        self._services.append(started)
        return started

    def send(self, commands: Iterable[Command | bytes]) -> None:
        """Append commands (or bytes that are none) to the log; returns once the broker has them all."""
        for command in commands:
            self._produce(self.commands, command if isinstance(command, bytes) else COMMANDS.encode(command))
        assert self._producer.flush(30) == 0, "the broker did not take the commands"

    def post(self, commands: Iterable[Command]) -> None:
        """Append commands without waiting; `settle` waits for them."""
        for command in commands:
            self._produce(self.commands, COMMANDS.encode(command))
        self._producer.poll(0)

    def settle(self) -> None:
        assert self._producer.flush(30) == 0, "the broker did not take the commands"

    def append_event(self, value: bytes) -> None:
        """Write into the event log what no matcher computed."""
        self._produce(self.events, value)
        assert self._producer.flush(20) == 0

    def command_count(self) -> int:
        return watermarks(self.url, self.commands, 0)[1]

    def event_records(self) -> list[Record]:
        return list(read_from(self.url, self.events, 0, 0))

    def frames(self) -> list[Frame]:
        """Return the event log's frames, each once; raises SequenceGap."""
        sequence = FrameSequence(self.events)
        parts = (decode_frame_part(record.value or b"") for record in read_from(self.url, self.events, 0, 0))
        return [frame for part in parts if (frame := sequence.hear(part)) is not None]

    def caught_up(self, matcher: Service) -> bool:
        """Say whether the matcher has answered every command that is in the log now."""
        _, state = matcher.get("/state")
        return state is not None and state["owned"] and state["next_offset"] >= self.command_count()

    def come_to_rest(self, matcher: Service) -> None:
        """Stop the clock and wait until everything is answered and nothing more comes."""
        self.pause_clock()
        counts = [-1, -2]

        def rests() -> bool:
            time.sleep(0.15)  # longer than an owner takes to hear of the clock and to append
            counts.append(self.command_count())
            return counts[-1] == counts[-2] == counts[-3] and self.caught_up(matcher)

        until("the market rests", rests, within_s=90)

    def replay(self) -> ReplayResult:
        return replay(self.url, self.commands, self.events, 0)

    def close(self) -> None:
        """End what still runs, by its own id."""
        for service in self._services:
            if service.process.poll() is None:
                service.kill()
        self._producer.flush(1)
        self._claims.release()

    def _publish(self) -> None:
        self._produce(SESSIONS, encode_entry(self.entry), key=self.key.encode())
        assert self._producer.flush(20) == 0

    def _produce(self, topic: str, value: bytes, *, key: bytes | None = None) -> None:
        self._producer.produce(topic, value, key, partition=0)
