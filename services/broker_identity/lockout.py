"""When a login is refused without looking at the password: after failures in a row, for longer each time."""

FAILURES_FREE = 4
"""So many wrong passwords in a row cost nothing."""
LOCK_S_FIRST = 15
LOCK_S_MAX = 900


def lock_seconds(failures: int) -> int:
    """Return for how long a name is locked after its `failures`-th wrong password in a row."""
    if failures <= FAILURES_FREE:
        return 0
    return min(LOCK_S_FIRST << min(failures - FAILURES_FREE - 1, 16), LOCK_S_MAX)
