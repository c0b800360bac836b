"""RabbitMQ: one connection that comes back, confirmed publishing in order, consuming that survives restarts.

aio-pika's robust connections do not replay failed publications, so this link owns its loop: connect, declare the
queues, and on any loss throw everything away and begin again. Publishing is mandatory and confirmed, and repeated
after a loss until the broker has the message; so a message may arrive twice, and never out of the order of one
`publish_all`, except across a loss. Deliveries that were not acknowledged come again after a loss.

Known limit of RabbitMQ 3.10: it writes down the registration of a new quorum queue some seconds after it said that
the queue is declared. A broker that is killed before that comes back with the queue but without a leader for it, and
publishing to it waits for ever. Tried with queues of 0.5 s (the newest was lost) and of 12 s (all came back).
QUEUE_SETTLED_S is the age that tests wait for; queues are declared once in a session's life.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, PublishError

from mybroker.contracts import topics
from mybroker.runtime.logging import get_logger
from mybroker.runtime.settings import hide_password
from mybroker.runtime.telemetry import counter, gauge

PREFETCH_MESSAGES = 200
PUBLISH_IN_FLIGHT_MAX = 1_000
CONFIRM_TIMEOUT_MS = 3_000
CONNECT_TIMEOUT_MS = 5_000
RECONNECT_MS = 200
CLOSE_TIMEOUT_MS = 1_000
HEARTBEAT_S = 10
START_DEADLINE_MS = 60_000
REQUEST_DELIVERIES_MAX = 20
QUEUE_SETTLED_S = 8
REPORT_DELIVERIES_MAX = 1_000_000
"""Reports are never given up: the participant's resend would ask for them anyway."""

_LOST = (AMQPError, ConnectionError, OSError, RuntimeError, TimeoutError)
_UP = gauge("mbb3_rabbit_connected", "1 while connected", ["link"])
_REPEATED = counter("mbb3_rabbit_publish_repeats_total", "Messages published again", ["link"])
_LATE_ACKS = counter("mbb3_rabbit_late_acks_total", "Acks of deliveries whose channel was gone", ["link"])


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """A durable queue as it must exist. Redeclaring one with other arguments is an error of the broker."""

    name: str
    arguments: Mapping[str, Any]


class Unroutable(Exception):
    """The queue a message was published to does not exist."""


def request_queue_spec(participant: str) -> QueueSpec:
    """Requests of a participant: quorum, one active consumer, dead-lettered after REQUEST_DELIVERIES_MAX."""
    return _door_queue(topics.request_queue(participant), REQUEST_DELIVERIES_MAX)


def report_queue_spec(participant: str) -> QueueSpec:
    """Answers to a participant: quorum, one active consumer."""
    return _door_queue(topics.report_queue(participant), REPORT_DELIVERIES_MAX)


def dead_letter_spec() -> QueueSpec:
    """Where requests end that nobody can take."""
    return QueueSpec(name=topics.DEAD_LETTERS_BROKER_TO_B3, arguments={"x-queue-type": "quorum"})


