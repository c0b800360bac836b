"""What the runner writes to Kafka: topics, the first record of each command log, the directory, a halt or a close.

Everything here may be done twice without harm. Blocking client calls run in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from confluent_kafka.admin import AdminClient

from mybroker.contracts.commands import Command, LogStart
from mybroker.contracts.directory import DirectoryEntry, decode_entry
from mybroker.contracts.frames import COMMANDS
from mybroker.contracts.topics import SESSIONS, SHARED_TOPICS, TopicSpec, commands_topic
from mybroker.runtime.directory import publish
from mybroker.runtime.ids import TimeOrderedIds
from mybroker.runtime.kafka import AsyncProducer, ensure_topics, make_consumer, read_from, watermarks

ADMIN_TIMEOUT_S = 10


class LogKeeper:
    """Keeps the topics and the directory of one session."""

    def __init__(self, kafka_url: str) -> None:
        """Connect lazily; Kafka may still be starting."""
        self._url = kafka_url
        self._producer = AsyncProducer(kafka_url)
        # One for life: librdkafka has crashed the process where an admin client went away just after a group request.
        self._admin = AdminClient({"bootstrap.servers": kafka_url, "log_level": 2})
        self._ids = TimeOrderedIds()

    async def close(self) -> None:
        """Deliver what is left and let go."""
        await self._producer.close()

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create topics that are missing; give each new command log its first record, which names it."""
        wanted = tuple(topics)
        await asyncio.to_thread(ensure_topics, self._url, wanted)
        for topic in wanted:
            if topic.name.startswith(_COMMANDS_PREFIX):
                for partition in range(topic.partitions):
                    await self._start_log(topic.name, partition)

    async def start_logs(self, namespace: str, session: str, partitions: Mapping[str, int]) -> None:
        """Give command logs of a session that are there and empty their first record: a killed runner made them."""
        for topic, count in partitions.items():
            if topic.startswith(commands_topic(namespace, session, "")):
                for partition in range(count):
                    await self._start_log(topic, partition)

    async def ensure_shared(self) -> None:
        """Create the topics that all sessions share."""
        await self.ensure(SHARED_TOPICS)

    async def partitions(self) -> Mapping[str, int]:
        """Return all topics and their partitions."""
        metadata = await asyncio.to_thread(self._admin.list_topics, None, ADMIN_TIMEOUT_S)
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    async def publish(self, entry: DirectoryEntry) -> None:
        """Write the session's directory record."""
        await publish(self._producer, entry)

    async def last_entry(self, key: str) -> DirectoryEntry | None:
        """Return the session's newest directory record, or None."""

        def read() -> DirectoryEntry | None:
            newest = None
            for record in read_from(self._url, SESSIONS, 0, 0):
                if record.key == key.encode():
                    newest = decode_entry(record.value) if record.value is not None else None
            return newest

        return await asyncio.to_thread(read)

    async def append(self, topic: str, partition: int, command: Command) -> int:
        """Append a command to a shard's log; returns its offset."""
        delivered = await self._producer.send(topic, None, COMMANDS.encode(command), partition=partition)
        return delivered.offset

    async def fetch_lag(self, group: str, topic: str) -> int | None:
        """Return how many messages a consumer group has waiting; None where that is not known."""

        def ask() -> int | None:
            from confluent_kafka import KafkaException, TopicPartition

            # A consumer of the group that never joins it: librdkafka crashes (its issue 5040) where an admin client
            # asks for the offsets while the group has no coordinator yet.
            consumer = make_consumer(self._url, group=group)
            try:
                partitions = consumer.list_topics(topic, timeout=ADMIN_TIMEOUT_S).topics[topic].partitions
                asked = [TopicPartition(topic, number) for number in partitions]
                lag = 0
                for place in consumer.committed(asked, timeout=ADMIN_TIMEOUT_S):
                    low, high = watermarks(consumer, topic, place.partition, deadline_ms=ADMIN_TIMEOUT_S * 1000)
                    lag += high - max(low, place.offset if place.offset >= 0 else low)
            except (KafkaException, TimeoutError, KeyError):
                return None
            finally:
                consumer.close()
            return lag

        return await asyncio.to_thread(ask)

    async def _start_log(self, topic: str, partition: int) -> None:
        _, end = await asyncio.to_thread(watermarks, self._url, topic, partition)
        if end == 0:
            await self.append(topic, partition, LogStart(log_id=self._ids.new_id()))


_COMMANDS_PREFIX = commands_topic("", "", "").partition(".")[0]


def wall_ns() -> int:
    """Return the wall clock's instant: the runner's only clock."""
    return time.time_ns()
