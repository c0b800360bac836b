"""Order entry on real engines, by both routes: killed, asked again, and compared with what the frames say.

The door and one matcher run as processes of their own; the test speaks to the door as participants do.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mybroker.contracts.commands import CancelOrder, PlaceOrder
from mybroker.contracts.door import (
    DayTrades,
    DayTradesRequest,
    DoorBody,
    DoorHeartbeat,
    DoorReply,
    DoorRequest,
    ExecutionReport,
    MassStatus,
    MassStatusRequest,
    RefusedAtDoor,
    Resend,
    Sequenced,
    encode_request,
)
from mybroker.contracts.events import DuplicateIgnored, Event, TradeExecuted
from mybroker.contracts.frames import COMMANDS
from mybroker.contracts.reports import reports_of
from mybroker.contracts.topics import DOOR_REQUESTS, request_queue
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from mybroker.local.engines.rabbit import server_script
from mybroker.runtime import settings
from mybroker.runtime.door import SESSION_HEADER, open_door_client, open_door_server
from mybroker.runtime.kafka import AsyncProducer, read_from
from mybroker.runtime.rabbit import RabbitLink
from tests.matcher.kafka_market import MARKET, NAMESPACE, EngineAlone, KafkaMarket, Service, kafka_alone, rabbit_alone
from tests.matcher.kafka_market import until as until_now

pytestmark = [pytest.mark.engines, pytest.mark.timeout(120)]

ME, OTHER = "P1", "P2"
WITHIN_S = 60.0
ROUTES = ("kafka", pytest.param("rabbit", marks=pytest.mark.skipif(server_script() is None, reason="no RabbitMQ here")))

R = TypeVar("R")


class Floor:
    """A market with its matcher and its door, by one route."""

    def __init__(self, market: KafkaMarket, rabbit_url: str) -> None:
        self.market = market
        self.rabbit_url = rabbit_url
        self.matcher = market.matcher()
        self.door = self.start_door()
        self.ids = (f"o{number}" for number in itertools.count(1))
        self.matcher.wait_ready()
        until_now("the market is open", lambda: (self.matcher.get("/state")[1] or {}).get("phase") == "open")
        self.door.wait_ready()

    def start_door(self, **env: str) -> Service:
        self.door = self.market.service("services.b3_order_entry", MYBROKER_RABBIT_URL=self.rabbit_url, **env)
        return self.door

    def settings(self) -> settings.Settings:
        return settings.load(
            {
                "MYBROKER_NAMESPACE": NAMESPACE,
                "MYBROKER_SESSION": self.market.session,
                "MYBROKER_KAFKA_URL": self.market.url,
                "MYBROKER_RABBIT_URL": self.rabbit_url,
            }
        )

    async def send_raw(self, participant: str, body: bytes) -> None:
        """Put bytes where a participant's requests go, past every client of ours."""
        if self.rabbit_url:
            link = RabbitLink(self.rabbit_url, "raw")
            await link.open()
            await link.publish(request_queue(participant), body)
            await link.close()
            return
        producer = AsyncProducer(self.market.url)
        header = [(SESSION_HEADER, self.market.key.encode())]
        await producer.send(DOOR_REQUESTS, participant.encode(), body, header)
        await producer.close()

    def reports(self, participant: str) -> list[ExecutionReport]:
        """Return what the frames report to a participant, by a reading of their own."""
        frames = self.market.frames()
        reports = [
            r for frame in frames for r in reports_of(frame, session_key=self.market.key, market=MARKET, shard=0)
        ]
        return [report for report in reports if report.participant == participant]

    def events(self) -> list[Event]:
        return [event for frame in self.market.frames() for event in frame.events]

    def commands(self) -> list[object]:
        records = read_from(self.market.url, self.market.commands, 0, 0)
        return [COMMANDS.decode(record.value or b"") for record in records]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineAlone]:
    kafka = kafka_alone(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.stop()


@pytest.fixture(scope="module", params=ROUTES)
def floor(
    request: pytest.FixtureRequest, kafka: EngineAlone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Floor]:
    route: str = request.param
    rabbit = rabbit_alone(tmp_path_factory.mktemp("rabbit")) if route == "rabbit" else None
    market = KafkaMarket(kafka.url, tmp_path_factory.mktemp(route), session=f"by_{route}", participants=(ME, OTHER))
    try:
        yield Floor(market, rabbit.url if rabbit else "")
    finally:
        market.close()
        if rabbit is not None:
            rabbit.stop()


class Participant:
    """One participant's side of the door: sends, and keeps everything it hears."""

    def __init__(self, floor: Floor, name: str) -> None:
        self.name = name
        self.heard: list[DoorReply] = []
        self._floor = floor
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Participant:
        self._client = await open_door_client(self._floor.settings(), self.name)
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        async for delivery in self._client.replies():
            self.heard.append(delivery.message)
            await delivery.ack()

    async def ask(self, body: DoorBody) -> str:
        message_id = f"{self.name}-{time.time_ns()}-{next(self._numbers)}"
        await self._client.send(
            DoorRequest(participant=self.name, session_key=self._floor.market.key, message_id=message_id, body=body)
        )
        return message_id

    async def place(self, side: Side, price_ticks: int, *, ticker: str = "PETR4", quantity_shares: int = 100) -> str:
        order_id = next(self._floor.ids)
        await self.ask(
            PlaceOrder(
                participant=self.name,
                account=self.name,
                order_id=order_id,
                ticker=ticker,
                side=side,
                quantity_shares=quantity_shares,
                price_ticks=price_ticks,
            )
        )
        return order_id

    async def hears(self, kind: type[R], where: Callable[[R], bool], *, within_s: float = WITHIN_S) -> R:
        """Wait for the first answer of a kind that fits."""
        give_up_at = time.monotonic() + within_s
        while True:
            for message in self.heard:
                if isinstance(message, kind) and where(message):
                    return message
            assert time.monotonic() < give_up_at, f"no {kind.__name__} that fits among {self.heard[-20:]}"
            await asyncio.sleep(0.02)

    def reports(self) -> list[ExecutionReport]:
        """Return the reports heard, each number once, in order."""
        heard = {message.number: message for message in self.heard if isinstance(message, ExecutionReport)}
        return [heard[number] for number in sorted(heard)]

    async def last_number(self) -> int:
        """Return what the next heartbeat says is this participant's last report number."""
        asked_ns, key = time.time_ns(), self._floor.market.key  # a door beats for every session it finds
        beat = await self.hears(DoorHeartbeat, lambda beat: beat.session_key == key and beat.at_wall_ns > asked_ns)
        (last,) = beat.last_numbers
        return last.number


def is_trade_of(order_id: str) -> Callable[[ExecutionReport], bool]:
    return lambda heard: (heard.order_id, heard.kind) == (order_id, "trade")


def is_sequenced(order_id: str) -> Callable[[Sequenced], bool]:
    return lambda heard: heard.order_id == order_id


@pytest.fixture
async def me(floor: Floor) -> AsyncIterator[Participant]:
    async with Participant(floor, ME) as me:
        yield me


@pytest.fixture
async def other(floor: Floor) -> AsyncIterator[Participant]:
    async with Participant(floor, OTHER) as other:
        yield other


async def test_an_order_is_sequenced_and_answered_by_numbered_reports(floor: Floor, me: Participant) -> None:
    order_id = await me.place(Side.BUY, 2950)
    sequenced = await me.hears(Sequenced, lambda heard: heard.order_id == order_id)
    accepted = await me.hears(ExecutionReport, lambda heard: heard.order_id == order_id)
    assert (accepted.kind, accepted.offset) == ("accepted", sequenced.offset)
    assert isinstance(floor.commands()[sequenced.offset], PlaceOrder)
    await me.ask(CancelOrder(participant=ME, order_id=order_id, revision=2, ticker="PETR4"))
    cancelled = await me.hears(ExecutionReport, lambda heard: heard.order_id == order_id and heard.kind == "cancelled")
    assert cancelled.number == accepted.number + 1


async def test_killed_between_append_and_acknowledgement_the_order_is_in_the_log_twice_and_answered_once(
    floor: Floor, me: Participant
) -> None:
    floor.door.kill()
    doomed = floor.start_door(MYBROKER_KILL_AT="order_entry.appended:1")
    await asyncio.to_thread(doomed.wait_ready)
    order_id = await me.place(Side.BUY, 2951)
    assert await asyncio.to_thread(doomed.ended) == -9
    assert not any(isinstance(heard, Sequenced) and heard.order_id == order_id for heard in me.heard)

    again = floor.start_door()
    await asyncio.to_thread(again.wait_ready)
    await me.hears(Sequenced, lambda heard: heard.order_id == order_id)
    written = [c for c in floor.commands() if isinstance(c, PlaceOrder) and c.order_id == order_id]
    assert len(written) == 2, "the second delivery is the point of this test"
    until_now("both are answered", lambda: floor.market.caught_up(floor.matcher))
    ignored = [e for e in floor.events() if isinstance(e, DuplicateIgnored) and e.order_id == order_id]
    assert len(ignored) == 1
    own = [report for report in floor.reports(ME) if report.order_id == order_id]
    assert [report.kind for report in own] == ["accepted"]

    # What was reported while no door stood shows in the heartbeat, and is asked for.
    last = await me.last_number()
    assert last == own[0].number
    await me.ask(Resend(market=MARKET, shard=0, log_id=own[0].log_id, from_number=own[0].number))
    assert await me.hears(ExecutionReport, lambda heard: heard.order_id == order_id) == own[0]


async def test_a_resend_brings_exactly_the_missing_reports(floor: Floor, me: Participant) -> None:
    for price_ticks in range(2960, 2970):
        await me.place(Side.BUY, price_ticks)
    until_number = (await me.last_number()) if len(me.reports()) >= 10 else 0
    while until_number < 10 or len(me.reports()) < 10:
        until_number = await me.last_number()
    expected = floor.reports(ME)
    assert until_number == len(expected)
    assert me.reports() == expected[-len(me.reports()) :], "what is heard at once is what the frames say"

    me.heard.clear()
    log_id = expected[0].log_id
    await me.ask(Resend(market=MARKET, shard=0, log_id=log_id, from_number=until_number - 3))
    await me.hears(ExecutionReport, lambda heard: heard.number == until_number)
    assert [heard for heard in me.heard if isinstance(heard, ExecutionReport)] == expected[-4:]

    me.heard.clear()
    await me.ask(Resend(market=MARKET, shard=0, log_id=log_id, from_number=1))
    await me.hears(ExecutionReport, lambda heard: heard.number == until_number)
    assert me.reports() == expected

    me.heard.clear()
    await me.ask(Resend(market=MARKET, shard=0, log_id="another log", from_number=1))
    await me.ask(Resend(market=MARKET, shard=0, log_id=log_id, from_number=until_number + 1))
    answered = await me.ask(MassStatusRequest())
    await me.hears(MassStatus, lambda heard: heard.message_id == answered)
    assert me.reports() == [], "there is nothing of another log, and nothing beyond the last number"


async def test_status_and_trades_of_the_day_are_what_the_frames_say(
    floor: Floor, me: Participant, other: Participant
) -> None:
    resting = await me.place(Side.SELL, 3050, ticker="VALE3", quantity_shares=500)
    await me.hears(ExecutionReport, lambda heard: heard.order_id == resting)
    for quantity_shares in (100, 200):
        bought = await other.place(Side.BUY, 3050, ticker="VALE3", quantity_shares=quantity_shares)
        await other.hears(ExecutionReport, is_trade_of(bought))
    await me.hears(ExecutionReport, lambda heard: heard.order_id == resting and heard.cum_shares == 300)

    asked = await me.ask(MassStatusRequest(ticker="VALE3"))
    status = await me.hears(MassStatus, lambda heard: heard.message_id == asked)
    (order,) = status.orders
    assert (order.order_id, order.cum_shares, order.leaves_shares, order.price_ticks) == (resting, 300, 200, 3050)
    assert status.last_numbers[0].number == len(floor.reports(ME))

    asked = await me.ask(DayTradesRequest(business_date="2026-11-23"))
    heard = await me.hears(DayTrades, lambda heard: heard.message_id == asked)
    executed = [event for event in floor.events() if isinstance(event, TradeExecuted)]
    assert [(t.trade_id, t.order_id, t.price_ticks, t.quantity_shares) for t in heard.trades] == [
        (t.trade_id, t.sell.order.order_id, t.price_ticks, t.quantity_shares) for t in executed
    ]
    assert len(heard.trades) == 2
    assert {trade.side for trade in heard.trades} == {Side.SELL}

    asked = await me.ask(DayTradesRequest(business_date="2020-01-02"))
    assert (await me.hears(DayTrades, lambda heard: heard.message_id == asked)).trades == ()


async def test_what_the_door_refuses_never_enters_the_log(floor: Floor, me: Participant) -> None:
    before = [c for c in floor.commands() if isinstance(c, PlaceOrder)]
    nowhere = await me.place(Side.BUY, 3000, ticker="XXXX3")
    refused = await me.hears(RefusedAtDoor, lambda heard: heard.order_id == nowhere)
    assert refused.reason is RejectReason.UNKNOWN_INSTRUMENT
    assert [c for c in floor.commands() if isinstance(c, PlaceOrder)] == before


async def test_a_malformed_request_becomes_a_dead_letter_with_its_reason(floor: Floor, me: Participant) -> None:
    def requests_in_log() -> int:
        return sum(isinstance(command, PlaceOrder) for command in floor.commands())

    before = requests_in_log()
    foreign = PlaceOrder(
        participant=OTHER, account="A", order_id="not-mine", ticker="PETR4", side=Side.BUY, quantity_shares=100
    )
    masked = DoorRequest(participant=OTHER, session_key=floor.market.key, message_id="m", body=foreign)
    for body in (b"\xff\xfe", b'["request", {"participant": "P1"}]', encode_request(masked)):
        await floor.send_raw(ME, body)
    order_id = await me.place(Side.BUY, 2940)
    await me.hears(ExecutionReport, lambda heard: heard.order_id == order_id)  # the door goes on
    assert requests_in_log() == before + 1

    server = await open_door_server(floor.settings(), [])
    try:
        letters = await server.dead_letters(10)
    finally:
        await server.close()
    assert [letter.participant for letter in letters] == [ME, ME, ME]
    assert letters[0].body == b"\xff\xfe"
    assert letters[0].reason.startswith("door envelope: expected")
    assert "session_key" in letters[1].reason
    assert letters[2].reason == "expected participant P1, was P2"


async def test_every_report_was_heard_or_can_be_and_the_logs_agree(floor: Floor, me: Participant) -> None:
    expected = floor.reports(ME)
    assert [report.number for report in expected] == list(range(1, len(expected) + 1))
    await me.ask(Resend(market=MARKET, shard=0, log_id=expected[0].log_id, from_number=1))
    await me.hears(ExecutionReport, lambda heard: heard.number == len(expected))
    assert me.reports() == expected
    result = await asyncio.to_thread(floor.market.replay)
    assert result.difference is None


async def test_a_door_that_is_stopped_answers_what_it_took(floor: Floor, me: Participant, tmp_path: Path) -> None:
    orders = [await me.place(Side.BUY, 2930) for _ in range(20)]
    assert await asyncio.to_thread(floor.door.terminate) == 0
    again = floor.start_door()
    await asyncio.to_thread(again.wait_ready)
    for order_id in orders:
        await me.hears(Sequenced, is_sequenced(order_id))
    accepted = [report.order_id for report in floor.reports(ME) if report.kind == "accepted"]
    assert sorted(set(accepted)) == sorted(accepted), "none was accepted twice"
    assert set(orders) <= set(accepted)
