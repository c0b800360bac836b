"""The index circuit breaker. Source: the exchange's page, bands and halts; facts 1.4 (B3's manual, quoted in 2020)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.circuit_breaker import level_of
from services.b3_matcher.engine.engine import Engine
from tests.exchange.desk import PLAIN, Desk, config, play, seconds

DAY = ((seconds("9:45"), Phase.PRE_OPEN), (seconds("10:00"), Phase.OPEN), (seconds("16:55"), Phase.CLOSING_CALL),
       (seconds("17:00"), Phase.CLOSED))  # fmt: skip


def _desk(rules: Rules = PLAIN) -> Desk:
    desk = Desk(phase=None, rules=rules, schedule=DAY)
    desk.tick(seconds("11:00"))
    return desk


@pytest.mark.parametrize(
    ("value", "level"),
    # hundredths of a point against a previous close of 130,000.00
    [(13_000_000, 0), (11_700_001, 0), (11_700_000, 1), (11_050_001, 1), (11_050_000, 2), (10_400_000, 3), (1, 3)],
)
def test_the_levels_are_10_15_and_20_percent_of_the_previous_close(value: int, level: int):
    assert level_of(Rules(), value, 13_000_000) == level
    assert level_of(Rules(circuit_breaker=False), value, 13_000_000) == 0
    assert level_of(Rules(), value, 0) == 0, "no previous close, no level"


def test_minus_10_percent_halts_everything_for_30_minutes_and_reopens_by_a_call_of_5():
    desk = _desk()
    play(
        desk,
        """
        sell s1 100 @ 30.00            -> rests 100
        index 117000.01 130000.00      ->
        index 117000.00 130000.00      -> tripped 1 until 11:30:00, halted
        buy b1 100 @ 30.00             -> instrument_halted
        cancel s1 rev=2                -> cancelled 100
        tick 11:29:59                  ->
        tick 11:30:00                  -> auction
        sell s2 100 @ 30.00            -> rests 100
        buy b2 100 @ 30.00             -> theo 100 @ 30.00, rests 100
        tick 11:35:00                  -> b2 x s2 100 @ 30.00, prints 100 @ 30.00, open
        index 116000.00 130000.00      ->
        tick 12:00:00                  ->
        index 110500.00 130000.00      -> tripped 2 until 13:00:00, halted
        tick 13:05:00                  -> auction, no print, open
        index 104000.00 130000.00      -> tripped 3, halted
        tick 14:30:00                  ->
        resume                         -> auction
        tick 14:35:00                  -> no print, open
        """,
    )


def test_a_fall_through_two_levels_trips_the_deeper_one_and_a_deeper_one_lengthens_the_halt():
    play(
        _desk(),
        """
        index 110000.00 130000.00      -> tripped 2 until 12:00:00, halted
        index 116000.00 130000.00      ->
        trip 3                         -> tripped 3
        tick 12:30:00                  ->
        """,
    )


def test_the_owner_is_told_when_the_breaker_has_something_to_do():
    desk = _desk()
    play(desk, "index 117000.00 130000.00 -> tripped 1 until 11:30:00, halted")
    assert desk.engine.next_due_ns(seconds("11:00")) == seconds("11:30")
    desk.tick(seconds("11:30"))
    assert desk.engine.next_due_ns(seconds("11:30")) == seconds("11:35")


def test_a_shard_that_trips_says_so_and_a_trip_heard_twice_changes_nothing():
    first, second = _desk(), _desk()
    (tripped,) = [x for x in _index(first) if isinstance(x, e.CircuitBreakerTripped)]
    assert (tripped.day, tripped.level, tripped.by_index) == ("2026-11-23", 1, True)
    heard = second.do(c.Trip(day=tripped.day, level=tripped.level))
    assert [(x.level, x.by_index) for x in heard if isinstance(x, e.CircuitBreakerTripped)] == [(1, False)]
    assert second.engine.phase("PETR4") is Phase.HALTED
    before = second.engine.state_hash()
    for again in (
        c.Trip(day=tripped.day, level=1),
        c.Trip(day="2026-11-20", level=2),
        c.Trip(day=tripped.day, level=0),
    ):
        assert [type(x) for x in second.do(again)] == [e.CommandIgnored]
    assert second.engine.state_hash() == before
    assert isinstance(first.do(c.Trip(day=tripped.day, level=1))[0], e.CommandIgnored), "its own trip comes back"


def _index(desk: Desk) -> list[e.Event]:
    return desk.do(c.IndexLevel(number=1, value_hundredths=90, previous_close_hundredths=100))


def test_an_index_value_of_an_older_number_is_void():
    desk = _desk()
    desk.do(c.IndexLevel(number=5, value_hundredths=100, previous_close_hundredths=100))
    assert isinstance(
        desk.do(c.IndexLevel(number=5, value_hundredths=1, previous_close_hundredths=100))[0], e.CommandIgnored
    )
    assert desk.engine.phase() is Phase.OPEN


@pytest.mark.parametrize(
    ("at", "trips"), [("16:29:59", True), ("16:30:00", False), ("16:54:59", False), ("16:56:00", False)]
)
def test_the_breaker_rests_in_the_last_30_minutes_and_outside_continuous_trading(at: str, trips: bool):
    desk = _desk()
    desk.tick(seconds(at))
    assert any(isinstance(x, e.CircuitBreakerTripped) for x in _index(desk)) is trips
    early = Desk(phase=None, rules=PLAIN, schedule=DAY)
    early.tick(seconds("9:50"))
    assert not any(isinstance(x, e.CircuitBreakerTripped) for x in _index(early))


def test_a_trip_from_another_shard_counts_in_the_last_minutes_too_but_not_after_the_close():
    desk = _desk()
    desk.tick(seconds("16:30:05"))
    play(desk, "trip 1 -> tripped 1 until 17:00:05, halted")
    play(desk, "tick 17:00:10 -> closed, day closed at 30.00")
    play(desk, "trip 2 -> ignored trip")


def test_a_halt_that_meets_the_closing_call_reopens_in_it():
    play(
        _desk(),
        """
        tick 16:25:30                  ->
        index 117000.00 130000.00      -> tripped 1 until 16:55:30, halted
        tick 16:55:00                  ->
        tick 16:55:30                  -> closing_call
        """,
    )


def test_a_reopening_call_that_meets_the_closing_call_becomes_a_part_of_it():
    play(
        _desk(),
        """
        tick 16:22:00                  ->
        index 117000.00 130000.00      -> tripped 1 until 16:52:00, halted
        tick 16:52:00                  -> auction
        tick 16:55:00                  -> closing_call
        tick 17:00:00                  -> no print, closed, day closed at 30.00
        """,
    )


def test_everything_means_instruments_in_an_auction_too_and_they_reopen_with_the_market():
    play(
        _desk(replace(PLAIN, bands=True)),
        """
        sell s1 100 @ 31.00            -> rests 100
        buy b1 100 @ 31.00 -> PETR4 auction, band_last_price until 11:03:00, theo 100 @ 31.00, rests 100
        index 117000.00 130000.00      -> tripped 1 until 11:30:00, halted, PETR4 halted
        tick 11:30:00                  -> auction
        tick 11:35:00                  -> b1 x s1 100 @ 31.00, prints 100 @ 31.00, open
        """,
    )


def test_a_new_day_knows_nothing_of_yesterdays_trip():
    desk = _desk()
    play(desk, "index 104000.00 130000.00 -> tripped 3, halted")
    desk.configure(config(business_date="2026-11-24"))
    play(
        desk,
        """
        phase open                     -> open
        index 117000.00 130000.00      -> tripped 1 until 11:30:00, halted
        """,
    )


def test_a_halted_market_dumped_and_loaded_has_the_same_future():
    desk = _desk()
    _index(desk)
    copy = Engine.load(json.loads(json.dumps(desk.engine.dump())))
    assert copy.state_hash() == desk.engine.state_hash()
    for at in ("11:30", "11:33", "11:35", "17:00"):
        said = desk.tick(seconds(at))
        assert copy.apply(*desk.log[-1]) == said
    assert copy.state_hash() == desk.engine.state_hash()


def test_the_numbers_are_data():
    rules = replace(
        PLAIN, circuit_breaker_levels=((500, 60),), circuit_breaker_call_seconds=30, circuit_breaker_quiet_seconds=0
    )
    desk = _desk(rules)
    desk.tick(seconds("16:50"))
    play(
        desk,
        """
        index 95.00 100.00             -> tripped 1 until 16:51:00, halted
        tick 16:51:30                  -> auction, no print, open
        trip 2                         -> ignored trip
        """,
    )
