"""The status: conditions for programs, one word for people, numbers per shard. Derived anew each time.

A condition's last transition moves only when its status flips; everything else comes from what is seen now.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.market_session import (
    Condition,
    ConditionStatus,
    ConditionType,
    DesiredState,
    IngestorStatus,
    MarketSession,
    MarketSessionStatus,
    MarketStatus,
    NextTransition,
)
from mybroker.contracts.topics import TopicSpec
from mybroker.domain.phase import Phase
from mybroker.plan.ingestors import IngestorDecision
from mybroker.plan.markets import STATES_WITH_A_SCHEDULE, MarketPlacement
from mybroker.plan.observed import Observed
from mybroker.plan.trading_day import Day
from mybroker.plan.workloads import FETCH_FAMILY, Workload, WorkloadGroup, matcher_name

SELECTOR = "markets.mybroker.dev/session={session},markets.mybroker.dev/family=ingestor-fetch"

PHASE_WORDS: tuple[tuple[Phase, str], ...] = (
    (Phase.OPEN, "Open"),
    (Phase.AUCTION, "Auction"),
    (Phase.CLOSING_CALL, "ClosingCall"),
    (Phase.PRE_OPEN, "PreOpen"),
    (Phase.AFTER_MARKET, "AfterMarket"),
    (Phase.CANCEL_ONLY, "CancelOnly"),
    (Phase.HALTED, "Halted"),
    (Phase.CLOSED, "Closed"),
)
"""The word of a phase; where shards differ, the first in this list stands for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInput:
    """Everything the plan has decided that a status speaks of."""

    session: MarketSession
    observed: Observed
    day: Day
    placements: tuple[MarketPlacement, ...]
    workloads: tuple[Workload, ...]
    ingestors: IngestorDecision
    topics_missing: tuple[TopicSpec, ...]
    refusals: tuple[str, ...]
    upgrades_pending: tuple[str, ...]
    partitions: int
    now_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    status: ConditionStatus
    reason: str
    message: str = ""


def make_status(given: StatusInput) -> MarketSessionStatus:
    """Return the status to report."""
    markets = _markets(given)
    verdicts = _verdicts(given, markets)
    generation = given.session.generation
    return MarketSessionStatus(
        observed_generation=generation,
        phase=_phase_word(given, markets),
        business_date=given.day.business_date,
        conditions=tuple(_condition(given, kind, verdicts[kind]) for kind in ConditionType),
        markets=markets,
        ingestors=_ingestor_status(given),
        next_transition=_next_transition(given),
    )


def _condition(given: StatusInput, kind: ConditionType, verdict: _Verdict) -> Condition:
    before = given.observed.previous_status.find(kind) if given.observed.previous_status else None
    unmoved = before is not None and before.status is verdict.status
    return Condition(
        type=kind,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message,
        observed_generation=given.session.generation,
        last_transition_ns=before.last_transition_ns if before is not None and unmoved else given.now_ns,
    )


def _verdicts(given: StatusInput, markets: tuple[MarketStatus, ...]) -> dict[ConditionType, _Verdict]:
    matchers = _matchers_verdict(given, markets)
    topics = _topics_verdict(given)
    return {
        ConditionType.READY: _ready_verdict(given, matchers, topics),
        ConditionType.MATCHERS_READY: matchers,
        ConditionType.INGESTORS_SCALED: _ingestors_verdict(given),
        ConditionType.TOPICS_READY: topics,
        ConditionType.LAG_KNOWN: _lag_verdict(given),
        ConditionType.PAUSED: _flag(given.session.paused, "PausedByAnnotation", "NotPaused"),
        ConditionType.DEGRADED: _degraded_verdict(given, markets),
        ConditionType.UPGRADE_PENDING: _flag(
            bool(given.upgrades_pending), "MarketOpen", "UpToDate", ", ".join(given.upgrades_pending)
        ),
    }


def _flag(value: bool, reason_true: str, reason_false: str, message: str = "") -> _Verdict:
    if value:
        return _Verdict(status=ConditionStatus.TRUE, reason=reason_true, message=message)
    return _Verdict(status=ConditionStatus.FALSE, reason=reason_false)


def _false(reason: str, message: str) -> _Verdict:
    return _Verdict(status=ConditionStatus.FALSE, reason=reason, message=message)


def _true(reason: str, message: str = "") -> _Verdict:
    return _Verdict(status=ConditionStatus.TRUE, reason=reason, message=message)


def _ready_verdict(given: StatusInput, matchers: _Verdict, topics: _Verdict) -> _Verdict:
    if topics.status is not ConditionStatus.TRUE:
        return _false(topics.reason, topics.message)
    if matchers.status is not ConditionStatus.TRUE:
        return _false(matchers.reason, matchers.message)
    down = [
        workload.name
        for workload in given.workloads
        if workload.group is WorkloadGroup.ALWAYS_ON and not _is_ready(given, workload.name)
    ]
    if down:
        return _false("ServiceNotReady", ", ".join(down))
    return _true("AllReady")


