"""When a process that ended may be started again. Pure; the counters are the shell's.

The first restarts are immediate, because a killed matcher must trade again within two seconds; one that keeps ending
waits longer and longer, up to a small limit, so that it costs little and heals by itself.
"""

from __future__ import annotations

NS_PER_MS = 1_000_000

RESTART_DELAYS_MS = (0, 0, 0, 250, 500, 1_000, 2_000, 5_000)
"""The wait before restart 1, 2, 3 …; the last holds from there on."""

STABLE_RUN_MS = 10_000
"""A process that ran this long was well: its next restart counts as the first."""


def restarts_after_exit(restarts: int, *, started_at_ns: int, exited_at_ns: int) -> int:
    """Return the count of restarts to carry on with, once a process has ended."""
    return 0 if exited_at_ns - started_at_ns >= STABLE_RUN_MS * NS_PER_MS else restarts


def restart_not_before_ns(restarts: int, *, started_at_ns: int, exited_at_ns: int) -> int:
    """Return the wall instant from which a process that was restarted `restarts` times may be started again."""
    counted = restarts_after_exit(restarts, started_at_ns=started_at_ns, exited_at_ns=exited_at_ns)
    delay_ms = RESTART_DELAYS_MS[min(counted, len(RESTART_DELAYS_MS) - 1)]
    return exited_at_ns + delay_ms * NS_PER_MS
