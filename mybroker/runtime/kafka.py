"""Kafka with the house settings: producers, topics, and plain reads. The consumer loop is in `kafka_consumer`.

Every client: reconnects within half a second of a broker's return (librdkafka's own limit is 10 s), linger 1 ms,
fetch wait 100 ms, idempotent producers with acks=all. Producers retry until delivered or the process ends: a
message is never dropped for its age unless the caller gives a limit. A delivery error is therefore fatal news, and
`AsyncProducer` raises it to whoever waits.

Known limit: a restarted process has a new producer id, so what was sent but not seen confirmed is sent again.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from mybroker.contracts.topics import TopicSpec
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter

T = TypeVar("T")

MESSAGE_BYTES_MAX = 1_000_000
PRODUCER_QUEUE_MESSAGES_MAX = 200_000
START_DEADLINE_MS = 60_000
READ_BATCH_MAX = 1_000
_QUEUE_FULL_WAIT_S = 0.005

_RETRIED = counter("mbb3_kafka_start_retries_total", "Requests repeated while the broker starts", ["request"])
_ERRORS = counter("mbb3_kafka_client_errors_total", "Errors a Kafka client told of; most pass by themselves", ["code"])


def _note_error(error: KafkaError) -> None:
    _ERRORS.labels(error.name()).inc()
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        get_logger().warning("kafka_unreachable", reason=error.str())
    elif error.fatal():
        get_logger().error("kafka_client_failed", reason=error.str())


_HOUSE: Mapping[str, Any] = {
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "socket.nagle.disable": True,
    "socket.keepalive.enable": True,
    "log.connection.close": False,
    "log_level": 2,  # what passes by itself is counted and logged by `_note_error`, not printed by the client
    "error_cb": _note_error,
    "allow.auto.create.topics": False,
    "topic.metadata.refresh.interval.ms": 10_000,
    "topic.metadata.propagation.max.ms": 5_000,
}

KafkaHeaders = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message read from Kafka."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Where a message was written."""

    partition: int
    offset: int


class DeliveryError(Exception):
    """Kafka did not take a message; it may still be in the log."""

    def __init__(self, topic: str, error: KafkaError) -> None:
        super().__init__(f"message for {topic} not delivered: {error}")
        self.topic = topic
        self.error = error


