"""Which day it is, how its clock is held, released, sped up and rolled."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from mybroker.contracts.directory import SessionClock
from mybroker.contracts.market_config import load_market_config
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import format_instant
from mybroker.plan.actions import (
    Configure,
    PublishDirectory,
    Replace,
    RollDay,
)
from mybroker.plan.make_plan import make_plan
from mybroker.plan.observed import Observed
from mybroker.testing.plan_world import (
    SIMULATED,
    PlanWorld,
    at,
    entry_published,
    plan_session,
    settled,
)

SECOND_NS = 1_000_000_000


def test_a_wall_clock_is_the_wall() -> None:
    world = settled()
    assert world.directory().clock == SessionClock(anchor_wall_ns=0, anchor_session_ns=0, speed=1)
    assert world.session_now_ns() == world.now_ns


def test_a_simulated_clock_is_held_before_pre_open_until_every_matcher_has_its_configuration() -> None:
    world = PlanWorld(plan_session(**SIMULATED), at("03:00:00"), Observed(topics={}))

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


def test_a_day_does_not_begin_before_those_who_make_the_market_are_ready() -> None:
    world = PlanWorld(plan_session(**SIMULATED), at("03:00:00"), Observed(topics={}))
    world.step()
    everybody = world.observed.workloads
    late = tuple(replace(seen, ready=False) if seen.name == "broker/gateway" else seen for seen in everybody)

    world.observed = replace(world.observed, workloads=late)
    world.now_ns += 5 * SECOND_NS
    assert not any(isinstance(action, PublishDirectory) for action in world.plan().actions)

    world.observed = replace(world.observed, workloads=everybody)
    assert entry_published(world.step()).clock.speed == 60


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
    world = PlanWorld(plan_session(date=None, **clock), at("10:00:00", now), Observed(topics={}))
    world.settle()
    assert world.plan().status.business_date == latched
    world.now_ns = at("10:00:00", "2026-12-02")
    assert world.plan().status.business_date == latched, "latched: a later look changes nothing"


def test_a_wall_clock_after_the_close_latches_the_next_business_day() -> None:
    plan = make_plan(plan_session(date=None), Observed(), at("18:00:00"))
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
