"""Stops and icebergs. Source: the exchange's page, continuous trading; facts 1.5 (B3's order types page)."""

from __future__ import annotations

import json

import pytest

from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.engine import Engine
from tests.exchange.desk import PLAIN, Desk, check_book, play


def test_a_buy_stop_is_set_off_by_a_trade_at_its_price_and_becomes_a_market_order():
    check_book(
        """
        buy x1 100 @ mkt stop=30.10        -> waits
        sell s1 100 @ 30.09                -> rests 100
        sell s2 200 @ 30.10                -> rests 200
        buy b1 100 @ 30.09                 -> trades 100 @ 30.09 with s1
        book                               -> sell s2 200 @ 30.10
        buy b2 100 @ 30.10                 -> trades 100 @ 30.10 with s2, triggered x1, x1 trades 100 @ 30.10 with s2
        book                               -> empty
        """,
        last="30.00",
    )


def test_a_sell_stop_limit_becomes_a_limit_order_and_rests():
    check_book(
        """
        sell x1 200 @ 29.95 stop=29.98     -> waits
        buy b1 100 @ 29.97                 -> rests 100
        buy b2 100 @ 29.96                 -> rests 100
        sell s1 50 @ 29.97                 -> trades 50 @ 29.97 with b1, triggered x1, {chain}
        book                               -> sell x1 50 @ 29.95
        """.format(chain="x1 trades 50 @ 29.97 with b1, x1 trades 100 @ 29.96 with b2"),
        last="30.00",
    )


def test_a_trade_in_the_middle_of_a_sweep_sets_a_stop_off_even_where_the_last_one_does_not():
    check_book(
        """
        sell x1 100 @ 29.00 stop=29.99     -> waits
        sell s1 100 @ 29.98                -> rests 100
        sell s2 100 @ 30.20                -> rests 100
        buy b1 200 @ 30.20                 -> trades 100 @ 29.98 with s1, trades 100 @ 30.20 with s2, triggered x1
        book                               -> sell x1 100 @ 29.00
        """,
        last="30.00",
    )


def test_stops_set_each_other_off_nearest_price_first_then_oldest():
    check_book(
        """
        buy x3 100 @ mkt stop=30.30        -> waits
        buy x2 100 @ mkt stop=30.10        -> waits
        buy x1 100 @ mkt stop=30.10        -> waits
        sell s1 100 @ 30.10                -> rests 100
        sell s2 100 @ 30.20                -> rests 100
        sell s3 100 @ 30.30                -> rests 100
        sell s4 100 @ 30.40                -> rests 100
        buy b1 100 @ 30.10 -> trades 100 @ 30.10 with s1, {first}, {second}, {third}
        """.format(
            first="triggered x2, x2 trades 100 @ 30.20 with s2",
            second="triggered x1, x1 trades 100 @ 30.30 with s3",
            third="triggered x3, x3 trades 100 @ 30.40 with s4",
        ),
        last="30.00",
    )


def test_a_chain_of_stops_is_bounded_and_goes_on_with_the_next_tick():
    rules = Rules(lot=1, bands=False, extensions=False, stop_triggers_max=2)
    desk = check_book(
        """
        buy x1 10 @ 31.00 stop=30.10       -> waits
        buy x2 10 @ 31.00 stop=30.10       -> waits
        buy x3 10 @ 31.00 stop=30.10       -> waits
        sell s1 10 @ 30.10                 -> rests 10
        buy b1 10 @ 30.10                  -> trades 10 @ 30.10 with s1, triggered x1, triggered x2
        """,
        rules=rules,
        last="30.00",
    )
    copy = Engine.load(json.loads(json.dumps(desk.engine.dump())))
    play(desk, "tick 10 -> triggered x3")
    offset, command = desk.log[-1]
    assert copy.apply(offset, command) == desk.frames[-1]
    assert copy.state_hash() == desk.engine.state_hash()


def test_a_stop_that_finds_nothing_to_trade_with_is_cancelled():
    check_book(
        """
        buy x1 100 @ mkt stop=30.10        -> waits
        sell s1 100 @ 30.10                -> rests 100
        buy b1 100 @ 30.10 -> trades 100 @ 30.10 with s1, triggered x1, cancelled x1 100 no_opposite_price
        """,
        last="30.00",
    )


def test_a_stop_lies_beyond_the_last_trade_and_its_limit_beyond_the_stop():
    check_book(
        """
        buy a 100 @ mkt stop=30.00         -> stop_price_wrong_side
        sell b 100 @ mkt stop=30.00        -> stop_price_wrong_side
        buy c 100 @ 30.09 stop=30.10       -> stop_price_wrong_side
        sell d 100 @ 29.91 stop=29.90      -> stop_price_wrong_side
        buy e 100 @ 30.10 stop=30.10       -> waits
        replace e - @ 30.05 rev=2          -> stop_price_wrong_side
        replace e - @ 30.20 rev=3          -> lost place, waits
        replace e 50 @ - rev=4             -> kept place, waits
        cancel e rev=5                     -> cancelled 50
        """,
        last="30.00",
    )


def test_under_the_other_switch_a_stop_at_or_before_the_last_trade_is_set_off_at_once():
    check_book(
        """
        sell s1 100 @ 30.50                -> rests 100
        buy x1 100 @ mkt stop=30.00        -> triggered x1, trades 100 @ 30.50 with s1
        """,
        rules=Rules(lot=1, bands=False, stop_beyond_last=False),
        last="30.00",
    )


