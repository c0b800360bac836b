"""The stream's memory: a line to the feed that breaks, and private events without gap or repetition."""

import asyncio
import random
from typing import cast

import msgspec
import pytest

from mybroker.contracts.feed import Subscribe, Subscribed, Trade, Unsubscribe
from mybroker.contracts.http_broker import EventList, PrivateEvent
from mybroker.contracts.http_gateway import EventMessage, EventsFrom
from mybroker.domain.order import Aggressor
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.kafka import Record
from mybroker.runtime.problem import Problem, Unavailable
from services.broker_gateway.feed_link import FeedMemory
from services.broker_gateway.private_events import PrivateEvents, Wakeups


def text_of(message):
    return msgspec.json.encode(message).decode()


def trade(ticker, number):
    return text_of(
        Trade(
            ticker=ticker,
            number=number,
            trade_id=f"t{number}",
            price="1.00",
            quantity=1,
            aggressor=Aggressor.BUY,
            at="2026-11-23T10:00:00-03:00",
        )
    )


def test_trades_the_client_has_are_dropped_and_asked_for_from_there():
    memory = FeedMemory()
    memory.subscribed(Subscribe(channels=("trades", "book"), tickers=("PETR4", "VALE3")))
    assert memory.is_new(text_of(Subscribed(channels=("trades",), tickers=("PETR4", "VALE3"))))
    assert [memory.is_new(trade("PETR4", number)) for number in (7, 8, 8, 7, 9)] == [True, True, False, False, True]

    assert list(memory.again()) == [
        Subscribe(channels=("trades",), tickers=("PETR4",), after=9),
        Subscribe(channels=("trades",), tickers=("VALE3",), after=0),
        Subscribe(channels=("book",), tickers=("PETR4", "VALE3")),
    ]


def test_a_subscription_to_everything_resumes_each_ticker_before_it_asks_for_all():
    memory = FeedMemory()
    memory.subscribed(Subscribe(channels=("trades", "quotes"), session="pregao"))
    memory.is_new(text_of(Subscribed(channels=("trades",), tickers=("PETR4",))))
    memory.is_new(trade("PETR4", 4))
    assert list(memory.again()) == [
        Subscribe(channels=("trades",), tickers=("PETR4",), after=4, session="pregao"),
        Subscribe(channels=("trades",), session="pregao"),
        Subscribe(channels=("quotes",), session="pregao"),
    ]


def test_a_client_that_asks_for_trades_again_gets_them_again():
    memory = FeedMemory()
    asked = Subscribe(channels=("trades",), tickers=("PETR4",))
    memory.subscribed(asked)
    assert memory.is_new(trade("PETR4", 5))
    memory.subscribed(asked)
    assert memory.is_new(trade("PETR4", 5))


def test_what_was_unsubscribed_is_not_asked_for_again():
    memory = FeedMemory()
    memory.subscribed(Subscribe(channels=("book", "quotes"), tickers=("PETR4", "VALE3")))
    memory.unsubscribed(Unsubscribe(channels=("book",), tickers=("PETR4",)))
    memory.unsubscribed(Unsubscribe(channels=("quotes",)))
    assert list(memory.again()) == [Subscribe(channels=("book",), tickers=("VALE3",))]


class Orders:
    """broker_orders with one account's numbered events; now and then it is away."""

    def __init__(self, seed=0, *, trouble=0.0, page=10):
        self.random = random.Random(seed)
        self.trouble = trouble
        self.page = page
        self.newest = 0

    async def call(self, method, target, path, *, query, headers, reply):
        assert (method, target, path, reply) == ("GET", "broker_orders", "/events", EventList)
        assert headers == {"Authorization": "Bearer token"}
        if self.random.random() < self.trouble:
            raise Unavailable("broker_orders", "away")
        first = query["after"] + 1
        numbers = range(first, min(self.newest, first + self.page - 1) + 1)
        events = tuple(PrivateEvent(seq=number, kind="trade", at="now") for number in numbers)
        return EventList(events=events, last=self.newest)


def record_of(account):
    return Record(topic="t", partition=0, offset=0, key=account.encode(), value=b"", headers=(), timestamp_ms=0)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("seed", range(5))
async def test_private_events_have_no_gap_and_no_repetition(seed, monkeypatch):
    monkeypatch.setattr("services.broker_gateway.private_events.RETRY_MS", 1)
    monkeypatch.setattr("services.broker_gateway.private_events.POLL_MS", 20)
    orders, wakeups, heard = Orders(seed, trouble=0.3), Wakeups("unused"), []
    orders.newest = 35

    async def send(message):
        heard.append(message)

    events = PrivateEvents(cast(HttpClient, orders), wakeups, "100001", lambda: "token")
    task = asyncio.create_task(events.run(12, send))
    for _ in range(60):
        orders.newest += orders.random.randrange(3)
        if orders.random.random() < 0.5:  # half of the wake-ups are lost
            await wakeups.heard([record_of("100001"), record_of("others")])
        await asyncio.sleep(0.002)
    await until(lambda: isinstance(heard[-1], EventMessage) and heard[-1].seq == orders.newest)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert heard[0] == EventsFrom(after=12)
    assert [message.seq for message in heard[1:]] == list(range(13, orders.newest + 1)), f"seed {seed}"
    assert wakeups._waiting == {}


async def test_without_a_number_events_begin_after_the_newest():
    orders, wakeups, heard = Orders(), Wakeups("unused"), []
    orders.newest = 40

    async def send(message):
        heard.append(message)

    task = asyncio.create_task(PrivateEvents(cast(HttpClient, orders), wakeups, "1", lambda: "token").run(None, send))
    await until(lambda: heard)
    orders.newest = 41
    await wakeups.heard([record_of("1")])
    await until(lambda: len(heard) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (heard[0], heard[1].seq) == (EventsFrom(after=40), 41)


async def test_an_ended_token_ends_the_events_with_its_reason():
    class Refusing(Orders):
        async def call(self, *_arguments, **_named):
            raise Problem(401, "token_expired", "refresh it")

    async def send(_message):
        pass

    with pytest.raises(Problem, match="token_expired"):
        await PrivateEvents(cast(HttpClient, Refusing()), Wakeups("unused"), "1", lambda: "token").run(3, send)
