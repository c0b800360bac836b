"""The end of a call: late changes put it off twice, the protection band three times; then it prints, or halts.

Source: the exchange's page, auction price (extensions) and bands (protection); facts 1.2. Open at 10:00, close 17:00.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.engine import Engine
from tests.exchange.desk import Desk, config, order, play, seconds

DAY = ((seconds("9:45"), Phase.PRE_OPEN), (seconds("10:00"), Phase.OPEN), (seconds("16:55"), Phase.CLOSING_CALL),
       (seconds("17:00"), Phase.CLOSED))  # fmt: skip
NO_BANDS = Rules(lot=1, bands=False)
BANDS = Rules(lot=1)


def _desk(rules: Rules = NO_BANDS, **settings: Any) -> Desk:
    desk = Desk(phase=None, rules=rules, schedule=DAY, **settings)
    desk.tick(seconds("9:45"))
    return desk


def test_a_call_without_late_changes_ends_on_time():
    play(
        _desk(),
        """
        sell s1 100 @ 30.00        -> rests 100
        tick 9:58:59               ->
        buy b1 100 @ 30.00         -> theo 100 @ 30.00, rests 100
        tick 10:00:00              -> b1 x s1 100 @ 30.00, prints 100 @ 30.00, open
        """,
    )


@pytest.mark.parametrize(
    ("late", "answer"),
    [
        ("buy b2 50 @ 30.00", "theo 150 @ 30.00 sell+50, rests 50"),  # the quantity
        ("sell s2 50 @ 30.00", "theo 100 @ 30.00 sell+150, rests 50"),  # the unfilled balance
        ("replace s1 - @ 29.90 rev=2", "lost place, theo 100 @ 29.90 sell+100, rests 200"),  # the price
    ],
)
def test_a_change_in_the_last_minute_extends_the_call_by_a_minute(late: str, answer: str):
    desk = _desk(reference="29.00")
    play(
        desk,
        f"""
        sell s1 200 @ 30.00        -> rests 200
        buy b1 100 @ 30.00         -> theo 100 @ 30.00 sell+100, rests 100
        tick 9:59:00               ->
        {late}                     -> {answer}
        tick 10:00:00              -> late_change until 10:01:00, open, PETR4 pre_open
        """,
    )
    assert desk.engine.phase() is Phase.OPEN
    assert desk.engine.phase("PETR4") is Phase.PRE_OPEN
    assert desk.engine.next_due_ns(seconds("10:00")) == seconds("10:01")
    printed = desk.tick(seconds("10:01"))
    assert [x.phase for x in printed if isinstance(x, e.PhaseChanged)] == [Phase.OPEN]
    assert any(isinstance(x, e.AuctionUncrossed) for x in printed)


def test_a_change_of_an_earlier_orders_fill_extends_the_call_where_nothing_else_changed():
    table = """
        sell s1 300 @ 30.00            -> rests 300
        buy b1 200 @ 30.00             -> theo 200 @ 30.00 sell+100, rests 200
        buy b2 200 @ 30.00             -> theo 300 @ 30.00 buy+100, rests 200
        tick 9:59:30                   ->
        replace {who} - @ 30.01 rev=2  -> lost place, rests 200
        tick 10:00:00                  -> {answer}
    """
    play(_desk(), table.format(who="b2", answer="late_change until 10:01:00, open, PETR4 pre_open"))
    printed = "b1 x s1 200 @ 30.00, b2 x s1 100 @ 30.00, prints 300 @ 30.00, open"
    play(_desk(), table.format(who="b1", answer=printed))


def test_an_order_that_changes_nothing_of_the_print_extends_nothing():
    play(
        _desk(),
        """
        sell s1 100 @ 30.00        -> rests 100
        buy b1 100 @ 30.00         -> theo 100 @ 30.00, rests 100
        tick 9:59:59               ->
        buy b2 100 @ 20.00         -> rests 100
        sell s2 100 @ 40.00        -> rests 100
        tick 10:00:00              -> b1 x s1 100 @ 30.00, prints 100 @ 30.00, open
        """,
    )


TWICE = """
    sell s1 900 @ 30.00            -> rests 900
    tick 9:59:30                   ->
    buy b1 100 @ 30.00             -> theo 100 @ 30.00 sell+800, rests 100
    tick 10:00:00                  -> late_change until 10:01:00, open, PETR4 pre_open
    tick {second}                  ->
    buy b2 100 @ 30.00             -> theo 200 @ 30.00 sell+700, rests 100
    tick 10:01:00                  -> {answer}
