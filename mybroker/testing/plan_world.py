"""A world for tests of the plan: applies a plan's actions to what is observed, as a perfect shell would.

`settled` gives one in which a small session runs; a test then breaks something and looks at the next plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.manifest import parse_manifest
from mybroker.contracts.market_config import load_market_config
from mybroker.contracts.market_session import MarketSession
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import parse_instant_ns
from mybroker.plan.actions import (
    Action,
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
from mybroker.plan.observed import MarketSeen, Observed, WorkloadSeen

SETTLE_STEPS_MAX = 8

SIMULATED: dict[str, Any] = {"clock": {"mode": "Simulated", "speed": 60}}
EQUITIES = {"name": "equities", "instruments": ["PETR4", "VALE3", "ITUB4"], "shards": 2}
FRACTIONAL = {"name": "fractional", "instruments": ["PETR4F"]}


@dataclass(slots=True)
class PlanWorld:
    """The observed world, the wall time, and the manifest in force."""

    session: MarketSession
    now_ns: int
    observed: Observed
    release: str = ""
    closing_price_ticks: dict[str, int] | None = None
    """What a roll latches as reference prices."""

    def plan(self) -> Plan:
        """Make a plan for the world as it is."""
        return make_plan(self.session, self.observed, self.now_ns, release=self.release)

    def step(self) -> Plan:
        """Make a plan, apply it and remember its status; return it."""
        plan = self.plan()
        for action in plan.actions:
            self._apply(plan, action)
        self.observed = replace(self.observed, previous_status=plan.status)
        return plan

    def settle(self) -> Plan:
        """Step until nothing is left to do; return the first plan without actions."""
        for _ in range(SETTLE_STEPS_MAX):
            plan = self.step()
            if not plan.actions:
                return plan
        raise AssertionError(
            f"expected a settled plan within {SETTLE_STEPS_MAX} steps, asked for {self.plan().actions}"
        )

    def lose(self, name: str, *, restarts: int = 0, started_at_ns: int | None = None) -> None:
        """Let a workload die now."""
        seen = self.observed.workload(name)
        assert seen is not None, f"{name} is not there to lose"
        dead = replace(
            seen,
            running=False,
            ready=False,
            restarts=restarts,
            started_at_ns=self.now_ns if started_at_ns is None else started_at_ns,
            exited_at_ns=self.now_ns,
        )
        self.put_workload(dead)

    def forget(self, name: str) -> None:
        """Let a workload vanish without a trace."""
        left = tuple(seen for seen in self.observed.workloads if seen.name != name)
        self.observed = replace(self.observed, workloads=left)

    def put_workload(self, workload: WorkloadSeen) -> None:
        """Show a workload, in its place or as a new one."""
        names = [seen.name for seen in self.observed.workloads]
        workloads = list(self.observed.workloads)
        if workload.name in names:
            workloads[names.index(workload.name)] = workload
        else:
            workloads.append(workload)
        self.observed = replace(self.observed, workloads=tuple(workloads))

    def put_market(self, market: MarketSeen) -> None:
        """Show a shard, in its place or as a new one."""
        others = tuple(seen for seen in self.observed.markets if (seen.name, seen.shard) != (market.name, market.shard))
        markets = sorted((*others, market), key=lambda seen: (seen.name, seen.shard))
        self.observed = replace(self.observed, markets=tuple(markets))

    def all_phases(self, phase: Phase) -> None:
        """Put every shard into a phase, its log as far as session time."""
        markets = tuple(replace(seen, phase=phase, at_ns=self.session_now_ns()) for seen in self.observed.markets)
        self.observed = replace(self.observed, markets=markets)

    def directory(self) -> DirectoryEntry:
        """Return the directory's record, which must be there."""
        assert self.observed.directory is not None
        return self.observed.directory

    def session_now_ns(self) -> int:
        """Return session time by the directory's clock."""
        return self.directory().clock.now_ns(self.now_ns)

    def _apply(self, plan: Plan, action: Action) -> None:
        match action:
            case EnsureTopics(topics=topics):
                partitions = {**(self.observed.topics or {}), **{topic.name: topic.partitions for topic in topics}}
                self.observed = replace(self.observed, topics=partitions)
            case PublishDirectory(entry=entry):
                self.observed = replace(self.observed, directory=entry, clock_stopped=False)
            case RollDay():
                closes = self.closing_price_ticks or {}
                self.observed = replace(self.observed, reference_price_ticks=closes)
            case Start(name=name) | Replace(name=name) | Configure(name=name):
                self._start(plan, name)
            case Stop(name=name):
                self.forget(name)
            case HaltMarket(market=market, shard=shard):
                self._phase(market, shard, Phase.HALTED)
            case ResumeMarket(market=market, shard=shard):
                self._phase(market, shard, Phase.OPEN)
            case CloseMarket(market=market, shard=shard):
                self._phase(market, shard, Phase.CLOSED)

    def _start(self, plan: Plan, name: str) -> None:
        workload = plan.workload(name)
        before = self.observed.workload(name)
        self.put_workload(
            WorkloadSeen(
                name=name,
                spec_hash=workload.spec_hash,
                config_hash=workload.config_hash,
                running=True,
                ready=True,
                restarts=before.restarts + 1 if before and not before.running else 0,
                started_at_ns=self.now_ns,
            )
        )
        if workload.is_matcher:
            config = load_market_config(workload.files[0].content)
            seen = self.observed.market(config.market, config.shard)
            same_day = seen is not None and seen.business_date == config.business_date
            market = seen or MarketSeen(name=config.market, shard=config.shard, epoch=1, seq=0)
            phase = market.phase if same_day else Phase.CLOSED
            self.put_market(replace(market, business_date=config.business_date, ready=True, phase=phase))

    def _phase(self, market: str, shard: int, phase: Phase) -> None:
        seen = self.observed.market(market, shard)
        assert seen is not None
        self.put_market(replace(seen, phase=phase))


def at(time: str, day: str = "2026-11-23") -> int:
    """Return the instant of a local time, "10:00:00", of that day."""
    instant_ns = parse_instant_ns(f"{day}T{time}-03:00")
    assert instant_ns is not None
    return instant_ns


def plan_session(**spec: Any) -> MarketSession:
    """Return a session: a market with two shards, a fractional one, a wall clock; `spec` changes its fields."""
    manifest = {
        "apiVersion": "markets.mybroker.dev/v1alpha1",
        "kind": "MarketSession",
        "metadata": {"name": "pregao", "annotations": spec.pop("annotations", {})},
        "spec": {
            "date": "2026-11-23",
            "markets": [
                EQUITIES,
                FRACTIONAL,
            ],
            "ingestors": {"source": "Simulated", "symbolsPerReplica": 2},
            "participants": {"marketMakers": 1, "noiseTraders": 1, "seed": 7},
            **spec,
        },
    }
    read = parse_manifest(manifest, now_ns=at("08:00:00"))
    assert isinstance(read, MarketSession), [str(error) for error in read]
    return read


def settled(time: str = "10:30:00", phase: Phase = Phase.OPEN, **spec: Any) -> PlanWorld:
    """Return a world in which this session runs and nothing is left to do."""
    world = PlanWorld(plan_session(**spec), at(time), Observed(topics={}))
    world.settle()
    world.all_phases(phase)
    world.settle()
    return world


def entry_published(plan: Plan) -> DirectoryEntry:
    """Return the one directory record a plan publishes."""
    (publish,) = [action for action in plan.actions if isinstance(action, PublishDirectory)]
    return publish.entry
