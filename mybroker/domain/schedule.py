"""A trading day's hours, and the instants at which its phases begin.

Hours are local times of the exchange; instants are nanoseconds since the epoch, UTC. São Paulo is a fixed UTC-3 here:
Brazil gave up daylight saving in 2019, and a fixed offset needs no time zone data, which bare machines and slim images
do not have. Limit: days of the summer times before 2019 are labelled one hour off; nothing but labels depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

from mybroker.domain.phase import Phase

EXCHANGE_TIMEZONE_NAME = "America/Sao_Paulo"
EXCHANGE_TIMEZONE = timezone(timedelta(hours=-3), "-03")

NS_PER_SECOND = 1_000_000_000
MINUTES_PER_DAY = 24 * 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Local times at which the phases of a day begin, in minutes since midnight, strictly rising."""

    pre_open_minutes: int
    open_minutes: int
    closing_call_minutes: int
    close_minutes: int

    def __post_init__(self) -> None:
        times = (self.pre_open_minutes, self.open_minutes, self.closing_call_minutes, self.close_minutes)
        assert times[0] >= 0, f"hours: outside the day, {times}"
        assert times[-1] < MINUTES_PER_DAY, f"hours: outside the day, {times}"
        assert list(times) == sorted(set(times)), f"hours: expected strictly rising times, were {times}"


HOURS_PRESETS: dict[str, Hours] = {
    # Brazil's winter: New York keeps daylight time, so B3 ends an hour earlier.
    "b3-winter": Hours(pre_open_minutes=585, open_minutes=600, closing_call_minutes=1015, close_minutes=1020),
    "b3-summer": Hours(pre_open_minutes=585, open_minutes=600, closing_call_minutes=1075, close_minutes=1080),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySchedule:
    """When a business day enters which phase, in order of time."""

    business_date: date
    changes: tuple[tuple[int, Phase], ...]
    """(instant in ns since the epoch, phase that begins there)."""

    @property
    def starts_at_ns(self) -> int:
        """Return the instant the pre-open begins."""
        return self.changes[0][0]

    @property
    def ends_at_ns(self) -> int:
        """Return the instant the market closes."""
        return self.changes[-1][0]

    def phase_at(self, now_ns: int) -> Phase:
        """Return the phase the schedule is in; closed before the first change. A change counts from its instant on."""
        phase = Phase.CLOSED
        for at_ns, changed in self.changes:
            if now_ns < at_ns:
                break
            phase = changed
        return phase

    def next_change(self, now_ns: int) -> tuple[int, Phase] | None:
        """Return the first change strictly after `now_ns`, or None after the close."""
        for change in self.changes:
            if change[0] > now_ns:
                return change
        return None


def day_schedule(business_date: date, hours: Hours) -> DaySchedule:
    """Return the instants of one day under these hours."""
    return DaySchedule(
        business_date=business_date,
        changes=(
            (local_instant_ns(business_date, hours.pre_open_minutes), Phase.PRE_OPEN),
            (local_instant_ns(business_date, hours.open_minutes), Phase.OPEN),
            (local_instant_ns(business_date, hours.closing_call_minutes), Phase.CLOSING_CALL),
            (local_instant_ns(business_date, hours.close_minutes), Phase.CLOSED),
        ),
    )


def local_instant_ns(day: date, minutes: int) -> int:
    """Return the instant of a local time of the exchange, `minutes` after that day's midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_TIMEZONE)
    seconds = (midnight - _EPOCH) // timedelta(seconds=1)
    return (seconds + minutes * 60) * NS_PER_SECOND


def local_date(at_ns: int) -> date:
    """Return the exchange's calendar date at an instant."""
    return _local_datetime(at_ns).date()


def format_instant(at_ns: int) -> str:
    """Write an instant as RFC 3339 in exchange time, with microseconds only where there are any."""
    return _local_datetime(at_ns).isoformat()


def parse_instant_ns(text: str) -> int | None:
    """Read an RFC 3339 instant (with an offset, to the microsecond); None where it is none."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    if parsed.tzinfo is None or len(text) < len("2026-11-23T10:00Z"):
        return None
    return (parsed - _EPOCH) // timedelta(microseconds=1) * 1_000


def parse_clock_minutes(text: str) -> int | None:
    """Read a local time "09:45" as minutes since midnight; None where it is none."""
    if len(text) != 5 or text[2] != ":" or not (text[:2] + text[3:]).isascii() or not (text[:2] + text[3:]).isdigit():
        return None
    hour, minute = int(text[:2]), int(text[3:])
    return hour * 60 + minute if hour < 24 and minute < 60 else None


def format_clock(minutes: int) -> str:
    """Write minutes since midnight as "09:45"."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _local_datetime(at_ns: int) -> datetime:
    return (_EPOCH + timedelta(microseconds=at_ns // 1_000)).astimezone(EXCHANGE_TIMEZONE)
