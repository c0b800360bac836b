"""The supervisor's hand reaches the right logs, or says what was expected."""

from __future__ import annotations

import pytest

from mybroker.contracts.commands import BustTrade, Halt, Redrive, Resume, SetPhase
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry
from mybroker.domain.phase import Phase
from services.b3_surveillance.orders_of_the_supervisor import Act, Refused, SupervisorOrder, place


def market(name, *shards):
    return MarketEntry(
        name=name,
        commands_topic="c",
        events_topic="e",
        books_topic="b",
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
    participants=("MYBROKER",),
)


@pytest.mark.parametrize(
    ("order", "commands"),
    [
        (SupervisorOrder(act=Act.HALT, ticker="VALE3"), [("equities", 1, Halt(ticker="VALE3"))]),
        (SupervisorOrder(act=Act.RESUME, ticker="PETR4"), [("equities", 0, Resume(ticker="PETR4"))]),
        (SupervisorOrder(act=Act.HALT, market="fractional"), [("fractional", 0, Halt())]),
        (
            SupervisorOrder(act=Act.CLOSE),
            [(m, s, SetPhase(phase=Phase.CLOSED)) for m, s in [("equities", 0), ("equities", 1), ("fractional", 0)]],
        ),
        (SupervisorOrder(act=Act.REDRIVE, ticker="PETR4"), [("equities", 0, Redrive(ticker="PETR4"))]),
        (SupervisorOrder(act=Act.BUST, ticker="VALE3", trade_id="t"), [("equities", 1, BustTrade(trade_id="t"))]),
    ],
)
def test_an_order_reaches_the_logs_it_means(order, commands):
    placed = place(order, ENTRY)

    assert not isinstance(placed, Refused)
    assert [(one.market.name, one.shard, one.command) for one in placed] == commands


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (SupervisorOrder(act=Act.REDRIVE), "ticker_required"),
        (SupervisorOrder(act=Act.UNCROSS), "ticker_required"),
        (SupervisorOrder(act=Act.BUST, ticker="PETR4"), "trade_required"),
        (SupervisorOrder(act=Act.HALT, ticker="XXXX9"), "unknown_instrument"),
        (SupervisorOrder(act=Act.HALT, market="nowhere"), "unknown_market"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_what_was_expected(order, code):
    refused = place(order, ENTRY)
    assert isinstance(refused, Refused)
    assert refused.code == code
