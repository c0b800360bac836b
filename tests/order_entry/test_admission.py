"""The door decides in a documented order, and looks only at what it must."""

from __future__ import annotations

import pytest

from mybroker.contracts.commands import CancelOrder, Logon, MassCancel, PlaceOrder
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry
from mybroker.contracts.door import DoorRequest, MassStatusRequest, RefusedAtDoor, Resend, SessionLogon
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from services.b3_order_entry.admission import Answer, Append, admit
from services.b3_order_entry.throttle import Throttle


def market(name, *shards):
    return MarketEntry(
        name=name,
        commands_topic=f"c-{name}",
        events_topic=f"e-{name}",
        books_topic=f"b-{name}",
        shards=tuple(ShardEntry(shard=number, tickers=tickers) for number, tickers in enumerate(shards)),
    )


ENTRY = DirectoryEntry(
    namespace="local",
    session="pregao",
    revision=1,
    business_date="2026-11-23",
    desired_state="Open",
    clock=SessionClock(anchor_wall_ns=0, anchor_session_ns=0, speed=1),
    markets=(market("equities", ("PETR4",), ("VALE3",)), market("fractional", ("PETR4F",))),
    participants=("MYBROKER", "MM1"),
)


def place(ticker="PETR4", participant="MYBROKER"):
    return PlaceOrder(
        participant=participant, account="A", order_id="o1", ticker=ticker, side=Side.BUY, quantity_shares=100
    )


def request(body, participant="MYBROKER"):
    return DoorRequest(participant=participant, session_key="local.pregao", message_id="m1", body=body)


@pytest.mark.parametrize(
    ("ticker", "expected_market", "expected_shard"),
    [("PETR4", "equities", 0), ("VALE3", "equities", 1), ("PETR4F", "fractional", 0)],
)
def test_an_order_goes_to_the_shard_that_trades_its_ticker(ticker, expected_market, expected_shard):
    decision = admit(request(place(ticker)), entry=ENTRY, throttled=False)

    assert isinstance(decision, Append)
    assert [(market.name, shard) for market, shard in decision.places] == [(expected_market, expected_shard)]
    assert decision.command == place(ticker)


@pytest.mark.parametrize(
    ("what", "body", "participant", "entry", "throttled", "reason"),
    [
        ("another's order", place(participant="MM1"), "MYBROKER", None, True, RejectReason.NOT_LOGGED_ON),
        ("no such session", place(), "MYBROKER", None, True, RejectReason.UNKNOWN_SESSION),
        ("a stranger", place(participant="XX"), "XX", ENTRY, True, RejectReason.NOT_LOGGED_ON),
        ("too fast", place("XXXX9"), "MYBROKER", ENTRY, True, RejectReason.THROTTLED),
        ("no such ticker", place("XXXX9"), "MYBROKER", ENTRY, False, RejectReason.UNKNOWN_INSTRUMENT),
        (
            "a cancel that names no ticker",
            CancelOrder(participant="MYBROKER", order_id="o1"),
            "MYBROKER",
            ENTRY,
            False,
            RejectReason.MALFORMED,
        ),
    ],
)
def test_the_first_check_that_fails_is_the_answer(what, body, participant, entry, throttled, reason):
    decision = admit(request(body, participant), entry=entry, throttled=throttled)

    assert isinstance(decision, RefusedAtDoor), what
    assert decision.reason is reason


def test_a_logon_and_a_mass_cancel_go_to_every_shard():
    everywhere = [("equities", 0), ("equities", 1), ("fractional", 0)]

    for body, command in [
        (SessionLogon(), Logon(participant="MM1")),
        (MassCancel(participant="MM1"), MassCancel(participant="MM1")),
    ]:
        decision = admit(request(body, "MM1"), entry=ENTRY, throttled=False)
        assert isinstance(decision, Append)
        assert decision.command == command
        assert [(market.name, shard) for market, shard in decision.places] == everywhere


@pytest.mark.parametrize("body", [MassStatusRequest(), Resend(market="equities", shard=0, log_id="l", from_number=1)])
def test_questions_are_answered_from_the_index_and_enter_no_log(body):
    assert admit(request(body), entry=ENTRY, throttled=False) == Answer(body=body)


def test_a_throttle_lets_two_seconds_of_the_rate_come_at_once_and_then_the_rate():
    throttle = Throttle(10)
    second_ns = 1_000_000_000

    assert [throttle.take(0) for _ in range(21)] == [True] * 20 + [False]
    assert throttle.take(second_ns // 10)
    assert not throttle.take(second_ns // 10)
    assert [throttle.take(10 * second_ns) for _ in range(21)] == [True] * 20 + [False]


def test_a_throttle_of_zero_never_refuses():
    throttle = Throttle(0)
    assert all(throttle.take(0) for _ in range(10_000))


def test_time_that_steps_back_gives_a_throttle_nothing():
    throttle = Throttle(1)
    assert [throttle.take(5), throttle.take(5), throttle.take(4), throttle.take(3)] == [True, True, False, False]