"""
PRINTS = "b1 x s1 100 @ 30.00, b2 x s1 100 @ 30.00, prints 200 @ 30.00, PETR4 open"


def test_the_second_extension_looks_at_the_last_30_seconds_and_a_third_does_not_come():
    play(_desk(), TWICE.format(second="10:00:29", answer=PRINTS))
    desk = _desk()
    play(desk, TWICE.format(second="10:00:30", answer="late_change until 10:02:00"))
    play(
        desk,
        """
        tick 10:01:59              ->
        buy b3 100 @ 30.00         -> theo 300 @ 30.00 sell+600, rests 100
        tick 10:02:00              -> {print}, prints 300 @ 30.00, PETR4 open
        """.format(print="b1 x s1 100 @ 30.00, b2 x s1 100 @ 30.00, b3 x s1 100 @ 30.00"),
    )


def test_under_other_numbers_a_third_extension_looks_at_the_last_15_seconds():
    rules = replace(NO_BANDS, extensions_max=3)
    desk = _desk(rules)
    for at, extended in (("10:01:44", False), ("10:01:45", True)):
        desk = _desk(rules)
        play(desk, TWICE.format(second="10:00:45", answer="late_change until 10:02:00"))
        desk.tick(seconds(at))
        desk.place("buy", "b3", 100, "30.00")
        said = desk.tick(seconds("10:02"))
        assert any(isinstance(x, e.StatusChanged) for x in said) is extended, at
    assert not any(isinstance(x, e.StatusChanged) for x in desk.tick(seconds("10:03")))


def test_a_rule_switches_the_extensions_off_and_a_command_never_waits():
    late = """
        tick 9:59:30               ->
        sell s1 100 @ 30.00        -> rests 100
        buy b1 100 @ 30.00         -> theo 100 @ 30.00, rests 100
        {end}                      -> b1 x s1 100 @ 30.00, prints 100 @ 30.00, {phase}
    """
    play(_desk(replace(NO_BANDS, extensions=False)), late.format(end="tick 10:00:00", phase="open"))
    play(_desk(), late.format(end="phase open", phase="open"))
    play(_desk(), late.format(end="uncross", phase="PETR4 open"))


def test_an_extended_closing_call_outlasts_the_close_and_the_day_is_over_after_it():
    desk = _desk()
    play(
        desk,
        """
        tick 10:00:00              -> no print, open
        buy b0 100 @ 29.00 gtc     -> rests 100
        tick 16:59:30              -> closing_call
        sell s1 100 @ 30.00        -> rests 100
        buy b1 200 @ 30.00         -> theo 100 @ 30.00 buy+100, rests 200
        tick 17:00:00              -> late_change until 17:01:00, closed, PETR4 closing_call
        buy b2 100 @ 28.00         -> rests 100
        """,
    )
    assert desk.engine.next_due_ns(seconds("17:00")) == seconds("17:01")
    over_at_the_close = desk.engine.is_closed
    copy = Engine.load(json.loads(json.dumps(desk.engine.dump())))
    expired = "expired b1 100, expired b2 100, day closed at 30.00"
    play(desk, f"tick 17:01:00 -> b1 x s1 100 @ 30.00, prints 100 @ 30.00, PETR4 closed, {expired}")
    assert copy.apply(*desk.log[-1]) == desk.frames[-1]
    assert (over_at_the_close, desk.engine.is_closed) == (False, True)
    assert desk.engine.closing_prices == {"PETR4": 3000}
    assert desk.engine.next_due_ns(seconds("17:01")) is None


def test_a_new_day_ends_a_call_that_still_goes_on():
    desk = _desk()
    play(
        desk,
        """
        tick 16:59:30              -> no print, open, closing_call
        sell s1 100 @ 30.00        -> rests 100
        buy b1 100 @ 30.00         -> theo 100 @ 30.00, rests 100
        tick 17:00:00              -> late_change until 17:01:00, closed, PETR4 closing_call
        """,
    )
    desk.configure(config(rules=NO_BANDS, business_date="2026-11-24"))
    kinds = [type(x) for x in desk.frames[-1]]
    assert kinds.index(e.TradeExecuted) < kinds.index(e.DayClosed) < kinds.index(e.SessionConfigured)
    assert desk.engine.phase("PETR4") is Phase.CLOSED


def test_other_instruments_open_on_time():
    instruments = tuple(
        c.InstrumentConfig(ticker=ticker, asset=ticker, reference_price_ticks=3000) for ticker in ("PETR4", "VALE3")
    )
    desk = _desk(instruments=instruments)
    desk.tick(seconds("9:59:30"))
    for ticker in ("PETR4", "VALE3"):
        desk.do(order("sell", f"s{ticker}", 100, "30.00", ticker=ticker))
    desk.do(order("buy", "bPETR4", 100, "30.00"))
    desk.tick(seconds("10:00"))
    assert (desk.engine.phase("PETR4"), desk.engine.phase("VALE3")) == (Phase.PRE_OPEN, Phase.OPEN)


@pytest.mark.parametrize(
    ("price", "hit"),
    # ±1.5 % of 30.10 in a call is 0.4515: rounded to 0.45, and exclusive
    [("30.54", False), ("30.55", True), ("29.66", False), ("29.65", True)],
)
def test_the_protection_band_in_a_call_rounds_to_the_tick_and_is_exclusive(price: str, hit: bool):
    desk = _desk(BANDS, reference="30.10")
    desk.place("sell", "s", 100, price)
    desk.place("buy", "b", 100, price)
    status = [x.reason.value for x in desk.tick(seconds("10:00")) if isinstance(x, e.StatusChanged)]
    assert status == (["protection"] if hit else [])


def test_a_price_outside_the_protection_band_extends_three_times_then_halts_for_a_supervisor():
    desk = _desk(BANDS)
    play(
        desk,
        """
        sell s1 100 @ 31.00        -> rests 100
        buy b1 100 @ 31.00         -> theo 100 @ 31.00, rests 100
        tick 10:00:00              -> protection until 10:01:00, open, PETR4 pre_open
        tick 10:01:00              -> protection until 10:02:00
        tick 10:02:00              -> protection until 10:03:00
        tick 10:03:00              -> PETR4 halted, protection_halt
        buy b2 100 @ 30.00         -> instrument_halted
        tick 10:30:00              ->
        resume PETR4               -> PETR4 open, b1 x s1 100 @ 31.00, prints 100 @ 31.00
        """,
    )


def test_a_price_that_comes_back_into_the_protection_band_prints_at_the_end_of_the_extension():
    play(
        _desk(BANDS),
        """
        sell s1 100 @ 31.00        -> rests 100
        buy b1 100 @ 31.00         -> theo 100 @ 31.00, rests 100
        tick 10:00:00              -> protection until 10:01:00, open, PETR4 pre_open
        sell s2 200 @ 30.40        -> theo 100 @ 30.40 sell+100, rests 200
        tick 10:01:00              -> late_change until 10:02:00
        tick 10:02:00              -> b1 x s2 100 @ 30.40, prints 100 @ 30.40, PETR4 open
        """,
    )


def test_the_protection_band_of_an_auction_is_wider():
    rules = replace(BANDS, extensions=False)
    table = """
        tick 10:00:00              -> no print, open
        sell s1 100 @ {price}      -> rests 100
        buy b1 100 @ {price}       -> PETR4 auction, band_last_price until 10:03:00, theo 100 @ {price}, rests 100
        tick 10:03:00              -> {answer}
    """
    play(_desk(rules), table.format(price="31.49", answer="b1 x s1 100 @ 31.49, prints 100 @ 31.49, PETR4 open"))
    play(_desk(rules), table.format(price="31.50", answer="protection until 10:04:00"))


def test_a_closing_call_that_stays_outside_the_protection_band_closes_without_a_print():
    desk = _desk(BANDS)
    play(
        desk,
        """
        tick 16:56:00              -> no print, open, closing_call
        sell s1 100 @ 31.00        -> rests 100
        buy b1 100 @ 31.00         -> theo 100 @ 31.00, rests 100
        tick 17:00:00              -> protection until 17:01:00, closed, PETR4 closing_call
        tick 17:02:00              -> protection until 17:02:00, protection until 17:03:00
        tick 17:03:00 -> PETR4 halted, protection_halt, PETR4 closed, expired s1 100, expired b1 100, {close}
        """.format(close="day closed at 30.00"),
    )
    assert desk.engine.is_closed
