"""What may not change while a market is open, and what the desired state asks of the logs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mybroker.contracts.market_config import load_market_config
from mybroker.domain.phase import Phase
from mybroker.plan.actions import (
    CloseMarket,
    HaltMarket,
    PublishDirectory,
    Replace,
    ResumeMarket,
    Start,
    Stop,
)
from mybroker.testing.plan_world import (
    EQUITIES,
    FRACTIONAL,
    SIMULATED,
    entry_published,
    plan_session,
    settled,
)

OPEN_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"markets": [{**EQUITIES, "shards": 1}, FRACTIONAL]}, "shards: expected 2 or more, shards only grow, was 1"),
    ({"markets": [{**EQUITIES, "shards": 3}, FRACTIONAL]}, "shards: expected 2 while the market is open, was 3"),
    ({"markets": [{**EQUITIES, "instruments": ["PETR4", "ITUB4"]}, FRACTIONAL]}, "expected VALE3 to stay while"),
    ({"markets": [EQUITIES]}, "expected market fractional to stay while it is open, was removed"),
    ({"date": "2026-11-24"}, "spec.date: expected 2026-11-23 while a market is open, was 2026-11-24"),
]


@pytest.mark.parametrize(("spec", "message"), OPEN_REFUSALS)
def test_a_change_that_an_open_market_cannot_take_is_refused_in_words(spec: dict[str, Any], message: str) -> None:
    world = settled()
    world.session = plan_session(**spec)

    plan = world.plan()

    matchers = [action for action in plan.actions if getattr(action, "name", "").startswith("matcher/")]
    assert matchers == [], "no matcher may be touched"
    assert [action for action in plan.actions if isinstance(action, PublishDirectory)] == []
    degraded = plan.status.find("Degraded")
    assert degraded is not None
    assert (degraded.status, degraded.reason) == ("True", "ChangeRefused")
    assert message in degraded.message


def test_shards_grow_once_closed_and_no_ticker_moves() -> None:
    world = settled("18:00:00", Phase.CLOSED)
    world.session = plan_session(
        markets=[{**EQUITIES, "instruments": ["PETR4", "VALE3", "ITUB4", "ABEV3"], "shards": 3}, FRACTIONAL]
    )

    plan = world.step()

    assert [shard.tickers for shard in entry_published(plan).markets[0].shards] == [
        ("PETR4", "ITUB4"),
        ("VALE3",),
        ("ABEV3",),
    ]
    assert Start("matcher/equities-2") in plan.actions
    assert world.observed.topics is not None
    assert world.observed.topics["b3-commands-local.pregao.equities"] == 3
    assert world.settle().status.condition("Degraded") == ("False", "NothingWrong")


def test_shards_never_shrink_even_when_closed() -> None:
    world = settled("18:00:00", Phase.CLOSED)
    world.session = plan_session(markets=[{**EQUITIES, "shards": 1}, FRACTIONAL])
    plan = world.plan()
    assert plan.actions == ()
    assert plan.status.condition("Degraded") == ("True", "ChangeRefused")


def test_a_closed_market_may_be_removed() -> None:
    world = settled("18:00:00", Phase.CLOSED)
    world.session = plan_session(markets=[EQUITIES])
    plan = world.step()
    assert Stop("matcher/fractional-0") in plan.actions
    assert [market.name for market in entry_published(plan).markets] == ["equities"]


def test_a_market_whose_log_is_not_seen_counts_as_open_while_the_schedule_says_so() -> None:
    world = settled()
    world.observed = replace(world.observed, markets=())
    world.session = plan_session(markets=[EQUITIES])
    assert world.plan().status.condition("Degraded") == ("True", "ChangeRefused")


def test_a_ticker_the_catalogue_does_not_know_is_reported_and_the_rest_trades() -> None:
    world = settled(markets=[{**EQUITIES, "instruments": ["PETR4", "VALE3", "XXXX3"]}, FRACTIONAL])
    plan = world.plan()
    degraded = plan.status.find("Degraded")
    assert degraded is not None
    assert degraded.message == "spec.markets[0].instruments: expected a ticker of the catalogue, was XXXX3"
    assert plan.status.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize(
    ("strategy", "phase", "approved", "replaced"),
    [
        ("WhenClosed", Phase.OPEN, False, False),
        ("WhenClosed", Phase.CLOSED, False, True),
        ("Supervised", Phase.CLOSED, False, False),
        ("Supervised", Phase.OPEN, True, True),
        ("Immediate", Phase.OPEN, False, True),
    ],
)
def test_a_new_release_waits_for_the_markets_strategy(
    strategy: str, phase: Phase, approved: bool, replaced: bool
) -> None:
    world = settled("10:30:00", phase, update={"strategy": strategy})
    world.release = "2"
    world.observed = replace(world.observed, update_approved=approved)

    plan = world.plan()

    assert (Replace("matcher/equities-0") in plan.actions) is replaced
    assert Replace("broker/orders") in plan.actions, "a service that keeps no market is replaced at once"
    assert plan.status.condition("UpgradePending") == (("False", "UpToDate") if replaced else ("True", "MarketOpen"))


def test_a_halt_reaches_every_open_shard_once_and_is_lifted_only_by_who_asked() -> None:
    world = settled()
    world.session = plan_session(desiredState="Halted")

    halting = world.step()
    assert [action for action in halting.actions if not isinstance(action, PublishDirectory)] == [
        HaltMarket("equities", 0),
        HaltMarket("equities", 1),
        HaltMarket("fractional", 0),
    ]
    assert world.settle().status.phase == "Halted"

    world.session = plan_session()
    resuming = world.step()
    assert resuming.actions[:3] == (
        ResumeMarket("equities", 0),
        ResumeMarket("equities", 1),
        ResumeMarket("fractional", 0),
    )
    assert world.settle().status.phase == "Open"


def test_a_halt_the_market_came_to_by_itself_is_not_lifted() -> None:
    world = settled()
    world.all_phases(Phase.HALTED)
    assert world.plan().actions == ()


def test_closing_now_closes_every_shard_and_takes_the_schedule_away() -> None:
    world = settled()
    world.session = plan_session(desiredState="Closed")

    plan = world.step()

    assert [action for action in plan.actions if isinstance(action, CloseMarket)] == [
        CloseMarket("equities", 0),
        CloseMarket("equities", 1),
        CloseMarket("fractional", 0),
    ]
    assert load_market_config(plan.workload("matcher/equities-0").files[0].content).schedule == ()
    closed = world.settle()
    assert (closed.status.phase, closed.status.next_transition) == ("Closed", None)


def test_a_scheduled_session_waits_without_a_schedule_and_with_its_clock_held() -> None:
    world = settled("08:00:00", Phase.CLOSED, desiredState="Scheduled", **SIMULATED)

    plan = world.plan()

    assert load_market_config(plan.workload("matcher/equities-0").files[0].content).schedule == ()
    assert world.directory().clock.speed == 0
    assert plan.status.phase == "Scheduled"

    world.session = plan_session(**SIMULATED)
    world.settle()
    assert world.directory().clock.speed == 60


def test_a_paused_session_reports_and_does_nothing() -> None:
    world = settled()
    world.session = plan_session(annotations={"markets.mybroker.dev/paused": "true"})
    world.forget("matcher/equities-0")

    plan = world.plan()

    assert plan.actions == ()
    assert plan.status.condition("Paused") == ("True", "PausedByAnnotation")
    assert plan.status.condition("MatchersReady")[0] == "False"
