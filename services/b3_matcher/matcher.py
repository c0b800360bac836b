"""The matcher: one thread that owns one shard of a market, from the command log to the event log.

It recovers (snapshot, replay, compare), appends a TakeOver, and owns the shard from that record on until it meets
a later one. Only the owner appends ticks and configuration and writes snapshots; a snapshot or a book record is
written only after the delivery reports of the frames it stands on. A delivery error ends the process.

Invariants: frames go out in order, one per command, none that the event log already holds. Limits: one Kafka
partition per process; COMMANDS_BATCH_MAX records between two looks at the clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from mybroker.contracts.commands import Command, SessionConfig, TakeOver
from mybroker.contracts.directory import SessionClock
from mybroker.contracts.events import Quarantined
from mybroker.contracts.frames import COMMANDS, encode_frame
from mybroker.domain.phase import Phase
from mybroker.runtime.kafka import make_consumer, make_producer, poll_batch, read_from, watermarks
from mybroker.runtime.lifecycle import die, passing
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import TRACEPARENT, counter, gauge, histogram
from services.b3_matcher.books import BookPublisher
from services.b3_matcher.duties import Appended, next_duty_wall_ns, owed
from services.b3_matcher.engine.engine import ENGINE_VERSION
from services.b3_matcher.recovery import (
    NEW_DAY_HINT,
    Diverged,
    LogPlace,
    VersionRefused,
    WrittenFrames,
    recover,
)
from services.b3_matcher.shard import LogDamaged, Shard, Step
from services.b3_matcher.snapshots import SnapshotFolder, SnapshotHeader

COMMANDS_BATCH_MAX = 500
SNAPSHOT_EVERY_COMMANDS = 5_000
IDLE_POLL_MS_MAX = 50
LOG_ID_WAIT_MS = 30_000

_COMMANDS = counter("mbb3_commands_total", "Commands applied", ["kind"])
_SUPPRESSED = counter("mbb3_frames_suppressed_total", "Frames computed that the event log already held")
_QUARANTINED = counter("mbb3_quarantined_total", "Commands the engine failed on")
_STANDING = gauge("mbb3_instruments_quarantined", "Instruments that stand until they are redriven: an alarm above 0")
_MATCH = histogram(
    "mbb3_match_seconds",
    "Time to apply a batch of commands, per command",
    buckets=(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05),
)
_SEQ = gauge("mbb3_shard_seq", "Frames computed")
_OWNER = gauge("mbb3_shard_owned", "1 while this process owns the shard")
_DIVERGED = gauge("mbb3_shard_diverged", "1 where two computations of the log differ")


class Superseded(Exception):
    """A later TakeOver is in the log: another matcher owns the shard now."""


@dataclass(slots=True)
class Progress:
    """What other threads may read of the matcher, each field written whole."""

    seq: int = 0
    epoch: int = 0
    owned: bool = False
    phase: str = "closed"
    snapshot_seq: int = 0
    next_offset: int = 0
    at_ns: int = 0
    business_date: str | None = None
    state_hash: str | None = None
    closing_price_ticks: dict[str, int] = field(default_factory=dict)
    """The day's closing prices, once it is over: the reference prices of the next."""
    quarantined: tuple[str, ...] = ()
    message: str = ""