def to_record(message: Message) -> Record:
    """The message's facts as plain values."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None, "expected a message that was read"
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=message.headers() or (),  # type: ignore[arg-type]  # read headers are pairs of text and bytes
        timestamp_ms=message.timestamp()[1],
    )


def make_producer(url: str, *, delivery_timeout_ms: int = 0, **extra: Any) -> Producer:
    """An idempotent producer. `delivery_timeout_ms` 0: it never gives up."""
    own = {
        "bootstrap.servers": url,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 1,
        "compression.type": "none",
        "message.timeout.ms": delivery_timeout_ms,
        "retry.backoff.ms": 50,
        "retry.backoff.max.ms": 500,
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.messages": PRODUCER_QUEUE_MESSAGES_MAX,
        "partitioner": "murmur2_random",
    }
    return Producer({**_HOUSE, **own, **extra})


def make_consumer(url: str, *, group: str | None = None, offset_reset: str = "error", **extra: Any) -> Consumer:
    """A consumer that commits nothing by itself. Without a group use `assign` with offsets."""
    own = {
        "bootstrap.servers": url,
        "group.id": group or "mybroker-without-a-group",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": offset_reset,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        "enable.partition.eof": True,
        "isolation.level": "read_uncommitted",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        "partition.assignment.strategy": "cooperative-sticky",
    }
    return Consumer({**_HOUSE, **own, **extra})


def ensure_topics(url: str, topics: Iterable[TopicSpec], *, deadline_ms: int = START_DEADLINE_MS) -> None:
    """Create the topics that are missing; those that exist are left as they are. Blocks; waits for the broker.

    Returns when every partition has a leader. Raises KafkaException for a topic the broker refuses, and when a
    topic exists with fewer partitions than asked for.
    """
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    wanted = list(topics)
    admin = AdminClient({**_HOUSE, "bootstrap.servers": url})
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            known = admin.list_topics(timeout=5).topics
            missing = [topic for topic in wanted if topic.name not in known or known[topic.name].error]
            for topic in wanted:
                have = len(known[topic.name].partitions) if topic not in missing else topic.partitions
                if have < topic.partitions:
                    raise ValueError(f"topic {topic.name}: expected {topic.partitions} partitions, was {have}")
            if not missing and _all_have_leaders(known, wanted):
                return
            if missing:
                made = admin.create_topics([NewTopic(t.name, t.partitions, 1, config=topic_config(t)) for t in missing])
                for future in made.values():
                    _accept_existing(future)
        except KafkaException as error:
            if time.monotonic() > give_up_at or not _may_pass(error):
                raise
            _RETRIED.labels("topics").inc()
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"topics {[t.name for t in wanted]} have no leader after {deadline_ms} ms")
        time.sleep(0.05)


def topic_config(topic: TopicSpec) -> dict[str, str]:
    """Broker-side settings of a topic."""
    if topic.compacted:
        return {
            "cleanup.policy": "compact",
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
        }
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": "-1",
        "max.message.bytes": str(MESSAGE_BYTES_MAX),
    }


def watermarks(
    url_or_consumer: str | Consumer, topic: str, partition: int, *, deadline_ms: int = START_DEADLINE_MS
) -> tuple[int, int]:
    """(first offset, next offset) of a partition; blocks and retries while the broker starts."""
    own = isinstance(url_or_consumer, str)
    consumer = make_consumer(url_or_consumer) if isinstance(url_or_consumer, str) else url_or_consumer
    try:
        return retrying(
            "watermarks",
            lambda: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5),
            deadline_ms=deadline_ms,
        )
    finally:
        if own:
            consumer.close()


def retrying(request: str, ask: Callable[[], T], *, deadline_ms: int = START_DEADLINE_MS) -> T:
    """Ask until the broker answers; what does not pass by itself is raised at once. Blocks."""
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            return ask()
        except KafkaException as error:
            if time.monotonic() > give_up_at or not _may_pass(error):
                raise
            _RETRIED.labels(request).inc()
        time.sleep(0.05)


def read_from(
    url: str, topic: str, partition: int, offset: int, *, until: int | None = None, deadline_ms: int = START_DEADLINE_MS
) -> Iterator[Record]:
    """Read records from `offset` to the tail as it is now (or to `until`, exclusive), with a consumer of its own.

    Blocks: call it in a thread. The consumer is closed when the iteration ends or is abandoned. `deadline_ms` is
    the longest wait without progress. An offset outside the log raises KafkaException.
    """
    consumer = make_consumer(url)
    try:
        low, high = watermarks(consumer, topic, partition, deadline_ms=deadline_ms)
        end = high if until is None else min(high, until)
        start = max(offset, low) if offset >= 0 else low
        if start >= end:
            return
        consumer.assign([TopicPartition(topic, partition, start)])
        give_up_at = time.monotonic() + deadline_ms / 1000
        while True:
            batch = poll_batch(consumer, READ_BATCH_MAX, timeout_s=0.5)
            for message in batch:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    if (message.offset() or 0) >= end:
                        return
                    continue
                if error is not None:
                    raise KafkaException(error)
                record = to_record(message)
                if record.offset >= end:
                    return
                yield record
                if record.offset + 1 >= end:
                    return
            if batch:
                give_up_at = time.monotonic() + deadline_ms / 1000
            elif time.monotonic() > give_up_at:
                raise TimeoutError(
                    f"{topic}[{partition}]: expected records up to {end}, none came for {deadline_ms} ms"
                )
    finally:
        consumer.close()


def poll_batch(consumer: Consumer, messages_max: int, *, timeout_s: float) -> list[Message]:
    """The first message as soon as it is there, with what else has arrived; errors are among them.

    `consume(n, timeout)` alone would wait for the whole timeout unless n messages came.
    """
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *consumer.consume(messages_max - 1, 0)] if messages_max > 1 else [first]


class AsyncProducer:
    """An asyncio face of a producer; delivery reports come from one polling thread, in batches."""

    def __init__(self, url: str, *, delivery_timeout_ms: int = 0, **extra: Any) -> None:
        self._producer = make_producer(url, delivery_timeout_ms=delivery_timeout_ms, **extra)
        self._loop = asyncio.get_running_loop()
        self._reports: list[tuple[asyncio.Future[Delivered], KafkaError | None, Message]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: KafkaHeaders = (),
        partition: int | None = None,
    ) -> Delivered:
        """Write one message and return where it is, once the broker has confirmed. Raises DeliveryError.

        Messages for one partition keep the order in which `send` was first run. Cancelling the wait does not take
        the message back.
        """
        while True:
            try:
                return await self.send_nowait(topic, key, value, headers, partition)
            except BufferError:
                await asyncio.sleep(_QUEUE_FULL_WAIT_S)

    def send_nowait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: KafkaHeaders = (),
        partition: int | None = None,
    ) -> asyncio.Future[Delivered]:
        """Hand one message over; the future resolves on its delivery report. Raises BufferError when full."""
        future: asyncio.Future[Delivered] = self._loop.create_future()

        def reported(error: KafkaError | None, message: Message) -> None:
            self._reports.append((future, error, message))

        where = {} if partition is None else {"partition": partition}
        self._producer.produce(topic, value, key, headers=list(headers), on_delivery=reported, **where)  # type: ignore[arg-type]
        return future

    async def flush(self, *, deadline_ms: int = 5_000) -> int:
        """Wait until everything is delivered; returns how many messages are not by the deadline."""
        give_up_at = time.monotonic() + deadline_ms / 1000
        while len(self._producer) and time.monotonic() < give_up_at:
            await asyncio.sleep(0.005)
        return len(self._producer)

    async def close(self, *, deadline_ms: int = 5_000) -> int:
        """Flush, then stop the thread; returns how many messages were left undelivered."""
        left = await self.flush(deadline_ms=deadline_ms)
        self._closing = True
        await asyncio.to_thread(self._thread.join)
        return left

    def _poll(self) -> None:
        while not self._closing:
            self._producer.poll(0.1)
            if self._reports:
                reports, self._reports = self._reports, []
                try:
                    self._loop.call_soon_threadsafe(_resolve, reports)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return


def _resolve(reports: list[tuple[asyncio.Future[Delivered], KafkaError | None, Message]]) -> None:
    for future, error, message in reports:
        if future.done():
            continue
        if error is not None:
            future.set_exception(DeliveryError(message.topic() or "", error))
            continue
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None, "expected a delivery report with a position"
        future.set_result(Delivered(partition=partition, offset=offset))


def _accept_existing(future: Any) -> None:
    try:
        future.result(timeout=30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _all_have_leaders(known: Mapping[str, Any], wanted: Iterable[TopicSpec]) -> bool:
    return all(p.leader >= 0 for topic in wanted for p in known[topic.name].partitions.values())


_PASSING_CODES = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


def _may_pass(error: KafkaException) -> bool:
    cause = error.args[0]
    return isinstance(cause, KafkaError) and (cause.retriable() or cause.code() in _PASSING_CODES)
