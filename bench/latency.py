"""Percentiles of latencies, by nearest rank: a figure is always a latency that was measured, never a mean of two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NS_PER_MS = 1_000_000


def percentile(ordered: list[int], percent: int) -> int:
    """Return the smallest value that at least `percent` (1 to 100) of the ascending values do not exceed."""
    assert ordered, "expected at least one value"
    assert 1 <= percent <= 100, f"expected 1 to 100 percent, was {percent}"
    rank = -(-len(ordered) * percent // 100)
    return ordered[rank - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What a set of latencies comes to."""

    count: int
    p50_ns: int
    p99_ns: int
    max_ns: int


def summarise(values_ns: Iterable[int]) -> Latencies | None:
    """Return the figures of some latencies; None where there are none."""
    ordered = sorted(values_ns)
    if not ordered:
        return None
    return Latencies(
        count=len(ordered), p50_ns=percentile(ordered, 50), p99_ns=percentile(ordered, 99), max_ns=ordered[-1]
    )


def ms_text(value_ns: int) -> str:
    """Write a duration in milliseconds with one decimal, rounded half up."""
    tenths = (value_ns * 10 + NS_PER_MS // 2) // NS_PER_MS
    return f"{tenths // 10}.{tenths % 10}"


def p50_text(latencies: Latencies | None) -> str | None:
    """Write the median in milliseconds; None where nothing was measured."""
    return None if latencies is None else ms_text(latencies.p50_ns)


def p99_text(latencies: Latencies | None) -> str | None:
    """Write the 99th percentile in milliseconds; None where nothing was measured."""
    return None if latencies is None else ms_text(latencies.p99_ns)
