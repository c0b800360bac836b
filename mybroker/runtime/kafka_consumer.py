"""The consumer loop: one thread polls, an async callback handles batches, one batch at a time.

Two ways to use it. With `positions` it reads given partitions from given offsets and never commits: the service
keeps its position with its effects. With `group` it shares a topic's partitions with its fellows; `commit` says
how far it has come, and what was not committed comes again. The next batch is polled while one is handled, never
handed over before the callback returned. An exception of the callback, or an error that does not pass, ends `run`.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from mybroker.runtime.kafka import Record, make_consumer, poll_batch, retrying, to_record
from mybroker.runtime.logging import get_logger

BATCH_MESSAGES_MAX = 500
POLL_MS = 50
COMMIT_QUEUE_MAX = 10_000

Handle = Callable[[Sequence[Record]], Awaitable[object]]
Positions = Mapping[tuple[str, int], int]


class ConsumerLoop:
    """Reads and hands over until it is stopped or fails. Run it with `context.supervise(name, loop.run())`."""

    def __init__(
        self,
        url: str,
        handle: Handle,
        *,
        positions: Positions | None = None,
        topics: Sequence[str] = (),
        group: str | None = None,
        sole_member: bool = False,
        commit_handled: bool = False,
        offset_reset: str = "earliest",
        batch_messages_max: int = BATCH_MESSAGES_MAX,
        on_caught_up: Callable[[str, int], object] | None = None,
        on_revoked: Callable[[Sequence[tuple[str, int]]], object] | None = None,
        **extra: Any,
    ) -> None:
        """`positions`: {(topic, partition): next offset}, -1 for the beginning; else `topics` and `group`.

        `sole_member`: this process is the group's only member. It takes all partitions from their committed
        offsets at once, where a shared group would first wait for a killed member to be missed (10 s).

        `commit_handled` commits each batch after the callback returned. `on_caught_up(topic, partition)` and
        `on_revoked(partitions)` are called on the event loop.
        """
        assert (positions is None) != (group is None), "expected either positions or a group"
        assert (group is None) == (not topics), "expected topics with a group and only with it"
        self._url = url
        self._handle = handle
        self._positions = positions
        self._topics = list(topics)
        self._group = group
        self._sole_member = sole_member
        self._commit_handled = commit_handled
        self._offset_reset = offset_reset
        self._batch_messages_max = batch_messages_max
        self._on_caught_up = on_caught_up
        self._on_revoked = on_revoked
        self._extra = extra
        self._stop = threading.Event()
        self._commits: queue.Queue[Record] = queue.Queue(COMMIT_QUEUE_MAX)
        self._ended: list[tuple[str | None, int | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = get_logger()

    async def run(self) -> None:
        """Consume until `stop` or cancellation; raises what ended it otherwise."""
        self._loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = self._loop.create_future()
        loop = self._loop

        def finish(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                self._consume()
            except BaseException as raised:  # noqa: BLE001  # raised again by `run`
                error = raised
            try:
                loop.call_soon_threadsafe(finish, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        thread = threading.Thread(target=work, name="kafka-consumer", daemon=True)
        thread.start()
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            self._stop.set()
            await asyncio.wait([done], timeout=5)
            raise

    def stop(self) -> None:
        """End `run` after the batch that is being handled."""
        self._stop.set()

    def commit(self, record: Record) -> None:
        """Say that everything up to and with `record` of its partition is done. Takes effect between polls.

        Raises queue.Full when more than COMMIT_QUEUE_MAX are waiting.
        """
        self._commits.put_nowait(record)

    def _consume(self) -> None:
        consumer = make_consumer(self._url, group=self._group, offset_reset=self._offset_reset, **self._extra)
        handling: futures.Future[object] | None = None
        handed: list[Record] = []
        try:
            self._begin(consumer)
            while not self._stop.is_set():
                records = self._poll(consumer)
                self._commit_waiting(consumer)
                if not records:
                    if handling is not None and (handling.done() or self._ended):
                        self._finish(consumer, handling, handed)
                        handling = None
                    if handling is None:
                        self._tell_caught_up()
                    continue
                if handling is not None:
                    self._finish(consumer, handling, handed)
                handed = records
                handling = self._hand_over(records)
            if handling is not None:
                self._finish(consumer, handling, handed)
            self._commit_waiting(consumer)
        finally:
            consumer.close()

    def _begin(self, consumer: Consumer) -> None:
        if self._positions is not None:
            consumer.assign(
                [
                    TopicPartition(topic, partition, offset if offset >= 0 else OFFSET_BEGINNING)
                    for (topic, partition), offset in self._positions.items()
                ]
            )
            return

        if self._sole_member:
            consumer.assign(committed_positions(consumer, self._topics))
            return

        def revoked(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._call(self._on_revoked, [(p.topic, p.partition) for p in partitions])

        consumer.subscribe(self._topics, on_revoke=revoked, on_lost=revoked)

    def _poll(self, consumer: Consumer) -> list[Record]:
        records = []
        for message in poll_batch(consumer, self._batch_messages_max, timeout_s=POLL_MS / 1000):
            error = message.error()
            if error is None:
                records.append(to_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ended.append((message.topic(), message.partition()))
            elif error.fatal() or error.code() in _LASTING:
                raise KafkaException(error)
            else:
                self._log.warning("kafka_read_retried", reason=str(error))
        return records

    def _tell_caught_up(self) -> None:
        """Only once everything before the end was handled."""
        for topic, partition in self._ended:
            self._call(self._on_caught_up, topic, partition)
        self._ended.clear()

    def _hand_over(self, records: Sequence[Record]) -> futures.Future[object]:
        assert self._loop is not None

        async def handle() -> object:
            return await self._handle(records)

        return asyncio.run_coroutine_threadsafe(handle(), self._loop)

    def _finish(self, consumer: Consumer, handling: futures.Future[object], handed: Sequence[Record]) -> None:
        while not futures.wait([handling], timeout=0.1).done:
            self._commit_waiting(consumer)
            if self._loop is not None and self._loop.is_closed():
                return
        handling.result()
        if self._commit_handled:
            last = {(record.topic, record.partition): record for record in handed}
            self._commit(consumer, last)

    def _commit_waiting(self, consumer: Consumer) -> None:
        last: dict[tuple[str, int], Record] = {}
        while True:
            try:
                record = self._commits.get_nowait()
            except queue.Empty:
                break
            last[record.topic, record.partition] = record
        self._commit(consumer, last)

    def _commit(self, consumer: Consumer, last: Mapping[tuple[str, int], Record]) -> None:
        if not last:
            return
        offsets = [TopicPartition(r.topic, r.partition, r.offset + 1) for r in last.values()]
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:  # what is not committed comes again: effects are idempotent
            self._log.warning("kafka_commit_failed", reason=str(error))

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(callback, *arguments)


def committed_positions(consumer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
    """The committed offset of every partition of `topics`; the beginning where there is none. Blocks, retries."""

    def ask() -> list[TopicPartition]:
        found = []
        for topic in topics:
            known = consumer.list_topics(topic, timeout=5).topics[topic]
            if known.error is not None:
                raise KafkaException(known.error)
            found += [TopicPartition(topic, partition) for partition in sorted(known.partitions)]
        answered = list(consumer.committed(found, timeout=5))
        for position in answered:
            if position.error is not None:
                raise KafkaException(position.error)
        return answered

    positions = retrying("committed", ask)
    for position in positions:
        if position.offset < 0:
            position.offset = OFFSET_BEGINNING
    return positions


_LASTING = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)