def _matchers_verdict(given: StatusInput, markets: tuple[MarketStatus, ...]) -> _Verdict:
    waiting = [market for market in markets if not market.ready]
    if not waiting:
        return _true("AllReady")
    names = [matcher_name(market.name, market.shard) for market in waiting]
    dead = [name for name in names if not _is_running(given, name)]
    if not dead:
        return _false("MatcherRecovering", ", ".join(names))
    ran_before = any(market.epoch is not None for market in waiting) or _has_begun(given.observed)
    return _false("MatcherRestarting" if ran_before else "MatcherStarting", ", ".join(dead))


def _has_begun(observed: Observed) -> bool:
    """Say whether the session's clock has ever run: only then was every matcher there once."""
    return observed.directory is not None and observed.directory.clock.speed != 0


def _topics_verdict(given: StatusInput) -> _Verdict:
    if given.observed.topics is None:
        return _Verdict(status=ConditionStatus.UNKNOWN, reason="TopicsNotSeen", message="the brokers do not answer")
    if given.topics_missing:
        return _false("TopicsMissing", ", ".join(topic.name for topic in given.topics_missing))
    return _true("AllThere")


def _ingestors_verdict(given: StatusInput) -> _Verdict:
    wanted = given.ingestors.desired
    ready = _ready_fetchers(given)
    message = f"{ready} of {wanted} ready ({given.ingestors.reason})"
    if given.ingestors.reason == "PartitionCap":
        return _false("PartitionCap", f"{message}; the task topic has {given.partitions} partitions")
    return _true("AsWanted", message) if ready >= wanted else _false("Scaling", message)


def _lag_verdict(given: StatusInput) -> _Verdict:
    if given.session.spec.ingestors.lag_threshold is None:
        return _true("NotNeeded")
    if given.ingestors.lag_unknown:
        return _false("LagUnknown", f"{given.ingestors.desired} fetchers kept until it is known")
    return _true("Measured")


def _degraded_verdict(given: StatusInput, markets: tuple[MarketStatus, ...]) -> _Verdict:
    if given.refusals:
        return _Verdict(status=ConditionStatus.TRUE, reason="ChangeRefused", message="; ".join(given.refusals))
    alarms = [f"{market.name}-{market.shard}: {market.message}" for market in markets if market.message]
    return _flag(bool(alarms), "MarketAlarm", "NothingWrong", "; ".join(alarms))


def _markets(given: StatusInput) -> tuple[MarketStatus, ...]:
    statuses: list[MarketStatus] = []
    for placement in given.placements:
        for shard in range(len(placement.tickers_by_shard)):
            seen = given.observed.market(placement.name, shard)
            ready = seen is not None and seen.ready and _is_ready(given, matcher_name(placement.name, shard))
            statuses.append(
                MarketStatus(
                    name=placement.name,
                    shard=shard,
                    phase=seen.phase.value if seen and seen.phase else None,
                    epoch=seen.epoch if seen else None,
                    seq=seen.seq if seen else None,
                    snapshot_seq=seen.snapshot_seq if seen else None,
                    ready=ready,
                    message=seen.message if seen else "",
                )
            )
    return tuple(statuses)


def _is_running(given: StatusInput, name: str) -> bool:
    seen = given.observed.workload(name)
    return seen is not None and seen.running


def _is_ready(given: StatusInput, name: str) -> bool:
    seen = given.observed.workload(name)
    return seen is not None and seen.running and seen.ready


def _ready_fetchers(given: StatusInput) -> int:
    names = [workload.name for workload in given.workloads if workload.family == FETCH_FAMILY]
    return sum(_is_ready(given, name) for name in names)


def _ingestor_status(given: StatusInput) -> IngestorStatus:
    return IngestorStatus(
        replicas=sum(seen.running and seen.name.startswith(FETCH_FAMILY) for seen in given.observed.workloads),
        ready=_ready_fetchers(given),
        desired=given.ingestors.desired,
        reason=given.ingestors.reason,
        selector=SELECTOR.format(session=given.session.name),
        lag=given.observed.fetch_lag,
        scaled_at_ns=given.ingestors.scaled_at_ns,
    )


def _phase_word(given: StatusInput, markets: tuple[MarketStatus, ...]) -> str:
    phases = {market.phase for market in markets if market.phase is not None}
    if not phases:
        return "Pending"
    word = next(word for phase, word in PHASE_WORDS if phase.value in phases)
    before_the_day = given.day.session_now_ns < given.day.schedule.ends_at_ns
    if word == "Closed" and before_the_day and given.session.spec.desired_state is not DesiredState.CLOSED:
        return "Scheduled"
    return word


def _next_transition(given: StatusInput) -> NextTransition | None:
    if given.session.spec.desired_state not in STATES_WITH_A_SCHEDULE:
        return None
    change = given.day.schedule.next_change(given.day.session_now_ns)
    if change is None:
        return None
    at_ns, phase = change
    return NextTransition(
        phase=dict(PHASE_WORDS)[phase], at_session_ns=at_ns, at_wall_ns=given.day.clock.wall_ns_at(at_ns)
    )
