"""The days on which B3 trades.

Holidays are computed: the movable feasts from Easter, the fixed national dates from the year, the city's dates for as
long as the exchange kept them, and the two days the exchange itself stays closed (24 December and the last weekday of
the year). What was decided for one year only stands in AD_HOC_OPEN and AD_HOC_CLOSED. A calendar file ("2026-11-20",
one date a line, as ANBIMA's and B3's tables are kept; "#" starts a comment, the weekend's names may stand on top)
replaces the computation for the years it covers.

Limits: half days (Ash Wednesday opens at 13:00) are whole days here. Years before 2000 are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

YEAR_MIN = 2000
"""The first year the rules below were checked against."""

SEARCH_DAYS_MAX = 60
"""A calendar that leaves no business day in so many days is wrong, not long."""

SETTLEMENT_BUSINESS_DAYS = 2

AD_HOC_CLOSED = frozenset(
    {
        date(2014, 6, 12),  # opening match of the World Cup, in the exchange's city
    }
)
AD_HOC_OPEN = frozenset(
    {
        date(2020, 7, 9),  # in 2020 the city and the state moved both holidays to May
        date(2020, 11, 20),
    }
)

_NATIONAL_FIXED = ((1, 1), (4, 21), (5, 1), (9, 7), (10, 12), (11, 2), (11, 15), (12, 25))
_CITY_FIXED = ((1, 25), (7, 9))
_CITY_LAST_YEAR = 2021
_CONSCIENCE_DAY = (11, 20)
_CONSCIENCE_CITY_YEARS = range(2004, 2022)
_CONSCIENCE_NATIONAL_FROM = 2024
_SATURDAY = 5


def easter_sunday(year: int) -> date:
    """Return Easter Sunday of the Gregorian calendar (Butcher's rule)."""
    golden = year % 19
    century, year_of_century = divmod(year, 100)
    leap_centuries, century_rest = divmod(century, 4)
    moon_correction = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - leap_centuries - moon_correction + 15) % 30
    leap_years, year_rest = divmod(year_of_century, 4)
    weekday = (32 + 2 * century_rest + 2 * leap_years - epact - year_rest) % 7
    shift = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * shift + 114, 31)
    return date(year, month, day + 1)


def national_holidays(year: int) -> frozenset[date]:
    """Return the bank holidays of the whole country, those that fall on a weekend included."""
    easter = easter_sunday(year)
    days = {date(year, month, day) for month, day in _NATIONAL_FIXED}
    days |= {easter - timedelta(days=48), easter - timedelta(days=47)}  # Carnival Monday and Tuesday
    days |= {easter - timedelta(days=2), easter + timedelta(days=60)}  # Good Friday, Corpus Christi
    if year >= _CONSCIENCE_NATIONAL_FROM:
        days.add(date(year, *_CONSCIENCE_DAY))
    return frozenset(days)


def exchange_holidays(year: int) -> frozenset[date]:
    """Return the days B3 does not trade, those that fall on a weekend included."""
    if year < YEAR_MIN:
        raise ValueError(f"calendar year: expected {YEAR_MIN} or later, was {year}")
    days = set(national_holidays(year))
    if year <= _CITY_LAST_YEAR:
        days |= {date(year, month, day) for month, day in _CITY_FIXED}
    if year in _CONSCIENCE_CITY_YEARS:
        days.add(date(year, *_CONSCIENCE_DAY))
    days.add(date(year, 12, 24))
    days.add(_last_weekday(year))
    days |= {day for day in AD_HOC_CLOSED if day.year == year}
    return frozenset(days - AD_HOC_OPEN)


def _last_weekday(year: int) -> date:
    day = date(year, 12, 31)
    while day.weekday() >= _SATURDAY:
        day -= timedelta(days=1)
    return day


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Trading days: computed, except in the years a replacement covers.

    `replaced_years` must hold every year of `replaced_holidays`; `calendar_from_text` builds both.
    """

    replaced_holidays: frozenset[date] = field(default_factory=frozenset)
    replaced_years: frozenset[int] = field(default_factory=frozenset)

    def is_business_day(self, day: date) -> bool:
        """Say whether B3 trades on that day."""
        if day.weekday() >= _SATURDAY:
            return False
        if day.year in self.replaced_years:
            return day not in self.replaced_holidays
        return day not in exchange_holidays(day.year)

    def next_business_day(self, day: date) -> date:
        """Return the first business day strictly after `day`."""
        for distance_days in range(1, SEARCH_DAYS_MAX + 1):
            candidate = day + timedelta(days=distance_days)
            if self.is_business_day(candidate):
                return candidate
        raise ValueError(f"calendar: expected a business day within {SEARCH_DAYS_MAX} days after {day}, found none")

    def business_day_at_or_after(self, day: date) -> date:
        """Return `day` itself when B3 trades on it, else the next business day."""
        return day if self.is_business_day(day) else self.next_business_day(day)

    def add_business_days(self, day: date, count: int) -> date:
        """Return the business day `count` business days after `day` (0: `day` or the next one when it is none)."""
        assert count >= 0, f"business days to add: expected 0 or more, was {count}"
        result = self.business_day_at_or_after(day)
        for _ in range(count):
            result = self.next_business_day(result)
        return result

    def settlement_date(self, trade_date: date) -> date:
        """Return D+2."""
        return self.add_business_days(trade_date, SETTLEMENT_BUSINESS_DAYS)


B3 = Calendar()
"""The computed calendar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarError:
    """A line of a calendar file that is neither a date, a weekday's name nor a comment."""

    line: int
    given: str

    def __str__(self) -> str:
        return f"line {self.line}: expected a date as 2026-11-20 or a weekday's name, was {self.given!r}"


_WEEKDAY_NAMES = frozenset({"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"})


def calendar_from_text(text: str) -> Calendar | tuple[CalendarError, ...]:
    """Read a holiday file, one ISO date a line; the years it names are replaced whole, others stay computed.

    Returns every line that cannot be read, in order. Weekday names must be the weekend's own: B3 has no other.
    """
    holidays: set[date] = set()
    errors: list[CalendarError] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        if line.lower() in _WEEKDAY_NAMES:
            if line.lower() not in ("saturday", "sunday"):
                errors.append(CalendarError(line=number, given=line))
            continue
        day = _parsed(line)
        if day is None:
            errors.append(CalendarError(line=number, given=line))
        else:
            holidays.add(day)
    if errors:
        return tuple(errors)
    return calendar_from_dates(holidays)


def calendar_from_dates(holidays: Iterable[date]) -> Calendar:
    """Return a calendar in which exactly these weekdays are holidays, in every year they name."""
    days = frozenset(holidays)
    return Calendar(replaced_holidays=days, replaced_years=frozenset(day.year for day in days))


def _parsed(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
