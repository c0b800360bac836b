"""The plan: what should run and what to do next, from the manifest, what is seen, and the time. Pure.

Level-triggered: nothing here remembers; desired is compared with observed, and a plan made again after its own outcome
asks for nothing. The runner of one machine and the operator of a cluster are two shells around this function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mybroker.contracts.catalogue import Catalogue, shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.market_session import (
    ClockMode,
    DesiredState,
    MarketSession,
    MarketSessionStatus,
    UpdateStrategy,
)
from mybroker.contracts.topics import BROKER_PARTICIPANT, FETCH_TASKS, SHARED_TOPICS, TopicSpec, market_topics
from mybroker.domain.calendar import B3, Calendar
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import NS_PER_SECOND
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
from mybroker.plan.ingestors import IngestorDecision, decide_ingestors, scheduled_from_ns
from mybroker.plan.markets import Placement, market_entry, place_markets
from mybroker.plan.observed import Observed, WorkloadSeen
from mybroker.plan.restarts import restart_not_before_ns
from mybroker.plan.status import StatusInput, make_status
from mybroker.plan.trading_day import WALL_CLOCK, Day, day_of, rolled
from mybroker.plan.workloads import (
    FETCH_FAMILY,
    Workload,
    market_maker_names,
    matcher_name,
    noise_trader_names,
    wanted_workloads,
)

LOOK_AGAIN_UNSETTLED_NS = NS_PER_SECOND
LOOK_AGAIN_MAX_NS = 15 * NS_PER_SECOND
"""A shell looks at least this often, whatever it hears."""

_FETCH_PARTITIONS = next(topic.partitions for topic in SHARED_TOPICS if topic.name == FETCH_TASKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should run, what to do now, what to report, and when to look again at the latest (wall)."""

    workloads: tuple[Workload, ...]
    actions: tuple[Action, ...]
    status: MarketSessionStatus
    look_again_at_ns: int

    def workload(self, name: str) -> Workload:
        """Return a workload by name; a name an action gives is always there (but for Stop)."""
        return next(workload for workload in self.workloads if workload.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkloadActions:
    actions: tuple[Action, ...]
    upgrades_pending: tuple[str, ...]
    waits_until_ns: tuple[int, ...]


def make_plan(
    session: MarketSession,
    observed: Observed,
    now_ns: int,
    *,
    catalogue: Catalogue | None = None,
    calendar: Calendar = B3,
    release: str = "",
) -> Plan:
    """Return the plan at wall instant `now_ns`.

    `catalogue` (default: the shipped one) gives the instruments, `release` names the code that new processes run.
    """
    day = day_of(session, observed, now_ns, calendar)
    placement = place_markets(
        session, observed.directory, catalogue or shipped_catalogue(), lambda name: _is_open(name, day, observed)
    )
    refusals = placement.refusals + _refusals(session, day, observed)
    if any("spec.clock.mode" in refusal for refusal in refusals):
        assert observed.directory is not None
        clock = observed.directory.clock
        day = replace(day, clock=clock, session_now_ns=clock.now_ns(now_ns))
    following = rolled(session, day, observed, now_ns, calendar)
    ingestors = _ingestors(session, placement, day, observed, now_ns)
    workloads = wanted_workloads(session, placement.markets, day, observed, fetchers=ingestors.desired, release=release)
    topics = SHARED_TOPICS + _market_topics(session, placement)
    missing = _missing(topics, observed)
    steps = _workload_actions(session, workloads, placement, day, observed, now_ns)
    actions: tuple[Action, ...] = (EnsureTopics(missing),) if missing else ()
    actions += _market_actions(session, day, observed)
    if following is not None:
        actions += (RollDay(day.business_date, following.business_date),)
    actions += _directory_actions(session, placement, following or day, observed)
    actions += steps.actions
    status = make_status(
        StatusInput(
            session=session,
            observed=observed,
            day=day,
            placements=placement.markets,
            workloads=workloads,
            ingestors=ingestors,
            topics_missing=missing,
            refusals=refusals,
            upgrades_pending=steps.upgrades_pending,
            partitions=_FETCH_PARTITIONS,
            now_ns=now_ns,
        )
    )
    return Plan(
        workloads=workloads,
        actions=() if session.paused else actions,
        status=status,
        look_again_at_ns=_look_again_at_ns(session, day, ingestors, steps, status, now_ns),
    )


def _is_open(market: str, day: Day, observed: Observed) -> bool:
    """Say whether a market may be trading: by its log, or by the schedule where its log is not seen."""
    shards = observed.shards_of(market)
    if any(seen.phase not in (None, Phase.CLOSED) for seen in shards):
        return True
    if shards and all(seen.phase is Phase.CLOSED for seen in shards):
        return False
    return day.scheduled_phase is not Phase.CLOSED


def _refusals(session: MarketSession, day: Day, observed: Observed) -> tuple[str, ...]:
    directory = observed.directory
    if directory is None or not any(_is_open(market.name, day, observed) for market in directory.markets):
        return ()
    refusals: list[str] = []
    wanted = session.spec.date
    if wanted is not None and wanted > day.business_date:
        refusals.append(f"spec.date: expected {day.business_date} while a market is open, was {wanted}")
    if session.spec.clock.mode is ClockMode.WALL and directory.clock != WALL_CLOCK:
        refusals.append("spec.clock.mode: expected Simulated while a market is open, was Wall")
    return tuple(refusals)


def _ingestors(
    session: MarketSession, placement: Placement, day: Day, observed: Observed, now_ns: int
) -> IngestorDecision:
    assets = {instrument.asset for market in placement.markets for instrument in market.instruments}
    previous = observed.previous_status.ingestors if observed.previous_status else None
    running = sum(seen.name.startswith(FETCH_FAMILY) for seen in observed.workloads) or None
    return decide_ingestors(
        session.spec.ingestors,
        day,
        symbols=len(assets),
        lag=observed.fetch_lag,
        current=previous.desired if previous else running,
        scaled_at_ns=previous.scaled_at_ns if previous else now_ns,
        partitions=_FETCH_PARTITIONS,
        now_ns=now_ns,
    )


def _market_topics(session: MarketSession, placement: Placement) -> tuple[TopicSpec, ...]:
    return tuple(
        topic
        for market in placement.markets
        for topic in market_topics(session.namespace, session.name, market.name, len(market.tickers_by_shard))
    )


def _missing(topics: tuple[TopicSpec, ...], observed: Observed) -> tuple[TopicSpec, ...]:
    if observed.topics is None:
        return ()
    partitions = observed.topics
    return tuple(topic for topic in topics if partitions.get(topic.name, 0) < topic.partitions)


def _market_actions(session: MarketSession, day: Day, observed: Observed) -> tuple[Action, ...]:
    """Return what the manifest's desired state asks of the logs. Only a halt that was asked for here is lifted here."""
    desired = session.spec.desired_state
    today = day.business_date.isoformat()
    actions: list[Action] = []
    was_halted = observed.directory is not None and observed.directory.desired_state == DesiredState.HALTED
    for seen in observed.markets:
        if seen.phase is None or seen.business_date != today or seen.phase is Phase.CLOSED:
            continue
        if desired is DesiredState.HALTED and seen.phase is not Phase.HALTED:
            actions.append(HaltMarket(seen.name, seen.shard, why="desiredState is Halted"))
        elif desired is DesiredState.CLOSED:
            actions.append(CloseMarket(seen.name, seen.shard, why="desiredState is Closed"))
        elif desired is DesiredState.OPEN and was_halted and seen.phase is Phase.HALTED:
            actions.append(ResumeMarket(seen.name, seen.shard, why="desiredState is Open again"))
    return tuple(actions)


def _directory_actions(
    session: MarketSession, placement: Placement, day: Day, observed: Observed
) -> tuple[Action, ...]:
    seen = observed.directory
    entry = DirectoryEntry(
        namespace=session.namespace,
        session=session.name,
        revision=seen.revision if seen else 0,
        business_date=day.business_date.isoformat(),
        desired_state=session.spec.desired_state.value,
        clock=day.clock,
        markets=tuple(market_entry(session, market) for market in placement.markets) + placement.kept,
        participants=(BROKER_PARTICIPANT, *market_maker_names(session), *noise_trader_names(session)),
    )
    if entry == seen:
        return ()
    why = "the session is new" if seen is None else _difference(seen, entry)
    return (PublishDirectory(replace(entry, revision=entry.revision + 1), why=why),)


def _difference(seen: DirectoryEntry, entry: DirectoryEntry) -> str:
    names = ("business_date", "desired_state", "clock", "markets", "participants")
    return ", ".join(name for name in names if getattr(seen, name) != getattr(entry, name)) + " changed"


def _workload_actions(
    session: MarketSession,
    workloads: tuple[Workload, ...],
    placement: Placement,
    day: Day,
    observed: Observed,
    now_ns: int,
) -> _WorkloadActions:
    wanted = {workload.name for workload in workloads}
    kept = {matcher_name(entry.name, shard.shard) for entry in placement.kept for shard in entry.shards}
    actions: list[Action] = [
        Stop(seen.name, why="no longer wanted") for seen in observed.workloads if seen.name not in wanted | kept
    ]
    pending: list[str] = []
    waits: list[int] = []
    for workload in workloads:
        found = observed.workload(workload.name)
        if found is None:
            actions.append(Start(workload.name, why="not there"))
        elif not found.running:
            not_before_ns = _restart_not_before_ns(found)
            if now_ns >= not_before_ns:
                actions.append(Start(workload.name, why=f"ended, restart {found.restarts + 1}"))
            else:
                waits.append(not_before_ns)
        elif found.spec_hash != workload.spec_hash and _may_update(session, workload, day, observed):
            actions.append(Replace(workload.name, why="its specification changed"))
        else:
            # Also while an update waits: the running matcher must hear of a new ticker or day all the same.
            if found.spec_hash != workload.spec_hash:
                pending.append(workload.name)
            if found.config_hash != workload.config_hash:
                actions.append(Configure(workload.name, why="its configuration changed"))
    return _WorkloadActions(actions=tuple(actions), upgrades_pending=tuple(pending), waits_until_ns=tuple(waits))


def _restart_not_before_ns(seen: WorkloadSeen) -> int:
    if seen.exited_at_ns is None:
        return seen.started_at_ns
    return restart_not_before_ns(seen.restarts, started_at_ns=seen.started_at_ns, exited_at_ns=seen.exited_at_ns)


def _may_update(session: MarketSession, workload: Workload, day: Day, observed: Observed) -> bool:
    if not workload.is_matcher:
        return True
    match session.spec.update_strategy:
        case UpdateStrategy.IMMEDIATE:
            return True
        case UpdateStrategy.SUPERVISED:
            return observed.update_approved
        case UpdateStrategy.WHEN_CLOSED:
            return not _is_open(dict(workload.env)["MYBROKER_MARKET"], day, observed)


def _look_again_at_ns(
    session: MarketSession,
    day: Day,
    ingestors: IngestorDecision,
    steps: _WorkloadActions,
    status: MarketSessionStatus,
    now_ns: int,
) -> int:
    settled = status.condition("Ready")[0] == "True"
    candidates = [now_ns + (LOOK_AGAIN_MAX_NS if settled else LOOK_AGAIN_UNSETTLED_NS), *steps.waits_until_ns]
    if ingestors.look_again_at_ns is not None:
        candidates.append(ingestors.look_again_at_ns)
    session_instants = [scheduled_from_ns(session.spec.ingestors, day)]
    session_instants += [at_ns for at_ns, _ in day.schedule.changes]
    for at_ns in session_instants:
        wall_ns = day.clock.wall_ns_at(at_ns)
        if at_ns > day.session_now_ns and wall_ns is not None:
            candidates.append(wall_ns)
    return max(now_ns, min(candidates))
