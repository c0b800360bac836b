"""How many fetchers there should be.

    desired = clamp(max(replicas, schedule(now), ceil(lag / threshold)), min, min(max, partitions))

The schedule wants a fetcher per so many symbols from the lead time before pre-open to the close. Out at once, in one at
a time; a lag that is not known keeps what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.market_session import Autoscaler, IngestorSpec
from mybroker.domain.money import ceil_div
from mybroker.domain.schedule import NS_PER_SECOND
from mybroker.plan.trading_day import Day

SCALE_IN_EVERY_NS = 60 * NS_PER_SECOND
"""At most one fetcher fewer in so much wall time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestorDecision:
    """The number of fetchers and why; `look_again_at_ns` (wall) where waiting may change it."""

    desired: int
    reason: str
    scaled_at_ns: int
    lag_unknown: bool = False
    look_again_at_ns: int | None = None


def decide_ingestors(
    spec: IngestorSpec,
    day: Day,
    *,
    symbols: int,
    lag: int | None,
    current: int | None,
    scaled_at_ns: int,
    partitions: int,
    now_ns: int,
) -> IngestorDecision:
    """Decide; `current` is what was desired before, None at the first time."""
    ceiling = max(1, min(spec.max_replicas, partitions))
    floor = min(spec.min_replicas, ceiling)
    if spec.autoscaler is Autoscaler.NONE:
        return _settled(min(spec.replicas, partitions), "Exact", current, scaled_at_ns, now_ns)
    if spec.autoscaler is Autoscaler.KEDA:
        kept = floor if current is None else min(max(current, floor), ceiling)
        return _settled(kept, "Keda", current, scaled_at_ns, now_ns)

    by_reason = {"Floor": max(spec.replicas, floor), "Schedule": scheduled_replicas(spec, day, symbols)}
    lag_unknown = spec.lag_threshold is not None and lag is None
    if spec.lag_threshold is not None and lag is not None:
        by_reason["Lag"] = ceil_div(lag, spec.lag_threshold)
    elif lag_unknown and current is not None:
        by_reason["LagUnknown"] = current
    reason = max(by_reason, key=lambda name: by_reason[name])
    wanted = by_reason[reason]
    desired = min(max(wanted, floor), ceiling)
    if desired < wanted:
        reason = "PartitionCap" if partitions < spec.max_replicas else "MaxReplicas"
    look_again_at_ns = None
    running = 0 if current is None else min(current, ceiling)
    if desired < running:
        waited_until_ns = scaled_at_ns + SCALE_IN_EVERY_NS
        held = now_ns < waited_until_ns
        desired = running if held else running - 1
        reason = "ScalingIn"
        look_again_at_ns = waited_until_ns if held else now_ns + SCALE_IN_EVERY_NS
    return IngestorDecision(
        desired=desired,
        reason=reason,
        scaled_at_ns=scaled_at_ns if desired == current else now_ns,
        lag_unknown=lag_unknown,
        look_again_at_ns=look_again_at_ns,
    )


def scheduled_replicas(spec: IngestorSpec, day: Day, symbols: int) -> int:
    """Return what the schedule alone wants."""
    from_ns = scheduled_from_ns(spec, day)
    if from_ns <= day.session_now_ns < day.schedule.ends_at_ns:
        return ceil_div(symbols, spec.symbols_per_replica)
    return spec.min_replicas


def scheduled_from_ns(spec: IngestorSpec, day: Day) -> int:
    """Return the session instant from which the schedule wants its fetchers."""
    return day.schedule.starts_at_ns - spec.lead_time_seconds * NS_PER_SECOND


def _settled(desired: int, reason: str, current: int | None, scaled_at_ns: int, now_ns: int) -> IngestorDecision:
    return IngestorDecision(desired=desired, reason=reason, scaled_at_ns=scaled_at_ns if desired == current else now_ns)
