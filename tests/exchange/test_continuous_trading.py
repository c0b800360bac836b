"""Continuous trading as a desk sees it: price, then time, at the resting price."""

from __future__ import annotations

import pytest

from mybroker.domain.order import SelfTradePrevention
from mybroker.domain.rules import Rules
from tests.exchange.desk import check_book


def test_a_buyer_takes_the_best_price_first_and_rests_what_is_left():
    check_book("""
        sell s1 100 @ 30.02        -> rests 100
        sell s2 100 @ 30.01        -> rests 100
        buy b1 300 @ 30.02         -> trades 100 @ 30.01 with s2, trades 100 @ 30.02 with s1, rests 100
        book                       -> buy b1 100 @ 30.02
        buy b1 300 @ 30.02         -> duplicate
        cancel b1 rev=2            -> cancelled 100
        book                       -> empty
    """)


def test_a_seller_takes_the_oldest_of_equal_bids_first():
    check_book("""
        buy b1 100 @ 30.00         -> rests 100
        buy b2 100 @ 30.00         -> rests 100
        buy b3 100 @ 30.01         -> rests 100
        sell s1 250 @ 29.90        -> trades 100 @ 30.01 with b3, trades 100 @ 30.00 with b1, trades 50 @ 30.00 with b2
        book                       -> buy b2 50 @ 30.00
    """)


def test_an_ioc_order_trades_at_once_and_the_rest_is_cancelled():
    check_book("""
        sell s1 100 @ 30.02        -> rests 100
        buy b1 300 @ 30.02 ioc     -> trades 100 @ 30.02 with s1, cancelled 200 ioc_remainder
        buy b2 300 @ 30.02 ioc     -> cancelled 300 ioc_remainder
        book                       -> empty
    """)


def test_a_fok_order_trades_whole_or_not_at_all():
    check_book("""
        sell s1 100 @ 30.02        -> rests 100
        sell s2 100 @ 30.03        -> rests 100
        buy b1 200 @ 30.02 fok     -> cancelled 200 fok
        buy b2 201 @ 30.03 fok     -> cancelled 201 fok
        buy b3 200 @ 30.03 fok     -> trades 100 @ 30.02 with s1, trades 100 @ 30.03 with s2
    """)


def test_a_minimum_quantity_is_met_at_entry_or_the_order_is_cancelled():
    check_book("""
        sell s1 100 @ 30.02                -> rests 100
        buy b1 300 @ 30.02 min=101         -> cancelled 300 min_quantity
        buy b2 300 @ 30.02 min=100         -> trades 100 @ 30.02 with s1, rests 200
        buy b3 300 @ 30.02 min=301         -> min_quantity_invalid
    """)


def test_what_is_left_of_a_market_order_rests_at_the_last_traded_price():
    desk = check_book("""
        buy b1 100 @ mkt           -> no_opposite_price
        sell s1 100 @ 30.02        -> rests 100
        sell s2 100 @ 30.05        -> rests 100
        buy b2 300 @ mkt           -> trades 100 @ 30.02 with s1, trades 100 @ 30.05 with s2, rests 100
        book                       -> buy b2 100 @ 30.05
        sell s3 300 @ mkt ioc      -> trades 100 @ 30.05 with b2, cancelled 200 ioc_remainder
    """)
    assert desk.engine.book("PETR4").last_price_ticks == 3005


def test_a_market_order_never_trades_beyond_its_protection_price():
    check_book("""
        sell s1 100 @ 30.02                    -> rests 100
        sell s2 100 @ 30.05                    -> rests 100
        buy b1 300 @ mkt protection=30.01      -> no_opposite_price
        buy b2 300 @ mkt protection=30.04      -> trades 100 @ 30.02 with s1, rests 200
        book                                   -> buy b2 200 @ 30.02; sell s2 100 @ 30.05
        sell s3 300 @ mkt protection=30.03     -> no_opposite_price
    """)


def test_a_replace_keeps_its_place_only_without_a_new_price_or_more_shares():
    check_book("""
        buy b1 200 @ 30.00                 -> rests 200
        buy b2 200 @ 30.00                 -> rests 200
        buy b3 200 @ 30.00                 -> rests 200
        replace b1 100 @ 30.00 rev=2       -> kept place, rests 100
        replace b1 - @ - gtc rev=3         -> lost place, rests 100
        replace b2 300 @ - rev=2           -> lost place, rests 300
        book                               -> buy b3 200 @ 30.00; buy b1 100 @ 30.00; buy b2 300 @ 30.00
        replace b3 200 @ 30.01 rev=2       -> lost place, rests 200
        book                               -> buy b3 200 @ 30.01; buy b1 100 @ 30.00; buy b2 300 @ 30.00
    """)


