"""The door's Kafka route: requests and reports in two topics keyed by participant, dead letters in a third.

Each side is the only member of its group and takes all partitions from its committed position, so a killed process
comes back at once, without waiting for a group to notice. A position is committed up to the last message below
which all are acknowledged (`AckWindow`). Sessions share the topics; a header tells them apart, and what belongs to
another session or participant is skipped.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from mybroker.contracts import topics
from mybroker.contracts.codec import Malformed
from mybroker.contracts.door import DOOR_REPLIES, DoorReply, DoorRequest, encode_request
from mybroker.runtime.door import (
    DEAD_LETTERED,
    PARTICIPANT_HEADER,
    REASON_HEADER,
    REASON_LENGTH_MAX,
    REPLIES_REFUSED,
    SESSION_HEADER,
    DeadLetter,
    Delivery,
    parse_request,
)
from mybroker.runtime.kafka import AsyncProducer, KafkaHeaders, Record, ensure_topics
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import extract, inject_kafka, parse_traceparent

DELIVERIES_WAITING_MAX = 1_000
DEAD_LETTER_WAIT_MS = 2_000
_ROUTE = "kafka"
_DOOR_TOPICS = {topics.DOOR_REQUESTS, topics.DOOR_REPORTS, topics.DOOR_DEAD_LETTERS}

M = TypeVar("M")


class AckWindow:
    """Knows how far a partition's messages are acknowledged without a hole."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], OrderedDict[int, tuple[Record, bool]]] = {}

    def taken(self, record: Record) -> None:
        """A message was handed over; messages of a partition are told in the order of their offsets."""
        self._open.setdefault((record.topic, record.partition), OrderedDict())[record.offset] = (record, False)

    def acknowledged(self, record: Record) -> Record | None:
        """A message is done; returns the last message up to which all are done, if that moved."""
        waiting = self._open[record.topic, record.partition]
        if record.offset not in waiting:
            return None
        waiting[record.offset] = (record, True)
        last = None
        while waiting:
            offset, (first, done) = next(iter(waiting.items()))
            if not done:
                break
            last = first
            del waiting[offset]
        return last


