"""Whatever dies, changes or is asked for: the plan settles, and an open market's matcher is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mybroker.domain.phase import Phase
from mybroker.plan.actions import Replace, Start, Stop
from mybroker.testing.plan_world import EQUITIES, FRACTIONAL, SIMULATED, plan_session, settled

SECOND_NS = 1_000_000_000

MANIFESTS: tuple[dict[str, Any], ...] = (
    {},
    {"desiredState": "Halted"},
    {"desiredState": "Closed"},
    {"desiredState": "Scheduled"},
    {"roll": "NextBusinessDay"},
    {"markets": [{**EQUITIES, "shards": 1}, FRACTIONAL]},
    {"markets": [{**EQUITIES, "instruments": ["PETR4", "VALE3", "ITUB4", "ABEV3"], "shards": 4}, FRACTIONAL]},
    {"markets": [EQUITIES]},
    {"markets": [{**EQUITIES, "instruments": ["PETR4", "ABEV3"]}, FRACTIONAL]},
    {"participants": {"noiseTraders": 3, "seed": 9}},
    {"ingestors": {"source": "Brapi", "replicas": 4, "lag": {"threshold": 5}}},
)

happenings = st.one_of(
    st.tuples(st.just("manifest"), st.integers(0, len(MANIFESTS) - 1)),
    st.tuples(st.just("lose"), st.integers(0, 30)),
    st.tuples(st.just("forget"), st.integers(0, 30)),
    st.tuples(st.just("phase"), st.sampled_from([Phase.PRE_OPEN, Phase.OPEN, Phase.HALTED, Phase.CLOSED])),
    st.tuples(st.just("wait_s"), st.sampled_from([1, 30, 120, 3_600])),
    st.tuples(st.just("lag"), st.sampled_from([None, 0, 7, 400])),
    st.tuples(st.just("speed"), st.sampled_from([None, 0, 600])),
    st.tuples(st.just("stopped"), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(happenings, max_size=12))
def test_the_plan_settles_whatever_happens(simulated: bool, story: list[tuple[str, Any]]) -> None:
    clock: dict[str, Any] = SIMULATED if simulated else {}
    world = settled("10:30:00", Phase.OPEN, **clock)
    for what, value in story:
        names = [seen.name for seen in world.observed.workloads]
        match what:
            case "manifest":
                world.session = plan_session(**clock, **MANIFESTS[value])
            case "lose" if names:
                world.lose(names[value % len(names)], restarts=value % 9)
            case "forget" if names:
                world.forget(names[value % len(names)])
            case "phase":
                world.all_phases(value)
            case "wait_s":
                world.now_ns += value * SECOND_NS
            case "lag":
                world.observed = replace(world.observed, fetch_lag=value)
            case "speed":
                world.observed = replace(world.observed, clock_speed_override=value)
            case "stopped":
                world.observed = replace(world.observed, clock_stopped=simulated)
        phases = {f"matcher/{seen.name}-{seen.shard}": seen.phase for seen in world.observed.markets}
        plan = world.plan()
        for action in plan.actions:
            if isinstance(action, Replace | Stop):
                assert phases.get(action.name) in {None, Phase.CLOSED}, f"{action} of a market that is open"
            if isinstance(action, Start):
                assert plan.workload(action.name).name == action.name
        world.settle()
        placed = [t for market in world.directory().markets for shard in market.shards for t in shard.tickers]
        assert len(placed) == len(set(placed)), "a ticker trades in one place"
