"""The plan: what is started, stopped, changed and refused, from the manifest and what is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from mybroker.contracts.directory import SessionClock
from mybroker.contracts.manifest import parse_manifest
from mybroker.contracts.market_config import load_market_config, load_session_setup
from mybroker.contracts.market_session import MarketSession
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import format_instant, parse_instant_ns
from mybroker.plan.actions import (
    CloseMarket,
    Configure,
    EnsureTopics,
    HaltMarket,
    PublishDirectory,
    Replace,
    ResumeMarket,
    RollDay,
    Start,
    Stop,
)
from mybroker.plan.make_plan import Plan, make_plan
from mybroker.plan.observed import Observed
from mybroker.testing.plan_world import PlanWorld

SECOND_NS = 1_000_000_000


def at(time: str, day: str = "2026-11-23") -> int:
    instant_ns = parse_instant_ns(f"{day}T{time}-03:00")
    assert instant_ns is not None
    return instant_ns


def session(**spec: Any) -> MarketSession:
    """A session of one market with two shards, plus a fractional one, a wall clock and two fetchers."""
    manifest = {
        "apiVersion": "markets.mybroker.dev/v1alpha1",
        "kind": "MarketSession",
        "metadata": {"name": "pregao", "annotations": spec.pop("annotations", {})},
        "spec": {
            "date": "2026-11-23",
            "markets": [
                {"name": "equities", "instruments": ["PETR4", "VALE3", "ITUB4"], "shards": 2},
                {"name": "fractional", "instruments": ["PETR4F"]},
            ],
            "ingestors": {"source": "Simulated", "symbolsPerReplica": 2},
            "participants": {"marketMakers": 1, "noiseTraders": 1, "seed": 7},
            **spec,
        },
    }
    read = parse_manifest(manifest, now_ns=at("08:00:00"))
    assert isinstance(read, MarketSession), [str(error) for error in read]
    return read


SIMULATED: dict[str, Any] = {"clock": {"mode": "Simulated", "speed": 60}}
EQUITIES = {"name": "equities", "instruments": ["PETR4", "VALE3", "ITUB4"], "shards": 2}
FRACTIONAL = {"name": "fractional", "instruments": ["PETR4F"]}


def settled(time: str = "10:30:00", phase: Phase = Phase.OPEN, **spec: Any) -> PlanWorld:
    """A world in which this session runs and nothing is left to do."""
    world = PlanWorld(session(**spec), at(time), Observed(topics={}))
    world.settle()
    world.all_phases(phase)
    world.settle()
    return world


def entry_published(plan: Plan) -> Any:
    (publish,) = [action for action in plan.actions if isinstance(action, PublishDirectory)]
    return publish.entry


# ---- starting


def test_an_empty_machine_gets_topics_directory_and_every_workload_in_that_order() -> None:
    plan = make_plan(session(), Observed(topics={}), at("09:00:00"))

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
    plan = make_plan(session(), Observed(topics={}), at("09:00:00"))
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


# ---- what dies, what is not wanted, what changed


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
    world.session = session(participants={"marketMakers": 0, "noiseTraders": 0})

    plan = world.step()

    assert Stop("b3/participants") in plan.actions
    assert world.directory().participants == ("MYBROKER",)
    world.settle()
    assert world.observed.workload("b3/participants") is None


def test_a_changed_source_replaces_only_the_services_that_read_it() -> None:
    world = settled()
    world.session = session(ingestors={"source": "Brapi", "fallback": "Simulated", "symbolsPerReplica": 2})

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
    world.session = session(markets=[{**EQUITIES, "instruments": ["PETR4", "VALE3", "ITUB4", "ABEV3"]}, FRACTIONAL])

    plan = world.step()

    matcher_actions = [action for action in plan.actions if getattr(action, "name", "").startswith("matcher/")]
    assert matcher_actions == [Configure("matcher/equities-1")]
    assert [shard.tickers for shard in world.directory().markets[0].shards] == [("PETR4", "ITUB4"), ("VALE3", "ABEV3")]
    assert world.settle().status.condition("Degraded") == ("False", "NothingWrong")


# ---- what may not change while a market is open


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
    world.session = session(**spec)

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
    world.session = session(
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
    world.session = session(markets=[{**EQUITIES, "shards": 1}, FRACTIONAL])
    plan = world.plan()
    assert plan.actions == ()
    assert plan.status.condition("Degraded") == ("True", "ChangeRefused")


def test_a_closed_market_may_be_removed() -> None:
    world = settled("18:00:00", Phase.CLOSED)
    world.session = session(markets=[EQUITIES])
    plan = world.step()
    assert Stop("matcher/fractional-0") in plan.actions
    assert [market.name for market in entry_published(plan).markets] == ["equities"]


def test_a_market_whose_log_is_not_seen_counts_as_open_while_the_schedule_says_so() -> None:
    world = settled()
    world.observed = replace(world.observed, markets=())
    world.session = session(markets=[EQUITIES])
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


# ---- the desired state


def test_a_halt_reaches_every_open_shard_once_and_is_lifted_only_by_who_asked() -> None:
    world = settled()
    world.session = session(desiredState="Halted")

    halting = world.step()
    assert [action for action in halting.actions if not isinstance(action, PublishDirectory)] == [
        HaltMarket("equities", 0),
        HaltMarket("equities", 1),
        HaltMarket("fractional", 0),
    ]
    assert world.settle().status.phase == "Halted"

    world.session = session()
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
    world.session = session(desiredState="Closed")

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

    world.session = session(**SIMULATED)
    world.settle()
    assert world.directory().clock.speed == 60


def test_a_paused_session_reports_and_does_nothing() -> None:
    world = settled()
    world.session = session(annotations={"markets.mybroker.dev/paused": "true"})
    world.forget("matcher/equities-0")

    plan = world.plan()

    assert plan.actions == ()
    assert plan.status.condition("Paused") == ("True", "PausedByAnnotation")
    assert plan.status.condition("MatchersReady")[0] == "False"


# ---- the day and its clock


def test_a_wall_clock_is_the_wall() -> None:
    world = settled()
    assert world.directory().clock == SessionClock(anchor_wall_ns=0, anchor_session_ns=0, speed=1)
    assert world.session_now_ns() == world.now_ns


def test_a_simulated_clock_is_held_before_pre_open_until_every_matcher_has_its_configuration() -> None:
    world = PlanWorld(session(**SIMULATED), at("03:00:00"), Observed(topics={}))

    first = entry_published(world.step())
    assert (first.clock.speed, format_instant(first.clock.anchor_session_ns)) == (0, "2026-11-23T09:44:59-03:00")

    market = world.observed.market("equities", 1)
    assert market is not None
    world.put_market(replace(market, ready=False))
    world.now_ns += 5 * SECOND_NS
    assert world.plan().actions == (), "one matcher is not ready: the day must not begin"

    world.put_market(replace(market, business_date="2026-11-19"))
    assert world.plan().actions == (), "one matcher is on another day"

    world.put_market(market)
    released = entry_published(world.step())
    assert released.clock == SessionClock(
        anchor_wall_ns=world.now_ns, anchor_session_ns=first.clock.anchor_session_ns, speed=60
    )
    world.now_ns += SECOND_NS
    assert format_instant(world.session_now_ns()) == "2026-11-23T09:45:59-03:00"


def test_after_a_stop_the_clock_goes_on_from_the_highest_tick() -> None:
    world = settled("03:00:00", **SIMULATED)
    highest_ns = at("11:11:11")
    world.now_ns += 3_600 * SECOND_NS
    world.observed = replace(world.observed, clock_stopped=True, highest_tick_ns=None)
    world.put_market(replace(world.observed.markets[0], ready=False))

    stopped = entry_published(world.step())
    assert stopped.clock.speed == 0
    assert world.plan().actions == (), "a matcher still reads its log: how far the day came is not known"
    world.put_market(replace(world.observed.markets[0], ready=True))
    world.observed = replace(world.observed, highest_tick_ns=highest_ns)
    world.step()
    assert world.directory().clock == SessionClock(anchor_wall_ns=world.now_ns, anchor_session_ns=highest_ns, speed=60)


@pytest.mark.parametrize("speed", [0, 1, 600])
def test_an_operators_speed_wins_over_the_manifest_and_no_time_is_lost(speed: int) -> None:
    world = settled("03:00:00", **SIMULATED)
    world.now_ns += 20 * SECOND_NS
    before_ns = world.session_now_ns()
    world.observed = replace(world.observed, clock_speed_override=speed)

    world.settle()

    assert (world.directory().clock.speed, world.session_now_ns()) == (speed, before_ns)
    world.observed = replace(world.observed, clock_speed_override=None)
    world.settle()
    assert (world.directory().clock.speed, world.session_now_ns()) == (60, before_ns)


def test_a_clock_that_an_operator_stepped_is_left_where_it_stands() -> None:
    world = settled("03:00:00", **SIMULATED)
    entry = world.directory()
    stepped = replace(
        entry, clock=SessionClock(anchor_wall_ns=world.now_ns, anchor_session_ns=at("12:00:00"), speed=60)
    )
    world.observed = replace(world.observed, directory=stepped)
    assert world.plan().actions == ()


@pytest.mark.parametrize(
    ("now", "clock", "latched"),
    [
        ("2026-11-22", {}, date(2026, 11, 23)),
        ("2026-11-23", {}, date(2026, 11, 23)),
        ("2026-11-20", SIMULATED, date(2026, 11, 23)),
    ],
)
def test_a_session_without_a_date_latches_the_business_day_it_is_first_seen_on(
    now: str, clock: dict[str, Any], latched: date
) -> None:
    world = PlanWorld(session(date=None, **clock), at("10:00:00", now), Observed(topics={}))
    world.settle()
    assert world.plan().status.business_date == latched
    world.now_ns = at("10:00:00", "2026-12-02")
    assert world.plan().status.business_date == latched, "latched: a later look changes nothing"


def test_a_wall_clock_after_the_close_latches_the_next_business_day() -> None:
    plan = make_plan(session(date=None), Observed(), at("18:00:00"))
    assert plan.status.business_date == date(2026, 11, 24)


def test_a_day_that_is_over_rolls_to_the_next_business_day() -> None:
    world = settled("03:00:00", Phase.CLOSED, roll="NextBusinessDay", **SIMULATED)
    world.closing_price_ticks = {"PETR4": 3_950}
    world.now_ns = world.directory().clock.wall_ns_at(at("18:00:00")) or 0
    assert RollDay(date(2026, 11, 23), date(2026, 11, 24)) not in world.plan().actions, "the logs have not come so far"

    world.all_phases(Phase.CLOSED)
    rolling = world.step()

    assert rolling.actions[0] == RollDay(date(2026, 11, 23), date(2026, 11, 24))
    entry = entry_published(rolling)
    assert (entry.business_date, entry.clock.speed) == ("2026-11-24", 0)
    configuring = world.step()
    assert [action for action in configuring.actions if isinstance(action, Configure)] == [
        Configure("matcher/equities-0"),
        Configure("matcher/equities-1"),
        Configure("matcher/fractional-0"),
    ]
    config = load_market_config(configuring.workload("matcher/equities-0").files[0].content)
    assert [instrument.reference_price_ticks for instrument in config.instruments] == [3_950, 3_800]
    assert [action for action in configuring.actions if isinstance(action, Replace)] == [], "nobody is restarted"
    world.settle()
    assert world.directory().clock.speed == 60
    assert world.plan().status.business_date == date(2026, 11, 24)


@pytest.mark.parametrize(
    ("spec", "phase", "time"),
    [
        ({"roll": "None"}, Phase.CLOSED, "18:00:00"),
        ({"roll": "NextBusinessDay"}, Phase.CLOSED, "17:59:59"),
        ({"roll": "NextBusinessDay"}, Phase.CLOSING_CALL, "18:00:30"),
    ],
)
def test_a_day_does_not_roll_before_its_time_or_unasked(spec: dict[str, Any], phase: Phase, time: str) -> None:
    world = settled(time, phase, **spec)
    assert world.plan().actions == ()
    assert world.plan().status.business_date == date(2026, 11, 23)


def test_one_shard_that_has_not_closed_keeps_the_day() -> None:
    world = settled("18:00:00", Phase.CLOSING_CALL, roll="NextBusinessDay")
    for market in world.observed.markets[:2]:
        world.put_market(replace(market, phase=Phase.CLOSED))
    assert world.plan().actions == ()
    world.all_phases(Phase.CLOSED)
    assert world.plan().actions[0] == RollDay(date(2026, 11, 23), date(2026, 11, 24))


# ---- the status


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


# ---- what processes are told


def test_a_matcher_is_told_its_instruments_schedule_and_rules() -> None:
    plan = make_plan(session(), Observed(), at("09:00:00"))
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
    plan = make_plan(session(), Observed(), at("09:00:00"))
    config = load_market_config(plan.workload("matcher/fractional-0").files[0].content)
    (petr4f,) = config.instruments
    assert (petr4f.ticker, petr4f.asset, petr4f.lot_shares, petr4f.quantity_max_shares) == ("PETR4F", "PETR4", 1, 99)
    assert config.rules.profile == "b3-fractional"


def test_the_sessions_services_are_told_what_is_traded_and_by_whom() -> None:
    plan = make_plan(session(), Observed(), at("09:00:00"))
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
    monday = make_plan(session(), Observed(), at("09:00:00"))
    tuesday = make_plan(session(date="2026-11-24"), Observed(), at("09:00:00"))
    assert monday.workload("b3/surveillance") == tuesday.workload("b3/surveillance")
    assert monday.workload("matcher/equities-0").spec_hash == tuesday.workload("matcher/equities-0").spec_hash
    assert monday.workload("matcher/equities-0").config_hash != tuesday.workload("matcher/equities-0").config_hash
