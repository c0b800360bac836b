"""Fan-out: whoever joins late, lags or comes back ends like one that never left."""

import random

import pytest

from mybroker.contracts.feed import FeedError, Subscribe, Subscribed, Unsubscribe
from services.b3_market_feed import fanout
from services.b3_market_feed.fanout import Client, Hub
from services.b3_market_feed.market_view import MarketView
from tests.feed.made_up_market import FrameMaker, Reader

EVERYTHING = Subscribe(channels=("book", "trades", "phase", "quotes", "candles"))


class Venue:
    """A market with its hub, and clients that each take their mail when they like."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.maker = FrameMaker(seed)
        self.view = MarketView()
        self.shard = self.view.shard("equities", 0)
        for frame in self.maker.frames:
            self.view.apply(self.shard, frame)
        self.hub = Hub(self.view)
        self.clients = []

    def join(self, asked=EVERYTHING, *, laziness=0.0, reader=None):
        client, reader = Client(), reader or Reader()
        self.hub.clients[client] = None
        assert self.hub.subscribe(client, asked) is None
        self.clients.append((client, reader, laziness))
        return client, reader

    def run(self, steps):
        for _ in range(steps):
            self.hub.printed(self.view.apply(self.shard, self.maker.step()))
            if self.random.random() < 0.4:
                self.hub.flush()
            for client, reader, laziness in self.clients:
                if self.random.random() >= laziness:
                    reader.hear_all(client.take(self.view))

    def settle(self):
        self.hub.flush()
        for client, reader, _ in self.clients:
            reader.hear_all(client.take(self.view))
            assert not client.has_mail


@pytest.mark.parametrize("seed", range(12))
def test_fast_slow_and_late_clients_end_with_the_same_book_and_all_trades(seed):
    venue = Venue(seed)
    _, fast = venue.join()
    slow_client, slow = venue.join(laziness=0.97)
    venue.run(200)
    _, late = venue.join(laziness=0.5)
    venue.run(200)
    venue.settle()

    assert slow_client.conflated > 0, "the slow client was never slow"
    for ticker in venue.maker.tickers:
        expected = venue.maker.naive_levels(ticker)
        assert fast.books[ticker] == slow.books[ticker] == late.books[ticker] == expected, f"seed {seed}"
        numbers = [trade[0] for trade in venue.maker.trades[ticker]]
        assert fast.trades[ticker] == slow.trades[ticker] == numbers
        assert late.trades[ticker] == numbers[-len(late.trades[ticker]) :]


@pytest.mark.parametrize("seed", range(4))
def test_a_client_that_comes_back_resumes_its_trades_by_number(seed):
    venue = Venue(seed)
    client, reader = venue.join(Subscribe(channels=("trades",), tickers=("PETR4",)))
    venue.run(150)
    del venue.hub.clients[client]
    venue.clients.clear()
    venue.run(150)

    after = reader.trades["PETR4"][-1]
    venue.join(Subscribe(channels=("trades",), tickers=("PETR4",), after=after), reader=reader)
    venue.run(50)
    venue.settle()
    assert reader.trades["PETR4"] == [trade[0] for trade in venue.maker.trades["PETR4"]]


def test_fast_clients_share_one_encoded_delta(monkeypatch):
    venue = Venue(1)
    clients = [venue.join(Subscribe(channels=("book",)))[0] for _ in range(5)]
    venue.run(1)
    venue.settle()
    venue.view.apply(venue.shard, venue.maker.emit(venue.maker.entry("PETR4", 999, "buy", 2500, 100)))
    venue.hub.flush()
    taken = [client.take(venue.view) for client in clients]
    assert len({id(texts[0]) for texts in taken}) == 1


def test_a_client_that_takes_nothing_overflows_instead_of_growing(monkeypatch):
    monkeypatch.setattr(fanout, "PRINTS_WAITING_MAX", 50)
    venue = Venue(3)
    client, _ = venue.join(Subscribe(channels=("trades",)), laziness=1.1)
    venue.run(400)
    assert client.overflowed
    assert len(client.take(venue.view)) == 50


def test_what_a_slow_client_has_waiting_is_bounded_by_the_book_not_by_time():
    venue = Venue(5)
    client, _ = venue.join(Subscribe(channels=("book", "quotes", "phase")), laziness=1.1)
    client.take(venue.view)
    venue.run(1_000)
    venue.hub.flush()
    assert len(client.take(venue.view)) <= 3 * len(venue.maker.tickers)


def test_unsubscribing_ends_the_mail():
    venue = Venue(2)
    client, reader = venue.join()
    venue.run(20)
    venue.hub.unsubscribe(client, Unsubscribe(channels=("book", "trades"), tickers=("PETR4",)))
    venue.settle()
    before = (dict(reader.books["PETR4"]), list(reader.trades.get("PETR4", [])))
    venue.run(100)
    venue.settle()
    assert (reader.books["PETR4"], reader.trades.get("PETR4", [])) == before
    assert reader.books["VALE3"] == venue.maker.naive_levels("VALE3")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Subscribe(channels=()), "channel_missing"),
        (Subscribe(channels=("book", "gossip")), "unknown_channel"),
        (Subscribe(channels=("book",), tickers=("PETR4", "XXXX3")), "unknown_instrument"),
    ],
)
def test_a_subscription_that_cannot_be_met_changes_nothing(asked, code):
    venue = Venue(0)
    client = Client()
    venue.hub.clients[client] = None
    refusal = venue.hub.subscribe(client, asked)
    assert isinstance(refusal, FeedError)
    assert refusal.code == code
    assert venue.hub.subscribed(client) == Subscribed(channels=(), tickers=())
