"""Which fetch tasks fall due: pure.

A source that computes has slots in session time, so that at speed 60 its prices move sixty times as fast; its stride
grows with speed and with the number of tickers, so that the load stays near QUOTES_PER_SECOND_AIM, up to twenty minutes
of session time: a day that is run through in seconds still has its two dozen prices a ticker. A metered source
has slots in wall time, whatever the session's speed. Tickers are staggered over a stride. The planner remembers
nothing but the instant of its last look: a slot is due when it falls between two looks, and on its first look every
ticker's running slot is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mybroker.contracts.directory import SessionClock
from mybroker.contracts.quotes import FetchTask
from mybroker.domain.instrument import asset_of
from mybroker.domain.schedule import NS_PER_SECOND

QUOTES_PER_SECOND_AIM = 2
STRIDE_WALL_SECONDS_MIN = 1
TASK_LIFE_WALL_NS = 5 * NS_PER_SECOND
METERED_TASK_LIFE_WALL_NS = 120 * NS_PER_SECOND
_STRIDES_SECONDS = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 300, 600, 900, 1_200)


def assets_of(tickers: Sequence[str]) -> tuple[str, ...]:
    """Return what has to be asked for: a fractional ticker is quoted at its share's price."""
    return tuple(dict.fromkeys(asset_of(ticker) for ticker in tickers))


def stride_seconds(tickers: int, speed: int) -> int:
    """Return the session seconds between two slots of one ticker."""
    assert tickers > 0 and speed > 0, f"expected tickers and speed above zero, was {tickers} and {speed}"
    wanted = max(STRIDE_WALL_SECONDS_MIN, -(-tickers // QUOTES_PER_SECOND_AIM)) * speed
    return next((stride for stride in _STRIDES_SECONDS if stride >= wanted), _STRIDES_SECONDS[-1])


def computed_tasks(
    *,
    session_key: str,
    source: str,
    tickers: Sequence[str],
    clock: SessionClock,
    after_wall_ns: int | None,
    now_wall_ns: int,
) -> Iterator[FetchTask]:
    """Yield the tasks that fell due after a wall instant, up to now; None: each ticker's running slot."""
    if not tickers or clock.speed == 0:
        return
    stride = stride_seconds(len(tickers), clock.speed)
    now_seconds = clock.now_ns(now_wall_ns) // NS_PER_SECOND
    after_seconds = None if after_wall_ns is None else clock.now_ns(after_wall_ns) // NS_PER_SECOND
    for position, ticker in enumerate(tickers):
        slot = _slot_at_or_before(now_seconds, stride, position * stride // len(tickers))
        if after_seconds is not None and slot <= after_seconds:
            continue
        due_session_ns = slot * NS_PER_SECOND
        due_wall_ns = clock.wall_ns_at(due_session_ns)
        assert due_wall_ns is not None, "a clock with speed knows when an instant comes"
        yield FetchTask(
            session_key=session_key,
            ticker=ticker,
            slot=slot,
            due_wall_ns=due_wall_ns,
            due_session_ns=due_session_ns,
            expires_wall_ns=now_wall_ns + TASK_LIFE_WALL_NS,
            source=source,
        )


def metered_tasks(
    *,
    session_key: str,
    source: str,
    tickers: Sequence[str],
    clock: SessionClock,
    interval_seconds: int,
    after_wall_ns: int | None,
    now_wall_ns: int,
) -> Iterator[FetchTask]:
    """Yield the wall-time tasks that fell due after a wall instant, up to now; None: each ticker's running slot."""
    now_seconds = now_wall_ns // NS_PER_SECOND
    for position, ticker in enumerate(tickers):
        slot = _slot_at_or_before(now_seconds, interval_seconds, position * interval_seconds // len(tickers))
        if after_wall_ns is not None and slot * NS_PER_SECOND <= after_wall_ns:
            continue
        yield FetchTask(
            session_key=session_key,
            ticker=ticker,
            slot=slot,
            due_wall_ns=slot * NS_PER_SECOND,
            due_session_ns=clock.now_ns(now_wall_ns),
            expires_wall_ns=now_wall_ns + METERED_TASK_LIFE_WALL_NS,
            source=source,
        )


def _slot_at_or_before(now_seconds: int, stride: int, offset: int) -> int:
    return (now_seconds - offset) // stride * stride + offset