def test_a_replace_to_a_crossing_price_trades_as_an_aggressor():
    check_book("""
        sell s1 100 @ 30.05                -> rests 100
        buy b1 200 @ 30.00                 -> rests 200
        replace b1 200 @ 30.05 rev=2       -> lost place, trades 100 @ 30.05 with s1, rests 100
    """)


def test_a_replaces_quantity_is_the_new_total():
    check_book("""
        buy b1 300 @ 30.00                 -> rests 300
        sell s1 100 @ 30.00                -> trades 100 @ 30.00 with b1
        replace b1 250 @ - rev=2           -> kept place, rests 150
        replace b1 100 @ - rev=3           -> cancelled 150 replaced_to_filled
        replace b1 500 @ - rev=4           -> too_late
        cancel b1 rev=5                    -> too_late
        book                               -> empty
    """)


@pytest.mark.parametrize(
    ("instruction", "answer", "book"),
    [
        ("stp_none", "trades 100 @ 30.00 with b1, trades 100 @ 30.00 with b2", "empty"),
        ("cancel_aggressor", "cancelled 200 self_trade", "buy b1 100 @ 30.00; buy b2 100 @ 30.00"),
        ("cancel_resting", "cancelled b1 100 self_trade, trades 100 @ 30.00 with b2, rests 100", "sell s1 100 @ 30.00"),
        ("cancel_both", "cancelled b1 100 self_trade, cancelled 200 self_trade", "buy b2 100 @ 30.00"),
    ],
)
def test_an_investor_does_not_trade_with_itself(instruction: str, answer: str, book: str):
    check_book(f"""
        buy b1 100 @ 30.00 account=A participant=P2             -> rests 100
        buy b2 100 @ 30.00                                      -> rests 100
        sell s1 200 @ 30.00 account=A {instruction}             -> {answer}
        book                                                    -> {book}
    """)


def test_the_rules_say_what_prevents_self_trades_where_the_order_does_not():
    table = """
        buy b1 100 @ 30.00 account=A       -> rests 100
        sell s1 100 @ 30.00 account=A      -> {}
    """
    check_book(table.format("cancelled 100 self_trade"))
    check_book(
        table.format("trades 100 @ 30.00 with b1"), rules=Rules(lot=1, bands=False, stp=SelfTradePrevention.NONE)
    )


def test_a_market_order_left_alone_by_self_trade_prevention_is_cancelled():
    check_book("""
        sell s1 100 @ 30.00 account=A              -> rests 100
        buy b1 100 @ mkt account=A cancel_resting  -> cancelled s1 100 self_trade, cancelled 100 no_opposite_price
    """)


def test_the_first_trade_after_an_own_fill_is_still_prevented():
    check_book("""
        sell s1 100 @ 30.00                -> rests 100
        sell s2 100 @ 30.00 account=A      -> rests 100
        buy b1 300 @ 30.00 account=A       -> trades 100 @ 30.00 with s1, cancelled 200 self_trade
        book                               -> sell s2 100 @ 30.00
    """)


def test_a_fok_order_counts_only_what_self_trade_prevention_lets_it_have():
    check_book("""
        sell s1 100 @ 30.00 account=A                      -> rests 100
        sell s2 100 @ 30.01                                -> rests 100
        buy b1 200 @ 30.01 fok account=A                   -> cancelled 200 fok
        buy b2 200 @ 30.01 fok account=A cancel_resting    -> cancelled 200 fok
        buy b3 200 @ 30.01 fok account=A stp_none          -> trades 100 @ 30.00 with s1, trades 100 @ 30.01 with s2
    """)


def test_a_mass_cancel_takes_one_participants_orders_and_counts_them():
    check_book("""
        buy b1 100 @ 30.00                     -> rests 100
        buy b2 100 @ 29.00 participant=P2      -> rests 100
        sell s1 100 @ 31.00                    -> rests 100
        mass_cancel P1 -> cancelled b1 100 mass_cancel, cancelled s1 100 mass_cancel, mass cancelled 2
        book                                   -> buy b2 100 @ 29.00
        mass_cancel P1                         -> mass cancelled 0
    """)
