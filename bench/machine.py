"""What the machine is and how busy: a figure without them says little.

`Busy` tells our processes' CPU time from everyone else's over a span: a measurement beside others' work says so.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

MS_PER_SECOND = 1_000
LOAD_QUIET_MAX = 4.0
CPU_NAME = "model name"


def facts() -> dict[str, int | str]:
    """Return what a reader needs to know of the machine."""
    return {
        "cores": os.cpu_count() or 1,
        "cpu": cpu_name(),
        "memory_mb": psutil.virtual_memory().total // (1 << 20),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1_min": f"{os.getloadavg()[0]:.1f}",
    }


def cpu_name() -> str:
    """Return the processor's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(CPU_NAME)), "unknown")


def is_quiet() -> bool:
    """Say whether the machine was about idle over the last minute."""
    return os.getloadavg()[0] <= LOAD_QUIET_MAX


def busy_ms() -> int:
    """Return the CPU time all processes of the machine have used, in milliseconds."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    return round((sum(times[:_COUNTED]) - idle) * MS_PER_SECOND)


# guest times, where the kernel tells them, are part of user time already.
_COUNTED = len([name for name in psutil.cpu_times()._fields if not name.startswith("guest")])


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuShare:
    """One program's CPU time over a span."""

    name: str
    used_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSpan:
    """What was used between two looks: our programs, the most first, and the rest of the machine."""

    took_ms: int
    shares: tuple[CpuShare, ...]
    others_ms: int

    def percent_of_core(self, used_ms: int) -> int:
        """Return a CPU time as percent of one core over the span."""
        return used_ms * 100 // self.took_ms if self.took_ms else 0


def cpu_span(before: dict[str, int], after: dict[str, int], *, took_ms: int, machine_ms: int) -> CpuSpan:
    """Return what programs (name to CPU milliseconds) used between two looks.

    A program that was started again counts from zero: what its former process used since the first look is lost.
    """
    used: dict[str, int] = {}
    for name, now_ms in after.items():
        then_ms = before.get(name, 0)
        used[name] = now_ms - then_ms if now_ms >= then_ms else now_ms
    shares = sorted((CpuShare(name=name, used_ms=ms) for name, ms in used.items()), key=lambda share: -share.used_ms)
    others_ms = max(0, machine_ms - sum(used.values()))
    return CpuSpan(took_ms=took_ms, shares=tuple(shares), others_ms=others_ms)


def first_to_saturate(span: CpuSpan, cores: int) -> str:
    """Name what ran out first over a span in which the offered rate was not carried.

    A program that has all of one core cannot do more, being one thread where it matters; otherwise, where the cores
    were all busy, it is the machine, and the greatest users are named; otherwise something waited for something.
    """
    full_core_percent, full_machine_percent, others_percent_told = 90, 92, 25
    greatest = [f"{share.name} {span.percent_of_core(share.used_ms)} %" for share in span.shares[:3]]
    others_percent = span.percent_of_core(span.others_ms)
    if others_percent >= others_percent_told:
        greatest.insert(0, f"programs that are not ours {others_percent} %")
    if span.shares and span.percent_of_core(span.shares[0].used_ms) >= full_core_percent:
        return f"one core of {span.shares[0].name}"
    total_ms = span.others_ms + sum(share.used_ms for share in span.shares)
    if span.percent_of_core(total_ms) >= full_machine_percent * cores:
        return f"the machine's {cores} cores, most of it {', '.join(greatest)} of a core"
    return f"not the processor: waiting; most of it was used by {', '.join(greatest)} of a core"