class _Inbox(Generic[M]):
    """Turns a consumer loop into an iteration of deliveries."""

    def __init__(
        self, url: str, topic: str, group: str, read: Callable[[Record], Coroutine[Any, Any, M | None]]
    ) -> None:
        self._waiting: asyncio.Queue[M | BaseException | None] = asyncio.Queue(DELIVERIES_WAITING_MAX)
        self._window = AckWindow()
        self._read = read
        self._loop = ConsumerLoop(url, self._hear, topics=[topic], group=group, sole_member=True)
        self._task = asyncio.create_task(self._run(), name=f"door-{group}")

    async def ack(self, record: Record) -> None:
        last = self._window.acknowledged(record)
        if last is not None:
            self._loop.commit(last)

    async def deliveries(self) -> AsyncIterator[M]:
        while (item := await self._waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def close(self) -> None:
        self._loop.stop()
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def _run(self) -> None:
        try:
            await self._loop.run()
        except Exception as error:  # noqa: BLE001  # handed to whoever iterates
            await self._waiting.put(error)

    async def _hear(self, records: Sequence[Record]) -> None:
        for record in records:
            self._window.taken(record)
            item = await self._read(record)
            if item is None:
                await self.ack(record)
            else:
                await self._waiting.put(item)


class KafkaDoorClient:
    """The participant's side over Kafka."""

    def __init__(self, url: str, participant: str, session_key: str) -> None:
        self._participant = participant
        self._session_key = session_key
        self._producer = AsyncProducer(url)
        self._inbox: _Inbox[Delivery[DoorReply]] | None = None
        self._url = url

    @classmethod
    async def open(cls, url: str, participant: str, session_key: str) -> "KafkaDoorClient":
        """Connect, creating the door's topics where they are missing."""
        await _ensure_door_topics(url)
        return cls(url, participant, session_key)

    async def send(self, request: DoorRequest) -> None:
        await self.send_all([request])

    async def send_all(self, requests: Sequence[DoorRequest]) -> None:
        key = self._participant.encode()
        session = [(SESSION_HEADER, self._session_key.encode())]
        sending = []
        for request in requests:
            trace = inject_kafka(parse_traceparent(request.traceparent))
            sending.append(self._producer.send(topics.DOOR_REQUESTS, key, encode_request(request), session + trace))
        await asyncio.gather(*sending)

    def replies(self) -> AsyncIterator[Delivery[DoorReply]]:
        if self._inbox is None:
            group = f"door-client.{self._session_key}.{self._participant}"
            self._inbox = _Inbox(self._url, topics.DOOR_REPORTS, group, self._read)
        return self._inbox.deliveries()

    async def close(self) -> None:
        if self._inbox is not None:
            await self._inbox.close()
        await self._producer.close()

    async def _read(self, record: Record) -> Delivery[DoorReply] | None:
        if record.key != self._participant.encode() or _header(record, SESSION_HEADER) != self._session_key:
            return None
        try:
            message: DoorReply = DOOR_REPLIES.decode(record.value or b"")
        except Malformed as error:
            REPLIES_REFUSED.labels(_ROUTE).inc()
            get_logger().error("door_reply_refused", participant=self._participant, reason=str(error))
            return None
        inbox = self._inbox
        assert inbox is not None, "expected replies only after they were asked for"
        return Delivery(
            message=message,
            trace=extract(record.headers),
            redelivered=False,
            acknowledge=lambda: inbox.ack(record),
        )


class KafkaDoorServer:
    """The exchange's side over Kafka."""

    def __init__(self, url: str, participants: Sequence[str], session_key: str) -> None:
        self._url = url
        self._session_key = session_key
        self._participants = set(participants)
        self._producer = AsyncProducer(url)
        self._inbox: _Inbox[Delivery[DoorRequest]] | None = None

    @classmethod
    async def open(cls, url: str, participants: Sequence[str], session_key: str) -> "KafkaDoorServer":
        """Connect, creating the door's topics where they are missing."""
        await _ensure_door_topics(url)
        return cls(url, participants, session_key)

    async def serve(self, participants: Sequence[str]) -> None:
        self._participants.update(participants)

    def requests(self) -> AsyncIterator[Delivery[DoorRequest]]:
        if self._inbox is None:
            self._inbox = _Inbox(self._url, topics.DOOR_REQUESTS, f"door-server.{self._session_key}", self._read)
        return self._inbox.deliveries()

    async def reply(self, participant: str, message: DoorReply) -> None:
        await self.reply_all(participant, [message])

    async def reply_all(self, participant: str, messages: Sequence[DoorReply]) -> None:
        key = participant.encode()
        headers = [(SESSION_HEADER, self._session_key.encode()), *inject_kafka()]
        await asyncio.gather(
            *(self._producer.send(topics.DOOR_REPORTS, key, DOOR_REPLIES.encode(m), headers) for m in messages)
        )

    async def dead_letters(self, letters_max: int) -> Sequence[DeadLetter]:
        return [_letter(record) for record in await self._take_letters(letters_max)]

    async def redrive(self, letters_max: int) -> int:
        records = await self._take_letters(letters_max, self._send_back)
        return len(records)

    async def close(self) -> None:
        if self._inbox is not None:
            await self._inbox.close()
        await self._producer.close()

    async def _send_back(self, record: Record) -> None:
        headers = [(SESSION_HEADER, self._session_key.encode())]
        await self._producer.send(topics.DOOR_REQUESTS, _letter(record).participant.encode(), record.value, headers)

    async def _take_letters(
        self, letters_max: int, each: Callable[[Record], Coroutine[Any, Any, object]] | None = None
    ) -> list[Record]:
        """Take letters of this session after those taken before; done when the topic's end is reached."""
        taken: list[Record] = []
        done = asyncio.Event()

        async def hear(records: Sequence[Record]) -> None:
            for record in records:
                if done.is_set():
                    return
                if _header(record, SESSION_HEADER) == self._session_key:
                    if each is not None:
                        await each(record)
                    taken.append(record)
                loop.commit(record)
                if len(taken) >= letters_max:
                    done.set()

        loop = ConsumerLoop(
            self._url,
            hear,
            topics=[topics.DOOR_DEAD_LETTERS],
            group=f"door-dead-letters.{self._session_key}",
            sole_member=True,
            on_caught_up=lambda _topic, _partition: done.set(),
        )
        running = asyncio.create_task(loop.run())
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        loop.stop()
        await running
        return taken

    async def _read(self, record: Record) -> Delivery[DoorRequest] | None:
        if _header(record, SESSION_HEADER) != self._session_key:
            return None
        participant = (record.key or b"").decode("utf-8", "replace")
        request = parse_request(record.value or b"", participant)
        if participant not in self._participants:
            request = f"expected a participant of this session, was {participant!r}"
        inbox = self._inbox
        assert inbox is not None, "expected requests only after they were asked for"
        if isinstance(request, str):
            get_logger().warning("door_request_dead_lettered", participant=participant, reason=request)
            await self._put_aside(record, participant, request)
            return None

        async def dead_letter(reason: str) -> None:
            await self._put_aside(record, participant, reason)
            await inbox.ack(record)

        return Delivery(
            message=request,
            trace=extract(record.headers),
            redelivered=False,
            acknowledge=lambda: inbox.ack(record),
            dead_letter=dead_letter,
        )

    async def _put_aside(self, record: Record, participant: str, reason: str) -> None:
        DEAD_LETTERED.labels(_ROUTE).inc()
        headers: KafkaHeaders = [
            (SESSION_HEADER, self._session_key.encode()),
            (REASON_HEADER, reason[:REASON_LENGTH_MAX].encode()),
            (PARTICIPANT_HEADER, participant.encode()),
        ]
        await self._producer.send(topics.DOOR_DEAD_LETTERS, record.key, record.value, headers)


async def _ensure_door_topics(url: str) -> None:
    specs = [spec for spec in topics.SHARED_TOPICS if spec.name in _DOOR_TOPICS]
    await asyncio.to_thread(ensure_topics, url, specs)


def _header(record: Record, name: str) -> str:
    for key, value in record.headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return ""


def _letter(record: Record) -> DeadLetter:
    return DeadLetter(
        participant=_header(record, PARTICIPANT_HEADER),
        reason=_header(record, REASON_HEADER),
        body=record.value or b"",
    )
