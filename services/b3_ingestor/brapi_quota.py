"""How often each ticker may be asked, so that a month's requests last the month: pure.

The requests that are left are spread over the trading hours that are left in the month (wall time, whatever the
session's speed), never oftener than the plan refreshes its data. Some are kept back for probes and refused requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from mybroker.domain.calendar import Calendar
from mybroker.domain.schedule import NS_PER_SECOND, local_date, local_instant_ns

MONTHLY_REQUESTS = 15_000
REFRESH_SECONDS = 1_800
RESERVE_PERCENT = 5
OPENS_MINUTES = 10 * 60
CLOSES_MINUTES = 18 * 60
_MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the plan allows."""

    monthly_requests: int = MONTHLY_REQUESTS
    refresh_seconds: int = REFRESH_SECONDS

    def interval_seconds(self, *, tickers: int, used: int, now_ns: int, calendar: Calendar) -> int | None:
        """Return the seconds between two requests for one ticker, whole minutes; None when nothing more may be asked.

        `used` are the requests of the month so far.
        """
        assert tickers > 0, "expected at least one ticker"
        left = self.monthly_requests * (100 - RESERVE_PERCENT) // 100 - used
        trading_seconds = trading_seconds_left(now_ns, calendar)
        if left <= 0 or trading_seconds == 0:
            return None
        needed_seconds = -(-tickers * trading_seconds // left)
        seconds = max(self.refresh_seconds, needed_seconds)
        return -(-seconds // _MINUTE_SECONDS) * _MINUTE_SECONDS


def trading_seconds_left(now_ns: int, calendar: Calendar) -> int:
    """Return the trading seconds from now to the end of the month."""
    today = local_date(now_ns)
    total = 0
    for day in _days_to_month_end(today):
        if not calendar.is_business_day(day):
            continue
        opens_ns, closes_ns = local_instant_ns(day, OPENS_MINUTES), local_instant_ns(day, CLOSES_MINUTES)
        total += max(0, closes_ns - max(opens_ns, now_ns)) // NS_PER_SECOND
    return total


def is_trading_time(now_ns: int, calendar: Calendar) -> bool:
    """Say whether B3's cash market trades, or brapi.dev's delayed data of it still moves, at a wall instant."""
    day = local_date(now_ns)
    return calendar.is_business_day(day) and local_instant_ns(day, OPENS_MINUTES) <= now_ns < local_instant_ns(
        day, CLOSES_MINUTES
    )


def month_key(now_ns: int) -> str:
    """Return the quota's month, as "2026-11", by the exchange's date."""
    return f"{local_date(now_ns):%Y-%m}"


def next_month_ns(now_ns: int) -> int:
    """Return when the next month's requests begin."""
    today = local_date(now_ns)
    first = date(today.year + today.month // 12, today.month % 12 + 1, 1)
    return local_instant_ns(first, 0)


def next_day_ns(now_ns: int) -> int:
    """Return the next local midnight."""
    return local_instant_ns(local_date(now_ns) + timedelta(days=1), 0)


def _days_to_month_end(first: date) -> list[date]:
    days = []
    day = first
    while day.month == first.month:
        days.append(day)
        day += timedelta(days=1)
    return days
