"""The plan: what is started, stopped and replaced, what is reported, and what processes are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mybroker.contracts.market_config import load_market_config, load_session_setup
from mybroker.domain.phase import Phase
from mybroker.plan.actions import (
    Configure,
    EnsureTopics,
    PublishDirectory,
    Replace,
    Start,
    Stop,
)
from mybroker.plan.make_plan import make_plan
from mybroker.plan.observed import Observed
from mybroker.testing.plan_world import (
    EQUITIES,
    FRACTIONAL,
    SIMULATED,
    at,
    plan_session,
    settled,
)

SECOND_NS = 1_000_000_000


def test_an_empty_machine_gets_topics_directory_and_every_workload_in_that_order() -> None:
    plan = make_plan(plan_session(), Observed(topics={}), at("09:00:00"))

    kinds = [type(action) for action in plan.actions]
    assert kinds == [EnsureTopics, PublishDirectory] + [Start] * (len(plan.actions) - 2)
    assert [action.name for action in plan.actions if isinstance(action, Start)] == [
        "matcher/equities-0",
        "matcher/equities-1",
        "matcher/fractional-0",
        "broker/identity",
        "broker/assets",
        "broker/wallet",
        "broker/orders",
        "b3/order_entry",
        "b3/market_feed",
        "broker/gateway",
        "b3/surveillance",
        "ingestor/plan",
        "ingestor/fetch-0",
        "b3/participants",
    ]
    assert plan.status.condition("Ready") == ("False", "TopicsMissing")
    assert plan.status.condition("MatchersReady") == ("False", "MatcherStarting")
    assert plan.status.phase == "Pending"


def test_a_market_gets_three_topics_with_a_partition_for_each_shard() -> None:
    plan = make_plan(plan_session(), Observed(topics={}), at("09:00:00"))
    ensure = plan.actions[0]
    assert isinstance(ensure, EnsureTopics)
    partitions = {topic.name: topic.partitions for topic in ensure.topics}
    assert {name: partitions[name] for name in partitions if "equities" in name} == {
        "b3-commands-local.pregao.equities": 2,
        "b3-events-local.pregao.equities": 2,
        "b3-books-local.pregao.equities": 2,
    }
    assert {"b3-sessions-v1", "trading-assets-market-data-v1", "order-events-v1"} <= partitions.keys()


def test_brokers_that_do_not_answer_are_not_taken_for_empty() -> None:
    world = settled()
    world.observed = replace(world.observed, topics=None)

    plan = world.plan()

    assert plan.actions == ()
    assert plan.status.condition("TopicsReady") == ("Unknown", "TopicsNotSeen")
    assert plan.status.condition("Ready") == ("False", "TopicsNotSeen")


@pytest.mark.parametrize(
    ("spec", "phase"),
    [
        ({}, Phase.OPEN),
        (SIMULATED, Phase.PRE_OPEN),
        ({**SIMULATED, "roll": "NextBusinessDay"}, Phase.OPEN),
        ({"desiredState": "Halted"}, Phase.HALTED),
        ({"desiredState": "Scheduled", **SIMULATED}, Phase.CLOSED),
        ({"desiredState": "Closed"}, Phase.CLOSED),
        ({"ingestors": {"source": "Simulated", "replicas": 3, "autoscaler": "None"}}, Phase.OPEN),
    ],
)
def test_a_plan_on_its_own_outcome_asks_for_nothing(spec: dict[str, Any], phase: Phase) -> None:
    world = settled(phase=phase, **spec)

    again = world.plan()

    assert again.actions == ()
    assert again.status == make_plan(world.session, world.observed, world.now_ns).status
    assert again.status.condition("Ready") == ("True", "AllReady")


def test_a_plan_is_a_function_of_its_arguments() -> None:
    world = settled()
    assert world.plan() == world.plan()


def test_a_dead_matcher_is_started_again_and_nothing_else_is_touched() -> None:
    world = settled()
    world.forget("matcher/equities-0")

    plan = world.plan()

    assert plan.actions == (Start("matcher/equities-0"),)
    assert plan.status.condition("Ready") == ("False", "MatcherRestarting")


WORKLOADS = (
    "matcher/equities-1 matcher/fractional-0 broker/identity broker/orders b3/order_entry b3/market_feed "
    "b3/surveillance ingestor/plan ingestor/fetch-0 b3/participants"
).split()


@pytest.mark.parametrize("name", WORKLOADS)
def test_whatever_dies_is_started_again_at_once_and_alone(name: str) -> None:
    world = settled()
    world.lose(name)

    assert world.step().actions == (Start(name),)
    assert world.plan().actions == ()


@pytest.mark.parametrize(
    ("restarts", "ran_ms", "delay_ms"),
    [
        (0, 100, 0),
        (1, 100, 0),
        (2, 100, 0),
        (3, 100, 250),
        (6, 100, 2_000),
        (7, 100, 5_000),
        (99, 100, 5_000),
        (99, 10_000, 0),
    ],
)
def test_a_process_that_keeps_ending_waits_longer_up_to_a_small_limit(
    restarts: int, ran_ms: int, delay_ms: int
) -> None:
    world = settled()
    world.lose("matcher/equities-0", restarts=restarts, started_at_ns=world.now_ns - ran_ms * 1_000_000)
    due_ns = world.now_ns + delay_ms * 1_000_000

    if delay_ms:
        waiting = world.plan()
        assert waiting.actions == ()
        assert waiting.look_again_at_ns == min(due_ns, world.now_ns + SECOND_NS)
        world.now_ns = due_ns - 1
        assert world.plan().actions == ()
    world.now_ns = due_ns
    assert world.plan().actions == (Start("matcher/equities-0"),)


def test_what_is_no_longer_wanted_is_stopped() -> None:
    world = settled()
    world.session = plan_session(participants={"marketMakers": 0, "noiseTraders": 0})

    plan = world.step()

    assert Stop("b3/participants") in plan.actions
    assert world.directory().participants == ("MYBROKER",)
    world.settle()
    assert world.observed.workload("b3/participants") is None


def test_a_changed_source_replaces_only_the_services_that_read_it() -> None:
    world = settled()
    world.session = plan_session(ingestors={"source": "Brapi", "fallback": "Simulated", "symbolsPerReplica": 2})

    names = [
        "broker/assets",
        "b3/surveillance",
        "ingestor/plan",
        "ingestor/fetch-0",
        "ingestor/fetch-1",
        "b3/participants",
    ]
    assert world.plan().actions == tuple(Replace(name) for name in names)


def test_a_new_ticker_while_open_configures_its_matcher_without_a_restart() -> None:
    world = settled()
    world.session = plan_session(
        markets=[{**EQUITIES, "instruments": ["PETR4", "VALE3", "ITUB4", "ABEV3"]}, FRACTIONAL]
    )

    plan = world.step()

    matcher_actions = [action for action in plan.actions if getattr(action, "name", "").startswith("matcher/")]
    assert matcher_actions == [Configure("matcher/equities-1")]
    assert [shard.tickers for shard in world.directory().markets[0].shards] == [("PETR4", "ITUB4"), ("VALE3", "ABEV3")]
    assert world.settle().status.condition("Degraded") == ("False", "NothingWrong")


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    world = settled()
    first = world.plan().status.find("Ready")
    assert first is not None

    world.now_ns += 60 * SECOND_NS
    world.step()
    later = world.plan().status.find("Ready")
    assert later == first

    world.forget("matcher/equities-0")
    lost = world.plan().status.find("Ready")
    assert lost is not None
    assert lost.last_transition_ns == world.now_ns


def test_the_status_tells_the_next_transition_and_the_plan_looks_again_then() -> None:
    world = settled("09:59:59", Phase.PRE_OPEN)
    plan = world.plan()

    assert plan.status.phase == "PreOpen"
    assert plan.status.next_transition is not None
    assert (plan.status.next_transition.phase, plan.status.next_transition.at_wall_ns) == ("Open", at("10:00:00"))
    assert plan.look_again_at_ns == at("10:00:00")


@pytest.mark.parametrize(
    ("phases", "word"),
    [
        ([Phase.OPEN, Phase.OPEN, Phase.HALTED], "Open"),
        ([Phase.HALTED, Phase.HALTED, Phase.HALTED], "Halted"),
        ([Phase.CLOSED, Phase.CLOSING_CALL, Phase.CLOSED], "ClosingCall"),
        ([Phase.CLOSED, Phase.CLOSED, Phase.CLOSED], "Scheduled"),
        ([None, None, None], "Pending"),
    ],
)
def test_one_word_stands_for_all_shards(phases: list[Phase | None], word: str) -> None:
    world = settled()
    for market, phase in zip(world.observed.markets, phases, strict=True):
        world.put_market(replace(market, phase=phase))
    assert world.plan().status.phase == word


def test_an_alarm_of_a_shard_shows_and_the_market_goes_on() -> None:
    world = settled()
    world.put_market(replace(world.observed.markets[0], message="PETR4 is quarantined"))
    status = world.plan().status
    degraded = status.find("Degraded")
    assert degraded is not None
    assert (degraded.reason, degraded.message) == ("MarketAlarm", "equities-0: PETR4 is quarantined")
    assert status.condition("Ready") == ("True", "AllReady")


def test_a_matcher_is_told_its_instruments_schedule_and_rules() -> None:
    plan = make_plan(plan_session(), Observed(), at("09:00:00"))
    matcher = plan.workload("matcher/equities-0")
    config = load_market_config(matcher.files[0].content)

    assert (matcher.service, matcher.args) == ("b3_matcher", ())
    assert matcher.env == (("MYBROKER_MARKET", "equities"), ("MYBROKER_SHARD", "0"))
    assert (matcher.files[0].env, matcher.files[0].reload) == ("MYBROKER_MARKET_CONFIG", True)
    assert (config.session, config.market, config.shard, config.business_date) == (
        "pregao",
        "equities",
        0,
        "2026-11-23",
    )
    assert [(i.ticker, i.lot_shares, i.reference_price_ticks) for i in config.instruments] == [
        ("PETR4", 100, 3_800),
        ("ITUB4", 100, 3_800),
    ]
    assert [(change.at_ns, change.phase) for change in config.schedule] == [
        (at("09:45:00"), Phase.PRE_OPEN),
        (at("10:00:00"), Phase.OPEN),
        (at("17:55:00"), Phase.CLOSING_CALL),
        (at("18:00:00"), Phase.CLOSED),
    ]


def test_a_fractional_matcher_trades_single_shares_of_the_same_asset() -> None:
    plan = make_plan(plan_session(), Observed(), at("09:00:00"))
    config = load_market_config(plan.workload("matcher/fractional-0").files[0].content)
    (petr4f,) = config.instruments
    assert (petr4f.ticker, petr4f.asset, petr4f.lot_shares, petr4f.quantity_max_shares) == ("PETR4F", "PETR4", 1, 99)
    assert config.rules.profile == "b3-fractional"


def test_the_sessions_services_are_told_what_is_traded_and_by_whom() -> None:
    plan = make_plan(plan_session(), Observed(), at("09:00:00"))
    fetcher = plan.workload("ingestor/fetch-0")
    setup = load_session_setup(fetcher.files[0].content)

    assert (fetcher.service, fetcher.args, fetcher.files[0].env) == (
        "b3_ingestor",
        ("fetch",),
        "MYBROKER_SESSION_CONFIG",
    )
    assert plan.workload("ingestor/plan").args == ("plan",)
    assert [(market.name, market.tickers, market.fractional) for market in setup.markets] == [
        ("equities", ("PETR4", "VALE3", "ITUB4"), False),
        ("fractional", ("PETR4F",), True),
    ]
    assert setup.symbols == ("PETR4", "VALE3", "ITUB4"), "an F ticker is quoted by its share"
    assert (setup.market_makers, setup.noise_traders, setup.seed) == (("MAKER1",), ("NOISE1",), 7)


def test_a_new_business_day_does_not_change_what_services_are_told() -> None:
    monday = make_plan(plan_session(), Observed(), at("09:00:00"))
    tuesday = make_plan(plan_session(date="2026-11-24"), Observed(), at("09:00:00"))
    assert monday.workload("b3/surveillance") == tuesday.workload("b3/surveillance")
    assert monday.workload("matcher/equities-0").spec_hash == tuesday.workload("matcher/equities-0").spec_hash
    assert monday.workload("matcher/equities-0").config_hash != tuesday.workload("matcher/equities-0").config_hash
