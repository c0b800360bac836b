"""Auction bands: fills inside happen, the first that would leave does not, the instrument goes to auction.

Source: the exchange's page, bands and halts (B3's table of 2026-03-18 in facts 1.3); index shares unless a table says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import AuctionBandCentre, Rules
from tests.exchange.desk import DATE, Desk, check_book, play, seconds, ticks

B3 = Rules(lot=1, extensions=False)
DAY = ((seconds("9:45"), Phase.PRE_OPEN), (seconds("10:00"), Phase.OPEN), (seconds("16:55"), Phase.CLOSING_CALL),
       (seconds("17:00"), Phase.CLOSED))  # fmt: skip


def _desk(group: str = "index", *, reference: str = "30.00", last: str | None = "30.00", **rules: Any) -> Desk:
    instrument = c.InstrumentConfig(
        ticker="PETR4",
        asset="PETR4",
        group=group,
        reference_price_ticks=ticks(reference),
        last_price_ticks=None if last is None else ticks(last),
    )
    desk = Desk(phase=None, rules=replace(B3, **rules), instruments=(instrument,), schedule=DAY)
    desk.tick(seconds("10:00"))
    return desk


def test_the_first_fill_that_would_leave_the_band_does_not_happen_and_the_rest_waits_in_the_auction():
    desk = _desk()
    play(
        desk,
        """
        sell s1 100 @ 30.20            -> rests 100
        sell s2 100 @ 30.80            -> rests 100
        buy b1 300 @ 31.00 -> trades 100 @ 30.20 with s1, {call}
        book                           -> buy b1 200 @ 31.00; sell s2 100 @ 30.80
        sell s3 100 @ 30.70            -> theo 200 @ 30.80, rests 100
        tick 10:03:00                  -> b1 x s3 100 @ 30.80, b1 x s2 100 @ 30.80, prints 200 @ 30.80, PETR4 open
        buy b2 100 @ 30.80             -> rests 100
        """.format(call="PETR4 auction, band_last_price until 10:03:00, theo 100 @ 30.80 buy+100, rests 200"),
    )
    assert desk.engine.phase() is Phase.OPEN


def test_without_auction_bands_a_trade_may_go_as_far_as_the_rejection_band_lets_an_order():
    desk = _desk(auction_bands=False)
    play(
        desk,
        """
        sell s1 100 @ 30.20            -> rests 100
        sell s2 100 @ 30.80            -> rests 100
        buy b1 300 @ 31.00             -> trades 100 @ 30.20 with s1, trades 100 @ 30.80 with s2, rests 100
        buy b2 100 @ 37.00             -> price_outside_rejection_band
        """,
    )
    assert desk.engine.phase("PETR4") is Phase.OPEN


@pytest.mark.parametrize(
    ("group", "inside", "outside"),
    # ±1.5 %, ±3 %, ±8.5 %, ±4 % of 30.00; what belongs to no group is as other shares
    [
        ("index", ("30.45", "29.55"), ("30.46", "29.54")),
        ("other_index", ("30.90", "29.10"), ("30.91", "29.09")),
        ("other", ("32.55", "27.45"), ("32.56", "27.44")),
        ("etf", ("31.20", "28.80"), ("31.21", "28.79")),
        ("no such group", ("32.55", "27.45"), ("32.56", "27.44")),
    ],
)
def test_the_band_by_last_price_is_the_groups_and_inclusive(group: str, inside: Any, outside: Any):
    for prices, calls in ((inside, False), (outside, True)):
        for price, maker, taker in zip(prices, ("sell", "buy"), ("buy", "sell"), strict=True):
            desk = _desk(group)
            desk.place(maker, "m", 1, price)
            desk.place(taker, "t", 1, price)
            assert (desk.engine.phase("PETR4") is Phase.AUCTION) is calls, (group, price)


def test_a_band_is_never_narrower_than_ten_cents():
    play(
        _desk(reference="2.00", last="2.00"),
        """
        sell s1 1 @ 2.10               -> rests 1
        buy b1 1 @ 2.10                -> trades 1 @ 2.10 with s1
        sell s2 1 @ 2.21               -> rests 1
        buy b2 1 @ 2.21                -> PETR4 auction, band_last_price until 10:05:00, theo 1 @ 2.21, rests 1
        """,
    )


def test_the_mean_of_the_last_minute_has_a_band_of_its_own():
    # 1000 shares at 30.00, then steps inside ±1.5 % of the last trade walk out of ±2 % of the mean (30.00 … 30.04).
    table = """
        sell s0 1000 @ 30.00           -> rests 1000
        buy b0 1000 @ 30.00            -> trades 1000 @ 30.00 with s0
        sell s1 100 @ 30.40            -> rests 100
        buy b1 100 @ 30.40             -> trades 100 @ 30.40 with s1
        sell s2 100 @ 30.70            -> rests 100
        tick {later}                   ->
        buy b2 100 @ 30.70             -> {answer}
    """
    called = "PETR4 auction, band_mean_price until 10:03:59, theo 100 @ 30.70, rests 100"
    play(_desk(), table.format(later="10:00:59", answer=called))
    play(_desk(), table.format(later="10:01:00", answer="trades 100 @ 30.70 with s2"))
    play(_desk(mean_window_seconds=59), table.format(later="10:00:59", answer="trades 100 @ 30.70 with s2"))


def test_the_static_band_lies_around_the_previous_close_and_steps_out_after_an_auction_beyond_it():
    desk = _desk("other", last="32.90")
    play(
        desk,
        """
        sell s1 100 @ 33.00            -> rests 100
        buy b1 100 @ 33.00             -> trades 100 @ 33.00 with s1
        sell s2 100 @ 33.01            -> rests 100
        buy b2 100 @ 33.01             -> PETR4 auction, band_static until 10:05:00, theo 100 @ 33.01, rests 100
        tick 10:05:00                  -> b2 x s2 100 @ 33.01, prints 100 @ 33.01, PETR4 open
        sell s3 100 @ 35.80            -> rests 100
        buy b3 100 @ 35.80             -> trades 100 @ 35.80 with s3
        tick 10:06:00                  ->
        sell s4 100 @ 36.01            -> rests 100
        buy b4 100 @ 36.01             -> PETR4 auction, band_static until 10:11:00, theo 100 @ 36.01, rests 100
        """,
    )
    told = [x for frame in desk.frames for x in frame if isinstance(x, e.BandsChanged)]
    assert [(x.static_low_ticks, x.static_high_ticks) for x in told] == [(2700, 3300), (2400, 3600)]
    assert [(x.rejection_low_ticks, x.rejection_high_ticks) for x in told] == [(2632, 3948), (2641, 3961)]


@pytest.mark.parametrize(
    ("price", "minutes"),
    # the day's move against 30.00: below 9 %, 9 %, 50 %, 100 %
    [("32.69", 3), ("32.70", 5), ("44.99", 5), ("45.00", 10), ("59.99", 10), ("60.00", 15)],
)
def test_an_auction_lasts_as_long_as_the_days_move_asks(price: str, minutes: int):
    bands = tuple((group, replace(row, rejection_bp=20_000)) for group, row in B3.bands_by_group)
    desk = _desk(last=None, bands_by_group=bands)
    desk.place("sell", "s1", 1, price)
    desk.place("buy", "b1", 1, price)
    status = [x for x in desk.frames[-1] if isinstance(x, e.StatusChanged)]
    assert [x.until_ns for x in status] == [seconds(f"10:{minutes:02d}")]


def test_the_band_follows_each_fill_or_stands_for_the_whole_command():
    table = """
        sell s1 100 @ 30.30            -> rests 100
        sell s2 100 @ 30.60            -> rests 100
        buy b1 200 @ 30.60             -> trades 100 @ 30.30 with s1, {second}
    """
    play(_desk(), table.format(second="trades 100 @ 30.60 with s2"))
    called = "PETR4 auction, band_last_price until 10:03:00, theo 100 @ 30.60, rests 100"
    play(_desk(auction_band_centre=AuctionBandCentre.COMMAND), table.format(second=called))


def test_no_bands_means_no_bands():
    play(
        _desk(bands=False),
        """
        sell s1 100 @ 90.00            -> rests 100
        buy b1 100 @ 90.00             -> trades 100 @ 90.00 with s1
        """,
    )


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        ("buy b1 300 @ mkt", "trades 100 @ 30.20 with s1, {}, theo 100 @ 31.00 buy+100, rests 200"),
        ("buy b1 300 @ 31.00 ioc", "trades 100 @ 30.20 with s1, {}, cancelled 200 ioc_remainder"),
        ("buy b1 200 @ 31.00 fok", "cancelled 200 fok"),
        ("buy b1 200 @ 31.00 min=101", "cancelled 200 min_quantity"),
        ("buy b1 200 @ 31.00 min=100", "trades 100 @ 30.20 with s1, {}, theo 100 @ 31.00, rests 100"),
    ],
)
def test_what_becomes_of_each_kind_of_aggressor(order: str, answer: str):
    called = "PETR4 auction, band_last_price until 10:03:00"
    play(
        _desk(),
        f"""
        sell s1 100 @ 30.20            -> rests 100
        sell s2 100 @ 31.00            -> rests 100
        {order}                        -> {answer.format(called)}
        """,
    )


def test_a_stop_that_would_leave_the_band_takes_the_instrument_to_auction_and_waits_there_as_a_market_order():
    play(
        _desk(),
        """
        buy x1 100 @ mkt stop=30.20    -> waits
        sell s1 100 @ 30.20            -> rests 100
        sell s2 100 @ 31.00            -> rests 100
        buy b1 100 @ 30.20 -> trades 100 @ 30.20 with s1, triggered x1, {call}
        tick 10:03:00                  -> x1 x s2 100 @ 31.00, prints 100 @ 31.00, PETR4 open
        """.format(call="PETR4 auction, band_last_price until 10:03:00, theo 100 @ 31.00"),
    )


def test_orders_good_for_the_auction_join_it_and_what_is_left_is_dropped():
    play(
        _desk(),
        """
        sell g1 300 @ 30.60 good_for_auction   -> waits
        sell s2 100 @ 31.00                    -> rests 100
        buy b1 100 @ 31.00 -> PETR4 auction, band_last_price until 10:03:00, theo 100 @ 30.60 sell+200, rests 100
        tick 10:03:00 -> b1 x g1 100 @ 30.60, prints 100 @ 30.60, cancelled g1 200 auction_remainder, PETR4 open
        """,
    )


def test_an_auction_that_meets_the_closing_call_becomes_a_part_of_it():
    desk = _desk()
    play(
        desk,
        """
        sell a1 50 @ 31.00 at_the_close    -> waits
        tick 16:54:00                      ->
        sell s2 100 @ 31.00                -> rests 100
        buy b1 150 @ 31.00 -> PETR4 auction, band_last_price until 16:57:00, theo 100 @ 31.00 buy+50, rests 150
        tick 16:55:00                      -> closing_call, PETR4 closing_call, theo 150 @ 31.00
        tick 16:57:00                      ->
        """,
    )
    assert desk.engine.next_due_ns(seconds("16:57")) == seconds("17:00")


def test_a_halted_auction_prints_when_it_is_resumed():
    play(
        _desk(),
        """
        sell s2 100 @ 31.00            -> rests 100
        buy b1 100 @ 31.00 -> PETR4 auction, band_last_price until 10:03:00, theo 100 @ 31.00, rests 100
        halt PETR4                     -> PETR4 halted
        tick 10:04:00                  ->
        resume PETR4                   -> PETR4 open, b1 x s2 100 @ 31.00, prints 100 @ 31.00
        """,
    )


def test_a_new_day_brings_the_static_band_back_and_forgets_the_minute():
    desk = _desk()
    play(
        desk,
        """
        sell s2 100 @ 33.10            -> rests 100
        buy b1 100 @ 33.10 -> PETR4 auction, band_last_price until 10:05:00, theo 100 @ 33.10, rests 100
        uncross                        -> b1 x s2 100 @ 33.10, prints 100 @ 33.10, PETR4 open
        """,
    )
    assert desk.engine._state.instruments["PETR4"].static_step == 1
    config = desk.engine.config
    assert config is not None
    assert config.business_date == DATE
    desk.configure(replace(config, business_date="2026-11-24"))
    instrument = desk.engine._state.instruments["PETR4"]
    assert (instrument.static_step, instrument.recent, instrument.recent_shares) == (0, (), 0)


def test_the_widths_are_data():
    wide = tuple((group, replace(row, auction_last_bp=5000, auction_mean_bp=5000)) for group, row in B3.bands_by_group)
    table = """
        sell s1 1 @ 33.01              -> rests 1
        buy b1 1 @ 33.01               -> {}
    """
    called = "PETR4 auction, band_static until {}, theo 1 @ 33.01, rests 1"
    play(_desk(bands_by_group=wide), table.format(called.format("10:05:00")))
    play(_desk(bands_by_group=wide, auction_durations=((0, 1),)), table.format(called.format("10:00:01")))
    check_book(table.format("trades 1 @ 33.01 with s1"), rules=replace(B3, bands=False))
