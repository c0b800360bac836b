"""The exchange's door as both sides see it, whichever route carries it.

The participant sends requests and hears replies; the exchange hears requests and replies. Every send returns once
the route has the message safely; every delivery is acknowledged after its effect is stored and comes again
otherwise. The two routes (`door_rabbit`, `door_kafka`) keep the same promises and pass the same contract test.

A request that cannot be parsed, or that names another participant than its queue or key, never reaches the
exchange's handler: it goes to the dead letters with the reason, where it can be looked at and redriven.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mybroker.contracts.codec import Malformed
from mybroker.contracts.door import DoorReply, DoorRequest, decode_request
from mybroker.runtime.settings import Settings
from mybroker.runtime.telemetry import TraceContext, counter

M = TypeVar("M")

SESSION_HEADER = "session"
REASON_HEADER = "x-reason"
PARTICIPANT_HEADER = "x-participant"
REASON_LENGTH_MAX = 500

DEAD_LETTERED = counter("mbb3_door_dead_letters_total", "Requests put aside as dead letters", ["route"])
REPLIES_REFUSED = counter("mbb3_door_malformed_replies_total", "Replies that could not be read", ["route"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[M]):
    """One message, to be acknowledged once its effect is stored."""

    message: M
    trace: TraceContext | None
    redelivered: bool
    acknowledge: Callable[[], Awaitable[None]]
    dead_letter: Callable[[str], Awaitable[None]] | None = None

    async def ack(self) -> None:
        """Say that the effect is stored; the message does not come again."""
        await self.acknowledge()

    async def reject(self, reason: str) -> None:
        """Put a request aside as a dead letter with the reason, and acknowledge it. The exchange's side only."""
        assert self.dead_letter is not None, "expected a request; replies cannot be rejected"
        await self.dead_letter(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A request that nobody could take."""

    participant: str
    reason: str
    body: bytes


class DoorClient(Protocol):
    """The participant's side."""

    async def send(self, request: DoorRequest) -> None:
        """Send one request; returns once the route has it."""
        ...

    async def send_all(self, requests: Sequence[DoorRequest]) -> None:
        """Send requests in order; returns once the route has them all."""
        ...

    def replies(self) -> AsyncIterator[Delivery[DoorReply]]:
        """Hear replies until the door is closed, in order, some of them twice."""
        ...

    async def close(self) -> None: ...


class DoorServer(Protocol):
    """The exchange's side."""

    def requests(self) -> AsyncIterator[Delivery[DoorRequest]]:
        """Hear requests of all participants until the door is closed; in order for each, some of them twice."""
        ...

    async def reply(self, participant: str, message: DoorReply) -> None:
        """Answer a participant; returns once the route has it."""
        ...

    async def reply_all(self, participant: str, messages: Sequence[DoorReply]) -> None:
        """Answer a participant in order; returns once the route has all."""
        ...

    async def serve(self, participants: Sequence[str]) -> None:
        """Serve these participants too; those served already stay."""
        ...

    async def dead_letters(self, letters_max: int) -> Sequence[DeadLetter]:
        """Take up to `letters_max` dead letters out."""
        ...

    async def redrive(self, letters_max: int) -> int:
        """Put up to `letters_max` dead letters back where they came from; returns how many."""
        ...

    async def close(self) -> None: ...


def parse_request(body: bytes, participant: str) -> DoorRequest | str:
    """Read a request of `participant`; a text says why it cannot be taken."""
    try:
        request = decode_request(body)
    except Malformed as error:
        return str(error)[:REASON_LENGTH_MAX]
    if request.participant != participant:
        return f"expected participant {participant}, was {request.participant}"[:REASON_LENGTH_MAX]
    return request


async def open_door_client(settings: Settings, participant: str) -> DoorClient:
    """Open the participant's side by the route that the settings name; waits for the engine."""
    rabbit_url = settings.rabbit_url
    if rabbit_url is not None:
        from mybroker.runtime.door_rabbit import RabbitDoorClient

        return await RabbitDoorClient.open(rabbit_url, participant, settings.session_key)
    from mybroker.runtime.door_kafka import KafkaDoorClient

    return await KafkaDoorClient.open(settings.kafka_url, participant, settings.session_key)


async def open_door_server(settings: Settings, participants: Sequence[str]) -> DoorServer:
    """Open the exchange's side for `participants` by the route that the settings name; waits for the engine."""
    rabbit_url = settings.rabbit_url
    if rabbit_url is not None:
        from mybroker.runtime.door_rabbit import RabbitDoorServer

        return await RabbitDoorServer.open(rabbit_url, participants, settings.session_key)
    from mybroker.runtime.door_kafka import KafkaDoorServer

    return await KafkaDoorServer.open(settings.kafka_url, participants, settings.session_key)
