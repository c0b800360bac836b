"""How many fetchers the plan wants: the formula, its limits, and slowly in."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mybroker.contracts.market_session import Autoscaler, IngestorSpec
from mybroker.domain.schedule import HOURS_PRESETS, day_schedule, parse_instant_ns
from mybroker.plan.ingestors import SCALE_IN_EVERY_NS, IngestorDecision, decide_ingestors
from mybroker.plan.trading_day import WALL_CLOCK, Day

MONDAY = date(2026, 11, 23)


def at(time: str) -> int:
    return parse_instant_ns(f"2026-11-23T{time}-03:00") or 0


def decide(time: str = "10:30:00", **given: Any) -> IngestorDecision:
    """Decide for 40 symbols at 20 a replica, unless told otherwise."""
    spec = IngestorSpec(**given.pop("spec", {}))
    now_ns = at(time)
    schedule = day_schedule(MONDAY, HOURS_PRESETS["b3-summer"])
    day = Day(business_date=MONDAY, schedule=schedule, clock=WALL_CLOCK, session_now_ns=now_ns)
    arguments: dict[str, Any] = {
        "symbols": 40,
        "lag": None,
        "current": None,
        "scaled_at_ns": 0,
        "partitions": 6,
        "now_ns": now_ns,
        **given,
    }
    return decide_ingestors(spec, day, **arguments)


@pytest.mark.parametrize(
    ("time", "desired"),
    [("09:34:59", 1), ("09:35:00", 2), ("10:30:00", 2), ("17:59:59", 2), ("18:00:00", 1)],
)
def test_the_schedule_wants_its_fetchers_from_the_lead_time_to_the_close(time: str, desired: int) -> None:
    assert decide(time).desired == desired


CASES: list[tuple[dict[str, Any], int, str]] = [
    ({"symbols": 41}, 3, "Schedule"),
    ({"symbols": 1}, 1, "Floor"),
    ({"spec": {"replicas": 4}}, 4, "Floor"),
    ({"spec": {"min_replicas": 3}}, 3, "Floor"),
    ({"spec": {"lag_threshold": 20}, "lag": 81}, 5, "Lag"),
    ({"spec": {"lag_threshold": 20}, "lag": 0}, 2, "Schedule"),
    ({"spec": {"lag_threshold": 20}, "lag": 500}, 6, "MaxReplicas"),
    ({"spec": {"lag_threshold": 20, "max_replicas": 12}, "lag": 500}, 6, "PartitionCap"),
    ({"spec": {"lag_threshold": 20}, "lag": None, "current": 5}, 5, "LagUnknown"),
    ({"spec": {"lag_threshold": 20}, "lag": None, "current": None}, 2, "Schedule"),
    ({"lag": 500}, 2, "Schedule"),
    ({"spec": {"autoscaler": Autoscaler.NONE, "replicas": 5}, "current": 1}, 5, "Exact"),
    ({"spec": {"autoscaler": Autoscaler.NONE, "replicas": 0}, "current": 3}, 0, "Exact"),
    ({"spec": {"autoscaler": Autoscaler.KEDA, "lag_threshold": 20}, "lag": 500, "current": 3}, 3, "Keda"),
    ({"spec": {"autoscaler": Autoscaler.KEDA, "lag_threshold": 20, "min_replicas": 2}, "current": None}, 2, "Keda"),
]


@pytest.mark.parametrize(("given", "desired", "reason"), CASES)
def test_the_most_that_anyone_wants_within_the_limits(given: dict[str, Any], desired: int, reason: str) -> None:
    decision = decide(**given)
    assert (decision.desired, decision.reason) == (desired, reason)


def test_a_lag_that_is_not_known_is_said_only_where_it_is_needed() -> None:
    assert decide(spec={"lag_threshold": 20}, lag=None, current=2).lag_unknown
    assert not decide(spec={"lag_threshold": 20}, lag=3, current=2).lag_unknown
    assert not decide(lag=None, current=2).lag_unknown


def test_out_at_once() -> None:
    decision = decide(spec={"lag_threshold": 20}, lag=120, current=1, scaled_at_ns=at("10:30:00") - 1)
    assert (decision.desired, decision.scaled_at_ns) == (6, at("10:30:00"))


def test_in_one_at_a_time_and_not_before_a_minute_has_passed() -> None:
    now_ns = at("10:30:00")
    early = decide(current=6, scaled_at_ns=now_ns - SCALE_IN_EVERY_NS + 1)
    assert (early.desired, early.reason, early.look_again_at_ns) == (6, "ScalingIn", now_ns + 1)
    assert early.scaled_at_ns == now_ns - SCALE_IN_EVERY_NS + 1

    due = decide(current=6, scaled_at_ns=now_ns - SCALE_IN_EVERY_NS)
    assert (due.desired, due.scaled_at_ns, due.look_again_at_ns) == (5, now_ns, now_ns + SCALE_IN_EVERY_NS)


def test_a_lower_maximum_applies_at_once() -> None:
    assert decide(spec={"max_replicas": 3}, current=6, scaled_at_ns=at("10:30:00")).desired == 3
