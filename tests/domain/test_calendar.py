"""B3's trading days, against a committed table everywhere and against the published calendar files where they are."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from mybroker.domain import calendar
from mybroker.domain.calendar import B3, Calendar, CalendarError, calendar_from_text

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "calendar"

# Weekdays without trading, as the exchange published them.
CLOSED_WEEKDAYS = {
    2016: "01-01 01-25 02-08 02-09 03-25 04-21 05-26 09-07 10-12 11-02 11-15 12-30",
    2020: "01-01 02-24 02-25 04-10 04-21 05-01 06-11 09-07 10-12 11-02 12-24 12-25 12-31",
    2021: "01-01 01-25 02-15 02-16 04-02 04-21 06-03 07-09 09-07 10-12 11-02 11-15 12-24 12-31",
    2022: "02-28 03-01 04-15 04-21 06-16 09-07 10-12 11-02 11-15 12-30",
    2023: "02-20 02-21 04-07 04-21 05-01 06-08 09-07 10-12 11-02 11-15 12-25 12-29",
    2024: "01-01 02-12 02-13 03-29 05-01 05-30 11-15 11-20 12-24 12-25 12-31",
    2025: "01-01 03-03 03-04 04-18 04-21 05-01 06-19 11-20 12-24 12-25 12-31",
    2026: "01-01 02-16 02-17 04-03 04-21 05-01 06-04 09-07 10-12 11-02 11-20 12-24 12-25 12-31",
}


def closed_weekdays(year: int, days: Calendar = B3) -> str:
    first = date(year, 1, 1)
    length_days = (date(year + 1, 1, 1) - first).days
    every_day = (first + timedelta(days=distance) for distance in range(length_days))
    return " ".join(f"{day:%m-%d}" for day in every_day if day.weekday() < 5 and not days.is_business_day(day))


def published(name: str) -> Calendar:
    path = PUBLISHED / name
    if not path.is_file():
        pytest.skip(f"{name} is not there: the published calendar was not compared, the committed table was")
    read = calendar_from_text(path.read_text(encoding="ascii"))
    assert isinstance(read, Calendar)
    return read


@pytest.mark.parametrize("year", sorted(CLOSED_WEEKDAYS))
def test_the_exchange_is_closed_on_exactly_the_published_weekdays(year: int) -> None:
    assert closed_weekdays(year) == CLOSED_WEEKDAYS[year]


def test_every_weekday_of_the_exchanges_own_file_is_computed_the_same() -> None:
    file = published("B3.cal")
    years = sorted(file.replaced_years)
    assert years[0] == 2000
    assert years[-1] >= 2025
    assert {year: closed_weekdays(year) for year in years} == {year: closed_weekdays(year, file) for year in years}


def test_the_national_holidays_are_those_of_the_bankers_file_to_2099() -> None:
    file = published("ANBIMA.cal")
    years = sorted(file.replaced_years)
    assert years[-1] == 2099

    def weekdays(days: frozenset[date], year: int) -> set[date]:
        # Easter Sunday is in that file for some years; a weekend never trades, so only weekdays are compared.
        return {day for day in days if day.year == year and day.weekday() < 5}

    for year in years:
        assert weekdays(calendar.national_holidays(year), year) == weekdays(file.replaced_holidays, year), year


@pytest.mark.parametrize(
    ("day", "following"),
    [
        ("2026-11-19", "2026-11-23"),  # a holiday on Friday, then the weekend
        ("2026-12-23", "2026-12-28"),
        ("2026-12-30", "2027-01-04"),
        ("2026-02-13", "2026-02-18"),  # Carnival
    ],
)
def test_the_next_business_day_skips_weekends_and_holidays(day: str, following: str) -> None:
    assert B3.next_business_day(date.fromisoformat(day)) == date.fromisoformat(following)


@pytest.mark.parametrize(
    ("trade_date", "settles"),
    [
        ("2026-11-23", "2026-11-25"),
        ("2026-11-18", "2026-11-23"),
        ("2026-12-29", "2027-01-04"),
        ("2026-11-21", "2026-11-25"),
    ],
)
def test_a_trade_settles_two_business_days_later(trade_date: str, settles: str) -> None:
    assert B3.settlement_date(date.fromisoformat(trade_date)) == date.fromisoformat(settles)


def test_adding_no_days_keeps_a_business_day_and_moves_any_other() -> None:
    assert B3.add_business_days(date(2026, 11, 23), 0) == date(2026, 11, 23)
    assert B3.add_business_days(date(2026, 11, 20), 0) == date(2026, 11, 23)


def test_a_holiday_file_replaces_the_years_it_names_and_no_other() -> None:
    file = calendar_from_text("Saturday\nSunday\n# an extra day\n2026-11-24  # a strike\n\n")
    assert isinstance(file, Calendar)
    assert not file.is_business_day(date(2026, 11, 24))
    assert file.is_business_day(date(2026, 11, 20)), "the year is replaced whole"
    assert not file.is_business_day(date(2026, 11, 22)), "a weekend stays a weekend"
    assert not file.is_business_day(date(2027, 2, 8)), "other years stay computed"


def test_every_unreadable_line_of_a_holiday_file_is_named() -> None:
    read = calendar_from_text("2026-11-20\n20/11/2026\nFriday\n2026-02-30\n")
    assert read == (
        CalendarError(line=2, given="20/11/2026"),
        CalendarError(line=3, given="Friday"),
        CalendarError(line=4, given="2026-02-30"),
    )
    assert str(read[0]) == "line 2: expected a date as 2026-11-20 or a weekday's name, was '20/11/2026'"


def test_a_calendar_without_business_days_is_an_error_and_not_an_endless_search() -> None:
    first = date(2026, 1, 1)
    never = calendar.calendar_from_dates(first + timedelta(days=distance) for distance in range(365))
    with pytest.raises(ValueError, match="found none"):
        never.next_business_day(first)


def test_years_the_rules_were_never_checked_for_are_refused() -> None:
    with pytest.raises(ValueError, match="2000 or later, was 1999"):
        B3.is_business_day(date(1999, 3, 1))
