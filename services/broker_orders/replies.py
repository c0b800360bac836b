"""Hears the exchange's door: reports become changes of orders, each once and in order.

Position and effects of a batch are stored in one transaction, then the messages are acknowledged. A gap, or a
heartbeat that knows of more than was heard, asks the door to send again. An error ends the process: it comes back with
the positions that are stored.
"""

import asyncio
from collections.abc import Callable, Sequence

from mybroker.contracts.door import (
    DayTrades,
    DoorHeartbeat,
    DoorReply,
    DoorRequest,
    ExecutionReport,
    MassStatus,
    RefusedAtDoor,
    Resend,
    Sequenced,
)
from mybroker.contracts.topics import BROKER_PARTICIPANT
from mybroker.runtime.clock import Clock
from mybroker.runtime.door import Delivery, DoorClient
from mybroker.runtime.lifecycle import passing
from mybroker.runtime.telemetry import child, counter, inject_mapping
from services.broker_orders.desk import Desk
from services.broker_orders.operations import Heard, TurnedAway
from services.broker_orders.report_sequence import Missing, ReportSequence
from services.broker_orders.store import Request

BATCH_REPLIES_MAX = 200
WAITING_REPLIES_MAX = 1_000
DOOR_SILENT_MS = 5_000
"""A door that says nothing for so long is away: no new order is begun."""

_REPLIES = counter("mbb3_orders_replies_total", "Messages from the exchange's door", ["kind"])
_DROPPED = counter("mbb3_orders_reports_dropped_total", "Reports seen before, or kept back in vain")
_RESENDS = counter("mbb3_orders_resends_total", "Times the door was asked to send reports again")
_UNKNOWN = counter("mbb3_orders_reports_unknown_total", "Reports of orders that are not ours")


class Replies:
    """The consumer of the door's replies. Supervise `run`."""

    def __init__(
        self,
        client: DoorClient,
        desk: Desk,
        sequence: ReportSequence,
        clock: Clock,
        session_now_ns: Callable[[str], int],
        session_key: str,
    ) -> None:
        self._client = client
        self._desk = desk
        self._sequence = sequence
        self._clock = clock
        self._session_now_ns = session_now_ns
        self._session_key = session_key
        self._waiting: asyncio.Queue[Delivery[DoorReply]] = asyncio.Queue(WAITING_REPLIES_MAX)
        self._heard_at_ns = clock.monotonic_ns()
        self._day_trades: dict[str, asyncio.Queue[DayTrades]] = {}

    @property
    def door_is_silent(self) -> bool:
        """Say whether nothing was heard for DOOR_SILENT_MS; a start counts as hearing, so a restart refuses nobody."""
        return self._clock.monotonic_ns() - self._heard_at_ns > DOOR_SILENT_MS * 1_000_000

    async def run(self) -> None:
        """Hear until the door is closed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect())
            group.create_task(self._work())

    async def day_trades(self, request: DoorRequest, timeout_s: int) -> list[DayTrades]:
        """Ask for the trades of a day and return the pieces. Raises TimeoutError."""
        pieces: list[DayTrades] = []
        inbox = self._day_trades[request.message_id] = asyncio.Queue()
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.send(request)
                while not pieces or not pieces[-1].last:
                    pieces.append(await inbox.get())
        finally:
            del self._day_trades[request.message_id]
        return pieces

    async def _collect(self) -> None:
        async for delivery in self._client.replies():
            await self._waiting.put(delivery)

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_REPLIES_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._handle(batch)
            for delivery in batch:
                await delivery.ack()
            await self._ask_for_missing()

    async def _handle(self, batch: Sequence[Delivery[DoorReply]]) -> None:
        self._heard_at_ns = self._clock.monotonic_ns()
        dropped = self._sequence.dropped
        requests: list[Request] = []
        for delivery in batch:
            headers = inject_mapping(child(delivery.trace)) if delivery.trace else {}
            message = delivery.message
            _REPLIES.labels(type(message).__name__).inc()
            match message:
                case ExecutionReport():
                    due = self._sequence.offer(message)
                    requests += [Request(operation=Heard(report=report), headers=headers) for report in due]
                case RefusedAtDoor():
                    if message.order_id is not None:
                        requests.append(Request(operation=self._turned_away(message), headers=headers))
                case DoorHeartbeat():
                    self._sequence.hear(message)
                case DayTrades():
                    inbox = self._day_trades.get(message.message_id)
                    if inbox is not None:
                        inbox.put_nowait(message)
                case Sequenced() | MassStatus():
                    pass
        _DROPPED.inc(self._sequence.dropped - dropped)
        if not requests:
            return
        results = await self._desk.apply(requests, reports=self._sequence.last_numbers())
        passing("orders.report_stored")
        _UNKNOWN.inc(sum(1 for result in results if result.order is None))

    def _turned_away(self, refused: RefusedAtDoor) -> TurnedAway:
        assert refused.order_id is not None, "expected a refused command of an order"
        return TurnedAway(
            order_id=refused.order_id,
            revision=refused.revision or 1,
            reason=refused.reason,
            at_ns=self._session_now_ns(self._session_key),
        )

    async def _ask_for_missing(self) -> None:
        for missing in self._sequence.missing(self._clock.monotonic_ns()):
            _RESENDS.inc()
            await self._client.send(_resend(missing))


def _resend(missing: Missing) -> DoorRequest:
    session_key, market, shard, log_id = missing.key
    return DoorRequest(
        participant=BROKER_PARTICIPANT,
        session_key=session_key,
        message_id=f"resend:{market}:{shard}:{missing.from_number}",
        body=Resend(market=market, shard=shard, log_id=log_id, from_number=missing.from_number),
    )