@pytest.mark.parametrize("phase", [Phase.PRE_OPEN, Phase.CLOSING_CALL, Phase.AUCTION])
def test_a_stop_is_not_accepted_in_an_auction_but_one_that_waits_may_be_cancelled(phase: Phase):
    desk = check_book("buy x1 100 @ mkt stop=30.10 -> waits")
    play(
        desk,
        f"""
        phase {phase} PETR4                -> PETR4 {phase}
        buy x2 100 @ mkt stop=30.10        -> order_type_not_allowed_in_phase
        buy x3 100 @ 30.10 stop=30.10      -> order_type_not_allowed_in_phase
        cancel x1 rev=2                    -> cancelled 100
        """,
    )


def test_the_print_of_an_auction_sets_stops_off_and_they_enter_after_it():
    check_book(
        """
        buy x1 100 @ 30.30 stop=30.10          -> waits
        phase auction PETR4                    -> PETR4 auction
        buy b1 100 @ 30.20                     -> rests 100
        sell s1 200 @ 30.20                    -> theo 100 @ 30.20 sell+100, rests 200
        resume PETR4 -> b1 x s1 100 @ 30.20, prints 100 @ 30.20, PETR4 open, triggered x1, {trade}
        """.format(trade="x1 trades 100 @ 30.20 with s1"),
        last="30.00",
    )


def test_stops_survive_the_day_as_their_time_in_force_says_and_a_mass_cancel_takes_them():
    desk = Desk(phase=None, schedule=((100, Phase.OPEN), (400, Phase.CLOSED)))
    play(
        desk,
        """
        tick 200                               -> open
        buy x1 100 @ mkt stop=30.10            -> waits
        buy x2 100 @ mkt stop=30.10 gtc        -> waits
        tick 400                               -> closed, expired x1 100, day closed at 30.00
        phase open                             -> open
        mass_cancel P1                         -> cancelled x2 100 mass_cancel, mass cancelled 1
        """,
    )


def test_an_iceberg_shows_a_part_and_its_refill_goes_to_the_back():
    desk = check_book("""
        sell i1 300 @ 30.00 show=100       -> rests 300
        sell s1 100 @ 30.00                -> rests 100
        book                               -> sell i1 100 @ 30.00; sell s1 100 @ 30.00
        buy b1 50 @ 30.00                  -> trades 50 @ 30.00 with i1
        book                               -> sell i1 50 @ 30.00; sell s1 100 @ 30.00
        buy b2 100 @ 30.00                 -> trades 50 @ 30.00 with i1, trades 50 @ 30.00 with s1
    """)
    view = desk.engine.book("PETR4")
    assert [entry.quantity_shares for entry in view.asks] == [50, 100], "the refill stands behind s1"
    assert view.ask_levels == ((3000, 150),), "levels count what is visible"
    play(
        desk, "buy b3 250 @ 30.00 -> trades 50 @ 30.00 with s1, trades 100 @ 30.00 with i1, trades 100 @ 30.00 with i1"
    )
    assert desk.engine.book("PETR4").asks == ()


def test_no_public_event_tells_what_an_iceberg_hides():
    desk = Desk(rules=PLAIN)
    desk.place("sell", "i1", 1000, "30.00", display_quantity_shares=100)
    desk.place("buy", "b1", 450, "30.00")
    shown = [x.quantity_shares for frame in desk.frames for x in frame if isinstance(x, e.BookEntry)]
    assert shown == [100, 0, 100, 0, 100, 0, 100, 0, 100, 50]


def test_an_iceberg_takes_part_in_an_auction_with_all_its_shares():
    check_book(
        """
        sell i1 300 @ 30.00 show=100       -> rests 300
        sell s1 100 @ 30.00                -> rests 100
        buy b1 250 @ 30.00                 -> theo 250 @ 30.00 sell+150, rests 250
        phase open                         -> b1 x i1 250 @ 30.00, prints 250 @ 30.00, open
        """,
        phase=Phase.PRE_OPEN,
    )


def test_an_amended_iceberg_keeps_its_place_as_any_order_and_never_shows_more_than_is_left():
    desk = check_book("""
        sell i1 300 @ 30.00 show=100       -> rests 300
        sell s1 100 @ 30.00                -> rests 100
        replace i1 60 @ - rev=2            -> kept place, rests 60
        book                               -> sell i1 60 @ 30.00; sell s1 100 @ 30.00
        replace i1 500 @ - rev=3           -> lost place, rests 500
        buy b1 150 @ 30.00                 -> trades 100 @ 30.00 with s1, trades 50 @ 30.00 with i1
    """)
    assert [entry.quantity_shares for entry in desk.engine.book("PETR4").asks] == [50]


def test_a_fok_order_may_count_on_what_an_iceberg_hides():
    check_book("""
        sell i1 300 @ 30.00 show=100       -> rests 300
        buy b1 250 @ 30.00 fok -> trades 100 @ 30.00 with i1, trades 100 @ 30.00 with i1, trades 50 @ 30.00 with i1
    """)


def test_what_an_iceberg_shows_is_at_least_the_rules_number_of_lots():
    rules = Rules(bands=False, display_lots_min=2)
    check_book(
        """
        sell i1 1000 @ 30.00 show=100      -> display_quantity_invalid
        sell i2 1000 @ 30.00 show=250      -> quantity_not_multiple_of_lot
        sell i3 1000 @ 30.00 show=200      -> rests 1000
        sell i4 1000 @ mkt show=200        -> display_quantity_invalid
        """,
        rules=rules,
    )
