"""The door itself: requests in, one decision each, commands appended in order, answers out.

What it takes it appends to the market's log, then acknowledges, then says "sequenced"; what it refuses it
acknowledges first and then says so. A request whose append was not confirmed is not acknowledged, so it comes
again; the engine drops the second copy. Limits: IN_FLIGHT_MAX requests between arrival and confirmation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from mybroker.contracts.commands import Command, Logon
from mybroker.contracts.directory import DirectoryEntry, MarketEntry
from mybroker.contracts.door import (
    DayTrades,
    DayTradesRequest,
    DoorHeartbeat,
    DoorReply,
    DoorRequest,
    ExecutionReport,
    MassStatus,
    MassStatusRequest,
    RefusedAtDoor,
    Resend,
    Sequenced,
)
from mybroker.contracts.frames import COMMANDS
from mybroker.runtime.directory import Directory
from mybroker.runtime.door import Delivery, DoorServer
from mybroker.runtime.kafka import AsyncProducer, Delivered
from mybroker.runtime.lifecycle import AppContext, passing
from mybroker.runtime.telemetry import counter, inject_kafka
from services.b3_order_entry.admission import Answer, Append, admit, all_shards
from services.b3_order_entry.history import DAY_TRADES_PIECE, day_trades, resend
from services.b3_order_entry.shards import ShardKey, Shards
from services.b3_order_entry.throttle import Throttle

IN_FLIGHT_MAX = 1_000
DRAIN_WITHIN_S = 3.0
HEARTBEAT_EVERY_S = 1.0

_REQUESTS = counter("mbb3_door_requests_total", "Requests heard at the door", ["result"])
_REPORTS = counter("mbb3_door_reports_total", "Reports sent to participants")


class Door:
    """Serves every participant of every session in the directory."""

    def __init__(
        self, context: AppContext, server: DoorServer, producer: AsyncProducer, directory: Directory, shards: Shards
    ) -> None:
        """`shards` must send its reports through `send_reports`."""
        self._context = context
        self._server = server
        self._producer = producer
        self._directory = directory
        self._shards = shards
        self._kafka_url = context.settings.kafka_url
        self._per_second = context.settings.integer("MYBROKER_DOOR_REQUESTS_PER_SECOND", 2_000)
        self._throttles: dict[str, Throttle] = {}
        self._places = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._draining = False
        self._logged_on: set[tuple[str, str, str, int]] = set()

    async def run(self) -> None:
        """Hear requests until cancelled."""
        async for delivery in self._server.requests():
            await self._places.acquire()
            if self._draining:  # not acknowledged: it comes again to the next door
                self._places.release()
                return
            self._take(delivery)

    async def drain(self) -> None:
        """Take nothing more and answer what was taken, at most for DRAIN_WITHIN_S (Kafka may be gone)."""
        self._draining = True
        try:
            async with asyncio.timeout(DRAIN_WITHIN_S):
                for _ in range(IN_FLIGHT_MAX):
                    await self._places.acquire()
        except TimeoutError:
            self._context.log.warning("door_not_drained", within_s=DRAIN_WITHIN_S)

    def _take(self, delivery: Delivery[DoorRequest]) -> None:
        """Decide now and start the appends now, so that a participant's commands keep their order."""
        request = delivery.message
        throttle = self._throttles.setdefault(request.participant, Throttle(self._per_second))
        entry = self._directory.entry(request.session_key)
        decision = admit(request, entry=entry, throttled=not throttle.take(self._context.clock.now_ns()))
        appended: list[tuple[MarketEntry, int, asyncio.Future[Delivered]]] = []
        if isinstance(decision, Append):
            for market, shard in decision.places:
                sent = self._append(market, shard, decision.command, delivery)
                appended.append((market, shard, sent))
        finishing = self._finish(delivery, decision, appended)
        self._context.supervise("request", self._finished(finishing), may_end=True)

    async def _finished(self, finishing: Coroutine[Any, Any, None]) -> None:
        try:
            await finishing
        finally:
            self._places.release()

    def _append(
        self, market: MarketEntry, shard: int, command: Command, delivery: Delivery[DoorRequest]
    ) -> asyncio.Future[Delivered]:
        headers = inject_kafka(delivery.trace) if delivery.trace is not None else ()
        return self._producer.send_nowait(
            market.commands_topic, None, COMMANDS.encode(command), headers, partition=shard
        )

    async def _finish(
        self,
        delivery: Delivery[DoorRequest],
        decision: Append | Answer | RefusedAtDoor,
        appended: Sequence[tuple[MarketEntry, int, asyncio.Future[Delivered]]],
    ) -> None:
        request = delivery.message
        match decision:
            case RefusedAtDoor():
                _REQUESTS.labels("refused").inc()
                await delivery.ack()
                await self._server.reply(request.participant, decision)
            case Answer():
                _REQUESTS.labels("answered").inc()
                await delivery.ack()
                await self._answer(request, decision.body)
            case Append():
                places = [(market, shard, await sent) for market, shard, sent in appended]
                passing("order_entry.appended")
                await delivery.ack()
                _REQUESTS.labels("sequenced").inc()
                await self._server.reply_all(
                    request.participant, [_sequenced(request, market, shard, place) for market, shard, place in places]
                )

    async def _answer(self, request: DoorRequest, body: Resend | MassStatusRequest | DayTradesRequest) -> None:
        replies: Sequence[DoorReply]
        match body:
            case Resend():
                replies = await self._resend(request, body)
            case MassStatusRequest():
                replies = [self._mass_status(request, body)]
            case DayTradesRequest():
                replies = await self._day_trades(request, body)
        await self._server.reply_all(request.participant, replies)

    async def _resend(self, request: DoorRequest, body: Resend) -> Sequence[ExecutionReport]:
        key = ShardKey(session_key=request.session_key, market=body.market, shard=body.shard)
        shard = self._shards.find(key)
        if shard is None or not shard.known.is_set() or shard.index.log_id != body.log_id:
            return []
        return await asyncio.to_thread(resend, self._kafka_url, shard, request.participant, body.from_number)

    def _mass_status(self, request: DoorRequest, body: MassStatusRequest) -> MassStatus:
        orders = tuple(
            order
            for shard in self._shards.of_session(request.session_key)
            for order in shard.index.live_orders(request.participant, body.ticker)
        )
        return MassStatus(
            message_id=request.message_id,
            session_key=request.session_key,
            orders=orders,
            last_numbers=self._shards.last_numbers(request.session_key, request.participant),
        )

    async def _day_trades(self, request: DoorRequest, body: DayTradesRequest) -> Sequence[DayTrades]:
        trades = []
        for shard in self._shards.of_session(request.session_key):
            trades += await asyncio.to_thread(
                day_trades, self._kafka_url, shard, request.participant, body.business_date
            )
        pieces = [trades[at : at + DAY_TRADES_PIECE] for at in range(0, len(trades), DAY_TRADES_PIECE)] or [[]]
        return [
            DayTrades(
                message_id=request.message_id,
                session_key=request.session_key,
                business_date=body.business_date,
                trades=tuple(piece),
                piece=number,
                last=number == len(pieces),
            )
            for number, piece in enumerate(pieces, start=1)
        ]

    async def send_reports(self, reports: Sequence[ExecutionReport]) -> None:
        """Send reports to their participants, in order for each."""
        by_participant: dict[str, list[ExecutionReport]] = {}
        for report in reports:
            by_participant.setdefault(report.participant, []).append(report)
        for participant, own in by_participant.items():
            await self._server.reply_all(participant, own)
        _REPORTS.inc(len(reports))
        passing("order_entry.reported")

    async def beat(self) -> None:
        """Send every participant its last report numbers, once a second, until cancelled."""
        while True:
            for key, entry in list(self._directory.entries.items()):
                await self.log_on(entry)
                for participant in entry.participants:
                    numbers = self._shards.last_numbers(key, participant)
                    heartbeat = DoorHeartbeat(
                        session_key=key, at_wall_ns=self._context.clock.now_ns(), last_numbers=numbers
                    )
                    await self._server.reply(participant, heartbeat)
            await asyncio.sleep(HEARTBEAT_EVERY_S)

    async def log_on(self, entry: DirectoryEntry) -> None:
        """Append a Logon for each participant to each shard, once in this door's life; a door logs on first."""
        await self._server.serve(entry.participants)
        for market, shard in all_shards(entry):
            for participant in entry.participants:
                place = (entry.key, participant, market.name, shard)
                if place not in self._logged_on:
                    self._logged_on.add(place)
                    logon = COMMANDS.encode(Logon(participant=participant))
                    await self._producer.send(market.commands_topic, None, logon, partition=shard)


def _sequenced(request: DoorRequest, market: MarketEntry, shard: int, place: Delivered) -> Sequenced:
    return Sequenced(
        message_id=request.message_id,
        order_id=getattr(request.body, "order_id", None),
        revision=getattr(request.body, "revision", None),
        market=market.name,
        shard=shard,
        offset=place.offset,
    )