def _door_queue(name: str, deliveries_max: int) -> QueueSpec:
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": deliveries_max,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": topics.DEAD_LETTERS_BROKER_TO_B3,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    return QueueSpec(name=name, arguments=arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitDelivery:
    """One message of a queue."""

    body: bytes
    headers: Mapping[str, object]
    redelivered: bool
    link: "RabbitLink"
    message: AbstractIncomingMessage

    async def ack(self) -> None:
        """Take the message off the queue. After a loss of the connection this does nothing: it comes again."""
        try:
            await self.message.ack()
        except _LOST:
            _LATE_ACKS.labels(self.link.name).inc()


class RabbitLink:
    """A connection that is kept up, with the queues it declares each time it comes up."""

    def __init__(self, url: str, name: str, queues: Sequence[QueueSpec] = ()) -> None:
        self.name = name
        self._url = url
        self._queues = list(queues)
        self._connection: AbstractConnection | None = None
        self._publisher: AbstractChannel | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self._fatal: Exception | None = None
        self._log = get_logger()

    async def open(self, *, deadline_ms: int = START_DEADLINE_MS) -> None:
        """Connect and declare; raises TimeoutError when the broker is not there by the deadline."""
        self._keeper = asyncio.create_task(self._keep(), name=f"rabbit-{self.name}")
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                await self._connected()
        except TimeoutError as error:
            await self.close()
            raise TimeoutError(f"{hide_password(self._url)} did not answer for {deadline_ms} ms") from error

    async def close(self) -> None:
        """Close the connection; iterations of `consume` end."""
        self._closed = True
        self._lost.set()
        self._up.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._drop()

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Declare more queues, now and after each reconnection."""
        known = {queue.name for queue in self._queues}
        added = [queue for queue in queues if queue.name not in known]
        self._queues += added
        while added and not self._closed:
            connection = await self._connected()
            try:
                async with connection.channel() as channel:
                    await _declare(channel, added)
            except _LOST:
                await asyncio.sleep(RECONNECT_MS / 1000)
            else:
                return

    async def publish(self, queue: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Put one persistent message on a queue; returns when the broker has it. Raises Unroutable."""
        await self.publish_all(queue, [(body, headers or {})])

    async def publish_all(self, queue: str, messages: Sequence[tuple[bytes, Mapping[str, str]]]) -> None:
        """Put messages on a queue in order, without waiting for each; returns when the broker has them all."""
        for start in range(0, len(messages), PUBLISH_IN_FLIGHT_MAX):
            waiting = list(messages[start : start + PUBLISH_IN_FLIGHT_MAX])
            while waiting:
                outcomes = await self._publish_once_each(queue, waiting)
                waiting = self._unconfirmed(queue, waiting, outcomes)
                if waiting:
                    _REPEATED.labels(self.name).inc(len(waiting))
                    await asyncio.sleep(RECONNECT_MS / 1000)

    async def _publish_once_each(
        self, queue: str, messages: Sequence[tuple[bytes, Mapping[str, str]]]
    ) -> list[BaseException | None]:
        """Publish each once; says of each what went wrong.

        After a restart of the broker a confirm may never come, and aio-pika's own timeout does not cover that wait:
        such a link is given up and made anew.
        """
        lost = self._lost
        tasks = [asyncio.ensure_future(self._publish_once(queue, body, headers)) for body, headers in messages]
        for task in tasks:
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            _, late = await asyncio.wait(tasks, timeout=CONFIRM_TIMEOUT_MS / 1000)
        finally:
            for task in tasks:
                task.cancel()
        if late and self._up.is_set():
            self._log.warning("rabbit_confirms_missed", link=self.name, queue=queue, messages=len(late))
            lost.set()
        return [TimeoutError("no confirm") if task in late else task.exception() for task in tasks]

    def _unconfirmed(
        self,
        queue: str,
        messages: list[tuple[bytes, Mapping[str, str]]],
        outcomes: Sequence[object],
    ) -> list[tuple[bytes, Mapping[str, str]]]:
        left = []
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, PublishError):
                raise Unroutable(f"{self.name}: expected queue {queue} to exist") from outcome
            if isinstance(outcome, _LOST) and not self._closed:
                left.append(message)
            elif isinstance(outcome, BaseException):
                raise outcome
        return left

    async def _publish_once(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        if self._publisher is None:
            await self._connected()
        channel = self._publisher
        if channel is None:
            raise ConnectionError(f"{self.name} is not connected")
        message = aio_pika.Message(body, headers=dict(headers), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)

    async def consume(self, queue: str, *, prefetch: int = PREFETCH_MESSAGES) -> AsyncIterator[RabbitDelivery]:
        """Deliver the messages of a queue until the link is closed; acknowledge each when its effect is stored."""
        while not self._closed:
            connection = await self._connected()
            inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
            lost = self._lost
            try:
                channel = await connection.channel(publisher_confirms=False)
                channel.close_callbacks.add(lambda *_: inbox.put_nowait(None))  # noqa: B023  # one inbox a round
                await channel.set_qos(prefetch_count=prefetch)
                source = await channel.get_queue(queue, ensure=False)
                await source.consume(inbox.put)
            except _LOST as error:
                self._log.warning("rabbit_consume_retried", link=self.name, queue=queue, reason=repr(error))
                await asyncio.sleep(RECONNECT_MS / 1000)
                continue
            ending = asyncio.create_task(_announce(lost, inbox))
            try:
                while (message := await inbox.get()) is not None:
                    yield RabbitDelivery(
                        body=message.body,
                        headers=dict(message.headers),
                        redelivered=bool(message.redelivered),
                        link=self,
                        message=message,
                    )
            finally:
                ending.cancel()
                await _close_quietly(channel)
            await asyncio.sleep(RECONNECT_MS / 1000)

    async def get_all(self, queue: str, messages_max: int) -> list[RabbitDelivery]:
        """Take what stands in a queue now, without waiting for more; acknowledge each."""
        connection = await self._connected()
        channel = await connection.channel(publisher_confirms=False)
        source = await channel.get_queue(queue, ensure=False)
        taken: list[RabbitDelivery] = []
        while len(taken) < messages_max:
            message = await source.get(fail=False)
            if message is None:
                break
            taken.append(
                RabbitDelivery(
                    body=message.body,
                    headers=dict(message.headers),
                    redelivered=bool(message.redelivered),
                    link=self,
                    message=message,
                )
            )
        return taken

    async def _connected(self) -> AbstractConnection:
        while True:
            await self._up.wait()
            if self._fatal is not None:
                raise self._fatal
            if self._closed:
                raise ConnectionAbortedError(f"{self.name} is closed")
            if self._connection is not None:
                return self._connection
            await asyncio.sleep(0)

    async def _keep(self) -> None:
        while not self._closed:
            self._lost = lost = asyncio.Event()
            try:
                await self._connect(lost)
            except aio_pika.exceptions.ChannelPreconditionFailed as error:
                self._fatal = error  # a queue exists with other arguments: no retry mends that
                self._log.error("rabbit_queue_refused", link=self.name, reason=str(error))
                self._up.set()
                return
            except _LOST as error:
                self._log.warning("rabbit_connect_retried", link=self.name, reason=repr(error))
                await self._drop()
                await asyncio.sleep(RECONNECT_MS / 1000)
                continue
            _UP.labels(self.name).set(1)
            self._up.set()
            await lost.wait()
            _UP.labels(self.name).set(0)
            if not self._closed:
                self._log.warning("rabbit_connection_lost", link=self.name)
                self._up.clear()
                await self._drop()

    async def _connect(self, lost: asyncio.Event) -> None:
        connection = await aio_pika.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_MS / 1000,
            client_properties={"connection_name": self.name},
            heartbeat=HEARTBEAT_S,
        )
        self._connection = connection
        connection.close_callbacks.add(lambda *_: lost.set())
        async with connection.channel() as channel:
            await _declare(channel, self._queues)
        publisher = await connection.channel(publisher_confirms=True, on_return_raises=True)
        publisher.close_callbacks.add(lambda *_: lost.set())
        self._publisher = publisher

    async def _drop(self) -> None:
        connection, self._connection, self._publisher = self._connection, None, None
        if connection is not None:
            await _close_quietly(connection)


async def _declare(channel: AbstractChannel, queues: Sequence[QueueSpec]) -> None:
    for queue in queues:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))


async def _announce(lost: asyncio.Event, inbox: asyncio.Queue[AbstractIncomingMessage | None]) -> None:
    await lost.wait()
    inbox.put_nowait(None)


async def _close_quietly(thing: AbstractConnection | AbstractChannel) -> None:
    """Close what may be broken already. aio-pika may wait for ever for the answer of a dead peer, and not let itself
    be cancelled, so nobody waits for it longer than CLOSE_TIMEOUT_MS."""
    if thing.is_closed:
        return
    closing = asyncio.ensure_future(thing.close())
    closing.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_MS / 1000)
    closing.cancel()
