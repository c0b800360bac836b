"""A MarketSession's status as it is written: camelCase, absent where not known, times in RFC 3339 UTC to the second.

This is the form of Kubernetes' status subresource and of `--json`. Reading it back gives what a plan needs to remember
nothing: conditions with their transition times, and when the fetchers were last scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mybroker.contracts.market_session import (
    Condition,
    ConditionStatus,
    ConditionType,
    IngestorStatus,
    MarketSessionStatus,
    MarketStatus,
    NextTransition,
)
from mybroker.domain.schedule import NS_PER_SECOND, format_instant, parse_instant_ns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def status_to_mapping(status: MarketSessionStatus) -> dict[str, Any]:
    """Write a status."""
    return _known(
        observedGeneration=status.observed_generation,
        phase=status.phase,
        businessDate=status.business_date.isoformat() if status.business_date else None,
        conditions=[_condition_to_mapping(condition) for condition in status.conditions],
        markets=[_market_to_mapping(market) for market in status.markets],
        ingestors=_ingestors_to_mapping(status.ingestors),
        nextTransition=_transition_to_mapping(status.next_transition) if status.next_transition else None,
    )


def status_from_mapping(written: Mapping[str, Any]) -> MarketSessionStatus:
    """Read a status that `status_to_mapping` wrote; KeyError or ValueError on anything else."""
    day = written.get("businessDate")
    following = written.get("nextTransition")
    return MarketSessionStatus(
        observed_generation=written["observedGeneration"],
        phase=written["phase"],
        business_date=date.fromisoformat(day) if day else None,
        conditions=tuple(_condition_from_mapping(condition) for condition in written["conditions"]),
        markets=tuple(_market_from_mapping(market) for market in written["markets"]),
        ingestors=_ingestors_from_mapping(written["ingestors"]),
        next_transition=_transition_from_mapping(following) if following else None,
    )


def utc_text(at_ns: int) -> str:
    """Write a wall instant as Kubernetes does: "2026-11-23T12:45:00Z"."""
    return (_EPOCH + timedelta(seconds=at_ns // NS_PER_SECOND)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _instant_ns(text: str) -> int:
    at_ns = parse_instant_ns(text)
    if at_ns is None:
        raise ValueError(f"status: expected an instant as 2026-11-23T12:45:00Z, was {text!r}")
    return at_ns


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _condition_to_mapping(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type.value,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": utc_text(condition.last_transition_ns),
    }


def _condition_from_mapping(written: Mapping[str, Any]) -> Condition:
    return Condition(
        type=ConditionType(written["type"]),
        status=ConditionStatus(written["status"]),
        reason=written["reason"],
        message=written["message"],
        observed_generation=written["observedGeneration"],
        last_transition_ns=_instant_ns(written["lastTransitionTime"]),
    )


def _market_to_mapping(market: MarketStatus) -> dict[str, Any]:
    return _known(
        name=market.name,
        shard=market.shard,
        phase=market.phase,
        epoch=market.epoch,
        seq=market.seq,
        snapshotSeq=market.snapshot_seq,
        ready=market.ready,
        message=market.message or None,
    )


def _market_from_mapping(written: Mapping[str, Any]) -> MarketStatus:
    return MarketStatus(
        name=written["name"],
        shard=written["shard"],
        phase=written.get("phase"),
        epoch=written.get("epoch"),
        seq=written.get("seq"),
        snapshot_seq=written.get("snapshotSeq"),
        ready=written["ready"],
        message=written.get("message", ""),
    )


def _ingestors_to_mapping(ingestors: IngestorStatus) -> dict[str, Any]:
    return _known(
        replicas=ingestors.replicas,
        ready=ingestors.ready,
        desired=ingestors.desired,
        reason=ingestors.reason,
        selector=ingestors.selector,
        lag=ingestors.lag,
        scaledAt=utc_text(ingestors.scaled_at_ns),
    )


def _ingestors_from_mapping(written: Mapping[str, Any]) -> IngestorStatus:
    return IngestorStatus(
        replicas=written["replicas"],
        ready=written["ready"],
        desired=written["desired"],
        reason=written["reason"],
        selector=written["selector"],
        lag=written.get("lag"),
        scaled_at_ns=_instant_ns(written["scaledAt"]),
    )


def _transition_to_mapping(transition: NextTransition) -> dict[str, Any]:
    return _known(
        phase=transition.phase,
        at=format_instant(transition.at_session_ns),
        atWall=utc_text(transition.at_wall_ns) if transition.at_wall_ns is not None else None,
    )


def _transition_from_mapping(written: Mapping[str, Any]) -> NextTransition:
    wall = written.get("atWall")
    return NextTransition(
        phase=written["phase"],
        at_session_ns=_instant_ns(written["at"]),
        at_wall_ns=_instant_ns(wall) if wall else None,
    )
