"""What the audit is worth: with one safeguard taken out it turns red, and says what went wrong.

Each test runs the right service first, over the same flow and the same kind of accident, and finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mybroker.contracts.commands import PlaceOrder
from mybroker.domain.order import Side
from mybroker.prove.audit import fold_shard
from mybroker.prove.checks import Check
from mybroker.prove.exchange import ExchangeView
from mybroker.prove.feed import check_feed, read_feed
from mybroker.prove.rows import ShardName
from mybroker.prove.shards import audit_shard
from tests.matcher.kafka_market import EngineAlone, KafkaMarket, Service, kafka_alone, until
from tests.matcher.test_matcher_kafka import snapshot_before_its_frames, wait_until_open

pytestmark = [pytest.mark.engines, pytest.mark.timeout(240)]

US = "MYBROKER"


@pytest.fixture
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineAlone]:
    """A broker of each test's own: a log that was damaged on purpose stops every reader that follows all sessions."""
    kafka = kafka_alone(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.stop()


@pytest.fixture
def market_named(kafka: EngineAlone, tmp_path: Path) -> Iterator[partial[KafkaMarket]]:
    made: list[KafkaMarket] = []

    def make(name: str) -> KafkaMarket:
        made.append(KafkaMarket(kafka.url, tmp_path / name, session=name))
        return made[-1]

    yield partial(make)
    for market in made:
        market.close()


def audited(market: KafkaMarket, folder: Path) -> tuple[ExchangeView, list[Check]]:
    """Run the exchange half of the audit over a market that rests."""
    folder.mkdir()
    entry = market.entry.markets[0]
    frames, tape = Check(name="frames", unit="frames"), Check(name="tape", unit="event lines")
    audit_shard(market.url, entry, 0, folder, frames, tape)
    view = ExchangeView(participant=US, session_key=market.key)
    fold_shard(market.url, view, ShardName(market=entry.name, shard=0), entry)
    return view, [frames, tape, view.numbered, view.added_up]


def order(number: int, side: Side) -> PlaceOrder:
    return PlaceOrder(
        participant=US,
        account="100001" if side is Side.BUY else "100002",  # nobody trades with himself
        order_id=f"o{number}",
        ticker="PETR4",
        side=side,
        quantity_shares=100,
        price_ticks=3000,
    )


def flow(*, twice: bool) -> list[PlaceOrder]:
    """Orders that trade in pairs; `twice` as a door leaves them that is killed between append and acknowledgement."""
    orders = [order(number, Side.SELL if number % 2 else Side.BUY) for number in range(1, 41)]
    return [again for one in orders for again in ((one, one) if twice else (one,))]


def traded(market: KafkaMarket, matcher: Service, orders: list[PlaceOrder]) -> None:
    wait_until_open(market, matcher)
    market.send(orders)
    market.come_to_rest(matcher)


def test_a_snapshot_before_its_frames_loses_frames_and_the_audit_says_where(market_named, tmp_path: Path):
    right = market_named("snapshotright")
    right.come_to_rest(snapshot_before_its_frames(right, "snapshots_before_delivery", None))
    assert [check.first for check in audited(right, tmp_path / "r")[1] if not check.ok] == []

    wrong = market_named("snapshotwrong")
    snapshot_before_its_frames(wrong, "naive", "trusting")
    frames, _, numbered, _ = audited(wrong, tmp_path / "w")[1]
    assert "expected a log without a gap" in frames.first[0]
    assert "expected seq" in numbered.first[-1] or "expected report" in numbered.first[0]


def test_an_order_appended_twice_is_taken_once_and_without_that_the_audit_says_so(market_named, tmp_path: Path):
    right = market_named("twiceright")
    traded(right, right.matcher(), flow(twice=True))
    view, checks = audited(right, tmp_path / "r")
    assert [check.first for check in checks if not check.ok] == []
    assert (len(view.orders), view.trades) == (40, 20)

    wrong = market_named("twicewrong")
    saboteur = wrong.service(
        "tests.saboteurs.processes", "matcher_that_hears_twice", MYBROKER_MARKET="equities", MYBROKER_SHARD="0"
    )
    traded(wrong, saboteur, flow(twice=True))
    view, (frames, _, _, added_up) = audited(wrong, tmp_path / "w")
    assert view.trades > 20, "the sabotage did not come about"
    assert "duplicate" in frames.first[0]
    assert "order o1: accepted twice" in added_up.first[0]


def test_frames_that_repeat_are_read_once_and_without_that_the_audit_says_so(market_named, tmp_path: Path):
    market = market_named("feeds")
    traded(market, market.matcher(), flow(twice=False))
    for record in market.event_records():  # what a second matcher writes that computes the same frames
        market.append_event(record.value)
    view, checks = audited(market, tmp_path / "r")
    assert [check.first for check in checks if not check.ok] == []
    assert view.trades == 20

    right = market.service("services.b3_market_feed")
    right.wait_ready()
    assert check_feed(read_feed(right.url, market.key), view.day).first == []

    wrong = market.service("tests.saboteurs.processes", "feed_that_takes_any_seq")
    until("the wrong feed has read everything", lambda: shown(wrong, market) > 20)
    found = check_feed(read_feed(wrong.url, market.key), view.day)
    assert found.first[0] == "PETR4, trades: expected 20, was 40"


def shown(feed: Service, market: KafkaMarket) -> int:
    status, state = feed.get(f"/state?session={market.key}")
    return sum(ticker["trades"] for ticker in state["tickers"]) if status == 200 else -1
