"""The door's RabbitMQ route: two quorum queues per participant, dead letters in `dlq-broker-to-b3`.

Queues have one active consumer, so a second process waits in line. Sessions share the queue names; a virtual host
in the URL keeps two sessions of one broker apart.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

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
from mybroker.runtime.logging import get_logger
from mybroker.runtime.rabbit import (
    QueueSpec,
    RabbitDelivery,
    RabbitLink,
    dead_letter_spec,
    report_queue_spec,
    request_queue_spec,
)
from mybroker.runtime.telemetry import extract, inject_mapping

REQUESTS_WAITING_MAX = 1_000
_ROUTE = "rabbitmq"


def _queues(participants: Sequence[str]) -> list[QueueSpec]:
    both = [spec for name in participants for spec in (request_queue_spec(name), report_queue_spec(name))]
    return [dead_letter_spec(), *both]


class RabbitDoorClient:
    """The participant's side over RabbitMQ."""

    def __init__(self, link: RabbitLink, participant: str, session_key: str) -> None:
        self._link = link
        self._participant = participant
        self._session_key = session_key

    @classmethod
    async def open(cls, url: str, participant: str, session_key: str) -> "RabbitDoorClient":
        """Connect, declaring the participant's queues."""
        link = RabbitLink(url, f"door-client-{participant}", _queues([participant]))
        await link.open()
        return cls(link, participant, session_key)

    async def send(self, request: DoorRequest) -> None:
        await self.send_all([request])

    async def send_all(self, requests: Sequence[DoorRequest]) -> None:
        headers = {SESSION_HEADER: self._session_key}
        messages = []
        for request in requests:
            trace = {"traceparent": request.traceparent} if request.traceparent else inject_mapping()
            messages.append((encode_request(request), headers | trace))
        await self._link.publish_all(topics.request_queue(self._participant), messages)

    async def replies(self) -> AsyncIterator[Delivery[DoorReply]]:
        async for delivery in self._link.consume(topics.report_queue(self._participant)):
            try:
                message: DoorReply = DOOR_REPLIES.decode(delivery.body)
            except Malformed as error:
                REPLIES_REFUSED.labels(_ROUTE).inc()
                get_logger().error("door_reply_refused", participant=self._participant, reason=str(error))
                await delivery.ack()
                continue
            yield Delivery(
                message=message,
                trace=extract(delivery.headers),
                redelivered=delivery.redelivered,
                acknowledge=delivery.ack,
            )

    async def close(self) -> None:
        await self._link.close()


class RabbitDoorServer:
    """The exchange's side over RabbitMQ."""

    def __init__(self, link: RabbitLink, session_key: str) -> None:
        self._link = link
        self._session_key = session_key
        self._inbox: asyncio.Queue[Delivery[DoorRequest] | BaseException | None] = asyncio.Queue(REQUESTS_WAITING_MAX)
        self._readers: dict[str, asyncio.Task[None]] = {}

    @classmethod
    async def open(cls, url: str, participants: Sequence[str], session_key: str) -> "RabbitDoorServer":
        """Connect, declaring the queues of these participants."""
        link = RabbitLink(url, "door-server", [dead_letter_spec()])
        await link.open()
        door = cls(link, session_key)
        await door.serve(participants)
        return door

    async def serve(self, participants: Sequence[str]) -> None:
        added = [name for name in participants if name not in self._readers]
        await self._link.declare(_queues(added))
        for name in added:
            self._readers[name] = asyncio.create_task(self._read(name), name=f"door-{name}")

    async def requests(self) -> AsyncIterator[Delivery[DoorRequest]]:
        while (item := await self._inbox.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def reply(self, participant: str, message: DoorReply) -> None:
        await self.reply_all(participant, [message])

    async def reply_all(self, participant: str, messages: Sequence[DoorReply]) -> None:
        headers = {SESSION_HEADER: self._session_key} | inject_mapping()
        encoded = [(DOOR_REPLIES.encode(message), headers) for message in messages]
        await self._link.publish_all(topics.report_queue(participant), encoded)

    async def dead_letters(self, letters_max: int) -> Sequence[DeadLetter]:
        letters = []
        for delivery in await self._link.get_all(topics.DEAD_LETTERS_BROKER_TO_B3, letters_max):
            letters.append(_letter(delivery))
            await delivery.ack()
        return letters

    async def redrive(self, letters_max: int) -> int:
        taken = await self._link.get_all(topics.DEAD_LETTERS_BROKER_TO_B3, letters_max)
        for delivery in taken:
            await self._link.publish(topics.request_queue(_letter(delivery).participant), delivery.body)
            await delivery.ack()
        return len(taken)

    async def close(self) -> None:
        for reader in self._readers.values():
            reader.cancel()
        await asyncio.gather(*self._readers.values(), return_exceptions=True)
        await self._link.close()
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    async def _read(self, participant: str) -> None:
        try:
            async for delivery in self._link.consume(topics.request_queue(participant)):
                await self._take(participant, delivery)
        except Exception as error:  # noqa: BLE001  # handed to whoever iterates `requests`
            await self._inbox.put(error)

    async def _take(self, participant: str, delivery: RabbitDelivery) -> None:
        async def dead_letter(reason: str) -> None:
            DEAD_LETTERED.labels(_ROUTE).inc()
            headers = {REASON_HEADER: reason[:REASON_LENGTH_MAX], PARTICIPANT_HEADER: participant}
            await self._link.publish(topics.DEAD_LETTERS_BROKER_TO_B3, delivery.body, headers)
            await delivery.ack()

        request = parse_request(delivery.body, participant)
        if isinstance(request, str):
            get_logger().warning("door_request_dead_lettered", participant=participant, reason=request)
            await dead_letter(request)
            return
        trace = extract(delivery.headers)
        await self._inbox.put(
            Delivery(
                message=request,
                trace=trace,
                redelivered=delivery.redelivered,
                acknowledge=delivery.ack,
                dead_letter=dead_letter,
            )
        )


def _letter(delivery: RabbitDelivery) -> DeadLetter:
    headers = delivery.headers
    # The broker dead-letters by itself after too many deliveries; then its own headers tell the queue.
    queue = str(headers.get("x-first-death-queue", topics.QUEUE_BROKER_TO_B3))
    owner = queue.removeprefix(topics.QUEUE_BROKER_TO_B3).removeprefix(".") or topics.BROKER_PARTICIPANT
    return DeadLetter(
        participant=str(headers.get(PARTICIPANT_HEADER, owner)),
        reason=str(headers.get(REASON_HEADER, headers.get("x-first-death-reason", "unknown"))),
        body=delivery.body,
    )
