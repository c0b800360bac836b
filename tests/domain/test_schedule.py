"""Hours, instants and phases of a day."""

from __future__ import annotations

from datetime import date

import pytest

from mybroker.domain import schedule
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import HOURS_PRESETS, Hours, day_schedule, parse_instant_ns

MONDAY = date(2026, 11, 23)


def at(text: str) -> int:
    instant_ns = parse_instant_ns(f"2026-11-23T{text}-03:00")
    assert instant_ns is not None
    return instant_ns


@pytest.mark.parametrize(
    ("preset", "times"),
    [("b3-winter", "09:45 10:00 16:55 17:00"), ("b3-summer", "09:45 10:00 17:55 18:00")],
)
def test_a_preset_gives_the_exchanges_hours(preset: str, times: str) -> None:
    day = day_schedule(MONDAY, HOURS_PRESETS[preset])

    assert [phase for _, phase in day.changes] == [Phase.PRE_OPEN, Phase.OPEN, Phase.CLOSING_CALL, Phase.CLOSED]
    assert [at_ns for at_ns, _ in day.changes] == [at(time + ":00") for time in times.split()]


@pytest.mark.parametrize(
    ("time", "phase"),
    [
        ("00:00:00", Phase.CLOSED),
        ("09:44:59.999999", Phase.CLOSED),
        ("09:45:00", Phase.PRE_OPEN),
        ("10:00:00", Phase.OPEN),
        ("17:55:00", Phase.CLOSING_CALL),
        ("18:00:00", Phase.CLOSED),
    ],
)
def test_a_phase_begins_at_its_instant(time: str, phase: Phase) -> None:
    assert day_schedule(MONDAY, HOURS_PRESETS["b3-summer"]).phase_at(at(time)) == phase


def test_the_next_change_is_strictly_later_and_none_follows_the_close() -> None:
    day = day_schedule(MONDAY, HOURS_PRESETS["b3-summer"])

    assert day.next_change(at("09:45:00")) == (at("10:00:00"), Phase.OPEN)
    assert day.next_change(at("09:44:00")) == (day.starts_at_ns, Phase.PRE_OPEN)
    assert day.next_change(day.ends_at_ns) is None


def test_hours_that_do_not_rise_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="strictly rising"):
        Hours(pre_open_minutes=600, open_minutes=600, closing_call_minutes=1000, close_minutes=1020)


def test_an_instant_is_written_and_read_back() -> None:
    assert schedule.format_instant(at("10:00:00")) == "2026-11-23T10:00:00-03:00"
    assert parse_instant_ns("2026-11-23T13:00:00Z") == at("10:00:00")
    assert schedule.format_instant(at("10:00:00.000250")) == "2026-11-23T10:00:00.000250-03:00"
    assert schedule.local_date(at("23:59:59")) == MONDAY


@pytest.mark.parametrize("text", ["", "2026-11-23", "2026-11-23T10:00:00", "10:00", "2026-13-01T10:00:00Z"])
def test_an_instant_needs_date_time_and_offset(text: str) -> None:
    assert parse_instant_ns(text) is None


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("09:45", 585), ("00:00", 0), ("23:59", 1439), ("24:00", None), ("9:45", None), ("09:60", None), ("0９:45", None)],
)
def test_a_local_time_has_two_digits_each(text: str, minutes: int | None) -> None:
    assert schedule.parse_clock_minutes(text) == minutes
    if minutes is not None:
        assert schedule.format_clock(minutes) == text