class Matcher:
    """Runs one shard; `run` blocks until `stop` or until the shard is lost."""

    def __init__(
        self,
        place: LogPlace,
        books_topic: str,
        snapshots: SnapshotFolder,
        *,
        owner: str,
        wanted: Callable[[], SessionConfig | None],
        session_clock: Callable[[], SessionClock | None],
    ) -> None:
        """`wanted` gives the manifest's configuration, `session_clock` the directory's clock; both may change."""
        self.progress = Progress()
        self._place = place
        self._snapshots = snapshots
        self._owner = owner
        self._wanted = wanted
        self._session_clock = session_clock
        self._log = get_logger()
        self._stopping = threading.Event()
        self._producer: Producer = make_producer(place.kafka_url)
        self._books = BookPublisher(self._producer, books_topic, place.partition)
        self._shard = Shard()
        self._written = WrittenFrames(log_id="")
        self._appended = Appended()
        self._epoch: int | None = None
        self._in_flight: deque[tuple[int, bool, bool]] = deque()
        self._delivered_seq = 0
        self._delivered_offset = 0
        self._snapshot_due_seq = SNAPSHOT_EVERY_COMMANDS
        self._pending_snapshot: tuple[SnapshotHeader, dict[str, Any]] | None = None

    def stop(self) -> None:
        """Ask the thread to drain: deliver what is computed, snapshot, and return."""
        self._stopping.set()

    def run(self) -> None:
        """Recover, own, serve. Raises Superseded, VersionRefused, Diverged, LogDamaged or a Kafka failure."""
        consumer = make_consumer(self._place.kafka_url)
        try:
            log_id = self._wait_for_log_id()
            if log_id is None:
                return
            self._shard, self._written = recover(self._place, log_id, self._snapshots)
            self._delivered_seq = self._shard.seq
            self.progress.snapshot_seq = self._shard.seq  # 0 where there was none to start from
            self._snapshot_due_seq = self._shard.seq + SNAPSHOT_EVERY_COMMANDS
            self._append(TakeOver(owner=self._owner, engine_version=ENGINE_VERSION), self._on_claimed)
            while self._epoch is None:  # its own record must not be met before its offset is known
                if self._stopping.is_set():
                    return
                self._producer.poll(IDLE_POLL_MS_MAX / 1000)
            consumer.assign(
                [TopicPartition(self._place.commands_topic, self._place.partition, self._shard.next_offset)]
            )
            while not self._stopping.is_set():
                self._round(consumer)
            self._drain()
        except Diverged as error:
            self.progress.message = str(error)
            _DIVERGED.set(1)
            raise
        finally:
            self.progress.owned = False
            _OWNER.set(0)
            consumer.close()

    def wait_for_stop(self, seconds: float) -> bool:
        """Wait until the stop is asked for, at most so long; says whether it was."""
        return self._stopping.wait(seconds)

    def _wait_for_log_id(self) -> str | None:
        """Return the id that the log's first record gives; None where the stop came first."""
        place = self._place
        give_up_at = time.monotonic() + LOG_ID_WAIT_MS / 1000
        while time.monotonic() < give_up_at and not self._stopping.is_set():
            _, end = watermarks(place.kafka_url, place.commands_topic, place.partition)
            if end > 0:
                for record in read_from(place.kafka_url, place.commands_topic, place.partition, 0, until=1):
                    shard = Shard()
                    shard.apply(record.offset, record.value or b"")
                    assert shard.engine.log_id is not None, "a log that starts right has an id"
                    return shard.engine.log_id
            self._stopping.wait(0.1)
        if self._stopping.is_set():
            return None
        raise LogDamaged(f"{place.commands_topic}[{place.partition}]: expected log_start at offset 0, the log is empty")

    def _round(self, consumer: Consumer) -> None:
        batch = poll_batch(consumer, COMMANDS_BATCH_MAX, timeout_s=self._poll_timeout_s())
        if batch:
            started_s = time.perf_counter()
            applied = sum(self._take(message) for message in batch)
            if applied:
                _MATCH.observe((time.perf_counter() - started_s) / applied)
                self.progress.quarantined = self._shard.engine.quarantined
                _STANDING.set(len(self.progress.quarantined))
        if self._snapshot_is_due():
            self._prepare_snapshot()
        self._producer.poll(0)
        if self.progress.owned:
            self._do_duties()
            self._write_what_is_delivered()
        self._note_progress()

    def _poll_timeout_s(self) -> float:
        if not self.progress.owned:
            return IDLE_POLL_MS_MAX / 1000
        wall_ns = time.time_ns()
        look_ns = next_duty_wall_ns(self._appended, wall_ns=wall_ns, due_wall_ns=self._due_wall_ns())
        return max(0.0, min(IDLE_POLL_MS_MAX / 1000, (look_ns - wall_ns) / 1e9))

    def _due_wall_ns(self) -> int | None:
        clock = self._session_clock()
        engine = self._shard.engine
        due_ns = engine.next_due_ns(max(engine.now_ns, self._appended.tick_at_ns)) if engine.config else None
        return clock.wall_ns_at(due_ns) if clock is not None and due_ns is not None else None

    def _take(self, message: Message) -> bool:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF or not (error.fatal() or error.code() in _LASTING):
                return False
            raise KafkaException(error)
        offset = message.offset()
        assert offset is not None, "a message that was read has an offset"
        step = self._shard.apply(offset, message.value() or b"")
        _COMMANDS.labels(type(step.command).__name__ if step.command is not None else "malformed").inc()
        for event in step.frame.events:
            if isinstance(event, Quarantined):
                _QUARANTINED.inc()
                self._log.critical(
                    "command_quarantined", offset=offset, ticker=event.ticker, command=event.command, error=event.error
                )
        self._emit(step, message)
        self._notice_owner(step)
        return True

    def _emit(self, step: Step, message: Message) -> None:
        seq = step.frame.seq
        if seq <= self._written.tail_seq:
            there = self._written.digests.pop(seq, None)
            if there is not None and there != step.frame.digest:
                raise Diverged(f"frame {seq}: computed {step.frame.digest}, the event log holds {there}")
            _SUPPRESSED.inc()
            self._delivered_seq = seq
            return
        headers = [pair for pair in message.headers() or () if pair[0] == TRACEPARENT]
        parts = list(encode_frame(step.frame, step.events_bytes))
        for number, data in enumerate(parts, start=1):
            self._in_flight.append((seq, number == 1, number == len(parts)))
            self._produce(self._place.events_topic, data, headers, self._on_frame_delivered)
        passing("matcher.frame_emitted")
        self._books.note(step.frame)

    def _notice_owner(self, step: Step) -> None:
        if not isinstance(step.command, TakeOver) or self._epoch is None:
            return
        engine_epoch = self._shard.engine.epoch
        if step.frame.offset == self._epoch:
            if engine_epoch != self._epoch:
                raise VersionRefused(
                    f"engine version: expected {self._shard.engine.engine_version_wanted}, was {ENGINE_VERSION};"
                    f" {NEW_DAY_HINT}"
                )
            self.progress.owned = True
            _OWNER.set(1)
            # Changes whose books a former owner never wrote are in the state, but not in any frame met from here on.
            self._books.note_tickers(self._shard.engine.tickers)
            self._log.info("shard_taken_over", epoch=self._epoch, seq=step.frame.seq)
        elif engine_epoch > self._epoch:
            raise Superseded(f"a later take_over is at offset {step.frame.offset}, mine was {self._epoch}")

    def _do_duties(self) -> None:
        clock = self._session_clock()
        wall_ns = time.time_ns()
        assert self._epoch is not None, "an owner has its epoch"
        for command in owed(
            self._shard.engine,
            self._wanted(),
            self._appended,
            epoch=self._epoch,
            session_now_ns=clock.now_ns(wall_ns) if clock is not None else None,
            wall_ns=wall_ns,
        ):
            self._append(command, self._on_appended)

    def _append(self, command: Command, delivered: Callable[[KafkaError | None, Message], None]) -> None:
        self._produce(self._place.commands_topic, COMMANDS.encode(command), (), delivered)

    def _produce(self, topic: str, data: bytes, headers: Any, delivered: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, data, partition=self._place.partition, headers=list(headers), on_delivery=delivered
                )
                return
            except BufferError:
                self._producer.poll(0.05)

    def _on_claimed(self, error: KafkaError | None, message: Message) -> None:
        self._on_appended(error, message)
        self._epoch = message.offset()

    def _on_appended(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            die("command_not_delivered", error=str(error), topic=message.topic())

    def _on_frame_delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            die("frame_not_delivered", error=str(error), topic=message.topic())
        seq, first, last = self._in_flight.popleft()
        if first:
            self._delivered_offset = message.offset() or 0
        if not last:
            return
        self._delivered_seq = seq
        pending = self._pending_snapshot
        if pending is not None and pending[0].seq == seq:
            placed = _placed(pending[0], self._delivered_offset)
            self._pending_snapshot = (placed, pending[1])

    def _write_what_is_delivered(self) -> None:
        if self._pending_snapshot is not None and self._may_write_snapshot(self._pending_snapshot[0]):
            header, state = self._pending_snapshot
            self._pending_snapshot = None
            self._write_snapshot(header, state)
        self._books.publish(self._shard.engine, self._shard.seq, self._delivered_seq)

    def _snapshot_is_due(self) -> bool:
        """Say whether to dump now; only while the newest frame is in flight, since its delivery places the snapshot."""
        due = self._shard.seq >= self._snapshot_due_seq and bool(self._in_flight)
        return due and self.progress.owned and self._pending_snapshot is None

    def _may_write_snapshot(self, header: SnapshotHeader) -> bool:
        return self._delivered_seq >= header.seq and header.event_offset >= 0

    def _prepare_snapshot(self) -> None:
        """Dump the state now; the file waits for the delivery of the newest frame, which is still in flight."""
        shard = self._shard
        assert shard.engine.log_id is not None, "a running shard has a log id"
        header = SnapshotHeader(
            format=1,
            engine_version=ENGINE_VERSION,
            log_id=shard.engine.log_id,
            seq=shard.seq,
            next_offset=shard.next_offset,
            event_offset=-1,
            digest=shard.digest,
            state_hash=shard.engine.state_hash(),
        )
        self._pending_snapshot = (header, shard.dump())
        self._snapshot_due_seq = shard.seq + SNAPSHOT_EVERY_COMMANDS

    def _write_snapshot(self, header: SnapshotHeader, state: dict[str, Any]) -> None:
        self._snapshots.write(header, state)
        self.progress.snapshot_seq = header.seq
        self.progress.state_hash = header.state_hash
        passing("matcher.snapshot_written")

    def _drain(self) -> None:
        """Deliver everything, then leave a snapshot that the next owner starts from."""
        self._producer.flush(5)
        if self._in_flight or not self.progress.owned or self._delivered_offset == 0:
            return
        self._prepare_snapshot()
        assert self._pending_snapshot is not None, "just prepared"
        header, state = self._pending_snapshot
        if header.seq == self._delivered_seq:
            self._write_snapshot(_placed(header, self._delivered_offset), state)

    def _note_progress(self) -> None:
        shard, engine, progress = self._shard, self._shard.engine, self.progress
        _SEQ.set(shard.seq)
        progress.seq = shard.seq
        progress.next_offset = shard.next_offset
        progress.epoch = engine.epoch
        progress.at_ns = engine.now_ns
        # The plan may end or roll the day once the market is closed; a call that was extended is still to print.
        progress.phase = (Phase.CLOSING_CALL if engine.calls_outlast_the_close else engine.phase(None)).value
        progress.business_date = engine.business_date
        if engine.is_closed != bool(progress.closing_price_ticks):
            progress.closing_price_ticks = engine.closing_prices if engine.is_closed else {}


def _placed(header: SnapshotHeader, event_offset: int) -> SnapshotHeader:
    import msgspec

    return msgspec.structs.replace(header, event_offset=event_offset)


_LASTING = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION})
