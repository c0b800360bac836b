"""Call auctions: the worked ones under every switch, brute force over every tick, locks, what is dropped."""

from __future__ import annotations

import random
from itertools import product

import pytest

from mybroker.domain.money import format_ticks
from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from mybroker.domain.rules import AuctionCandidates, AuctionInterval, Rules
from services.b3_matcher.engine.auction import Interest, uncrossing
from tests.exchange.desk import Desk, check_book, parse, say

LIMITS, TICKS = AuctionCandidates.LIMITS, AuctionCandidates.TICKS
WIDE, NARROW = AuctionInterval.WIDE, AuctionInterval.NARROW
EVERY_SWITCH = tuple(product(AuctionCandidates, AuctionInterval))

X4 = "B MO 100; B 100@199; S MO 100; S 100@202"
C6 = "B 25@100; B 25@97; S 25@98; S 25@95"
E3 = "B MO 40; S 40@9.98"
X1 = "B 200@202; B 200@201; B 300@200; S 100@200; S 200@198; S 400@197"
X6 = "B MO 900; S MO 800"
X7 = "B 80@200; B 80@199; S 80@201"
N1 = (
    "B 13500@103; B 9500@104; B 12000@105; B 6500@106; B 5000@107; B 4000@108; "
    "S 11500@103; S 9800@104; S 15000@105; S 12000@106; S 12500@107"
)
H1 = "B 200@24.05; B 1000@24.00; B 400@23.95; S 400@23.95; S 600@24.00; S 400@24.05; S 400@24.05"
B1 = "B 300@10.05; S 300@10.00"

UNDER_EVERY_SWITCH = [
    ("X1", X1, "150", "200.00", 700),
    ("X1", X1, "300", "200.00", 700),
    ("X6", X6, "250", "250.00", 800),
    ("X6", X6, "99", "99.00", 800),
    ("X7", X7, "200", None, 0),
    ("X8", "B 300@200; B 300@200; S 400@200", "100", "200.00", 400),
    ("N1", N1, "100", "105.00", 27500),
    ("N1", N1, "110", "105.00", 27500),
    ("H1", H1, "24.10", "24.00", 1000),
    ("H1", H1, "23.90", "24.00", 1000),
    ("C1", "B 150@100; B 150@98; S 250@98; S 50@97", "90", "98.00", 300),
    ("C2", "B 150@100; B 50@99; B 300@97; S 200@97; S 100@96", "99", "97.00", 300),
    ("B1", B1, "10.03", "10.03", 300),
    ("B1", B1, "9.90", "10.00", 300),
    ("B1", B1, "10.10", "10.05", 300),
]

UNDER_ONE_SWITCH = [
    ("X4", X4, "199", LIMITS, None, "199.00"),
    ("X4", X4, "200", LIMITS, None, "200.00"),
    ("X4", X4, "199", TICKS, None, "199.01"),
    ("X4", X4, "200", TICKS, None, "200.00"),
    ("C6", C6, "99", LIMITS, WIDE, "99.00"),
    ("C6", C6, "97", LIMITS, WIDE, "97.00"),
    ("C6", C6, "99", LIMITS, NARROW, "98.00"),
    ("C6", C6, "97", LIMITS, NARROW, "97.00"),
    ("C6", C6, "99", TICKS, None, "97.99"),
    ("C6", C6, "97", TICKS, None, "97.01"),
    ("E3", E3, "10", LIMITS, None, "9.98"),
    ("E3", E3, "10", TICKS, None, "10.00"),
]


def _rows() -> list[tuple[str, str, str, AuctionCandidates, AuctionInterval, str | None, int | None]]:
    rows: list[tuple[str, str, str, AuctionCandidates, AuctionInterval, str | None, int | None]] = [
        (name, orders, reference, candidates, interval, price, quantity)
        for (name, orders, reference, price, quantity), (candidates, interval) in product(
            UNDER_EVERY_SWITCH, EVERY_SWITCH
        )
    ]
    for name, orders, reference, candidates, interval, price in UNDER_ONE_SWITCH:
        rows += [
            (name, orders, reference, candidates, one, price, None)
            for one in (AuctionInterval if interval is None else (interval,))
        ]
    return rows


@pytest.mark.parametrize(("name", "orders", "reference", "candidates", "interval", "price", "quantity"), _rows())
def test_a_worked_auction_prints_as_worked(name, orders, reference, candidates, interval, price, quantity):
    rules = Rules(lot=1, bands=False, auction_candidates=candidates, auction_interval=interval)
    desk = Desk(phase=Phase.PRE_OPEN, rules=rules, reference=reference)
    for number, text in enumerate(orders.split("; ")):
        side, rest = text.split(" ", 1)
        shares, at = rest.removeprefix("MO ").split("@") if "@" in rest else (rest.removeprefix("MO "), None)
        desk.place("buy" if side == "B" else "sell", f"o{number}", int(shares), at)
    view = desk.engine.book("PETR4")
    printed = say(desk, desk.do(parse("uncross", desk)), ["uncross"])
    if price is None:
        assert "no print" in printed, name
        assert view.theoretical_price_ticks is None
    else:
        said = [part for part in printed.split(", ") if part.startswith("prints")]
        assert len(said) == 1
        assert said[0].endswith(f"@ {price}"), name
        assert quantity is None or said[0] == f"prints {quantity} @ {price}"
        assert view.theoretical_quantity_shares == int(said[0].split()[1]), "the theoretical price was the print"


def _generated(rng: random.Random, protections: bool) -> tuple[Interest, Interest]:
    def limits() -> list[tuple[int, int]]:
        return [(rng.randint(90, 110), rng.randint(1, 5) * 10) for _ in range(rng.randint(0, 6))]

    def market() -> list[tuple[int | None, int]]:
        return [
            (rng.randint(90, 110) if protections and rng.random() < 0.5 else None, rng.randint(1, 5) * 10)
            for _ in range(rng.choice((0, 0, 1, 2)))
        ]

    return Interest(limits=limits(), market=market()), Interest(limits=limits(), market=market())


def _at(buys: Interest, sells: Interest, price: int) -> tuple[int, int]:
    demand = sum(n for limit, n in buys.limits if limit >= price)
    demand += sum(n for limit, n in buys.market if limit is None or limit >= price)
    supply = sum(n for limit, n in sells.limits if limit <= price)
    supply += sum(n for limit, n in sells.market if limit is None or limit <= price)
    return min(demand, supply), abs(demand - supply)


@pytest.mark.parametrize(("candidates", "interval"), EVERY_SWITCH)
@pytest.mark.parametrize("protections", [False, True])
def test_no_tick_trades_more_and_no_candidate_that_trades_as_much_leaves_less_over(candidates, interval, protections):
    printed = 0
    for seed in range(500):
        rng = random.Random(seed)
        buys, sells = _generated(rng, protections)
        reference = rng.choice((None, rng.randint(85, 115)))
        result = uncrossing(buys, sells, reference_ticks=reference, candidates=candidates, interval=interval)
        every_tick = range(80, 125)
        most = max(_at(buys, sells, price)[0] for price in every_tick)
        if result is None:
            no_price_at_all = reference is None and not buys.limits and not sells.limits
            assert most == 0 or no_price_at_all, f"seed {seed}"
            continue
        printed += 1
        volume, left = _at(buys, sells, result.price_ticks)
        assert (result.quantity_shares, abs(result.imbalance_shares)) == (volume, left), f"seed {seed}"
        assert volume == most > 0, f"seed {seed}: {result} but {most} could trade"
        limits = {price for price, _ in (*buys.limits, *sells.limits)}
        for price in every_tick if candidates is TICKS else sorted(limits):
            other_volume, other_left = _at(buys, sells, price)
            assert other_volume < most or other_left >= left, f"seed {seed}: {price} leaves less than {result}"
    assert printed > 250, "the generator must make books that cross"


def test_step_three_takes_the_allowed_price_closest_to_the_reference():
    for seed in range(500):
        rng = random.Random(seed)
        buys, sells = _generated(rng, False)
        reference = rng.randint(85, 115)
        result = uncrossing(buys, sells, reference_ticks=reference, candidates=TICKS, interval=WIDE)
        if result is None:
            continue
        best = min(
            ((-_at(buys, sells, p)[0], _at(buys, sells, p)[1], abs(p - reference)) for p in range(80, 125)),
        )
        volume, left = _at(buys, sells, result.price_ticks)
        # Where the surplus changes sides, the reference may fall between two tied ticks; nothing is between ticks.
        assert (-volume, left) == best[:2], f"seed {seed}"
        assert abs(result.price_ticks - reference) == best[2], f"seed {seed}"


def test_market_orders_fill_first_then_better_limits_then_older_ones():
    check_book(
        """
        sell s1 100 @ 30.00        -> rests 100
        buy b1 100 @ 30.00         -> theo 100 @ 30.00, rests 100
        buy b2 100 @ 30.01         -> theo 100 @ 30.01, rests 100
        buy b3 50 @ mkt            -> theo 100 @ 30.01 buy+50, rests 50
        uncross                    -> b3 x s1 50 @ 30.01, b2 x s1 50 @ 30.01, prints 100 @ 30.01, PETR4 open
        book                       -> buy b2 50 @ 30.01; buy b1 100 @ 30.00
        """,
        phase=Phase.PRE_OPEN,
    )


def test_what_is_left_of_market_and_auction_orders_is_dropped():
    check_book(
        """
        buy b1 100 @ mkt                   -> rests 100
        buy b2 100 @ 30.00 good_for_auction  -> rests 100
        sell s1 50 @ 29.00                 -> theo 50 @ 30.00 buy+150, rests 50
        phase open -> b1 x s1 50 @ 30.00, prints 50 @ 30.00, {drops}, open
        book                               -> empty
        """.format(drops="cancelled b1 50 auction_remainder, cancelled b2 100 auction_remainder"),
        phase=Phase.PRE_OPEN,
    )


def test_a_protected_market_order_never_fills_beyond_its_price_in_an_auction():
    check_book(
        """
        buy b1 100 @ mkt protection=29.50  -> rests 100
        sell s1 100 @ 29.80                -> rests 100
        sell s2 100 @ 29.40                -> theo 100 @ 29.40, rests 100
        uncross                            -> b1 x s2 100 @ 29.40, prints 100 @ 29.40, PETR4 open
        book                               -> sell s1 100 @ 29.80
        """,
        phase=Phase.PRE_OPEN,
    )


def test_limits_that_still_cross_after_a_protected_market_order_is_dropped_are_printed_again():
    check_book(
        """
        buy b1 200 @ mkt protection=29.00  -> rests 200
        buy b2 50 @ 30.10                  -> rests 50
        sell s1 100 @ 29.00                -> theo 100 @ 29.00 buy+150, rests 100
        sell s2 30 @ 30.05                 -> rests 30
        uncross -> b1 x s1 100 @ 29.00, prints 100 @ 29.00, {again}
        book                               -> buy b2 20 @ 30.10
        """.format(again="cancelled b1 100 auction_remainder, b2 x s2 30 @ 30.05, prints 30 @ 30.05, PETR4 open"),
        phase=Phase.PRE_OPEN,
    )


def test_orders_at_or_through_the_theoretical_price_are_locked():
    check_book(
        """
        buy b1 100 @ 30.00             -> rests 100
        sell s1 200 @ 30.00            -> theo 100 @ 30.00 sell+100, rests 200
        buy b2 100 @ 29.00             -> rests 100
        buy b3 100 @ mkt               -> theo 200 @ 30.00, rests 100
        cancel b1 rev=2                -> locked_in_auction
        cancel b3 rev=2                -> locked_in_auction
        replace b1 50 @ - rev=3        -> locked_in_auction
        replace b1 - @ 29.99 rev=4     -> locked_in_auction
        replace b1 - @ 30.01 rev=5     -> lost place, rests 100
        replace s1 300 @ - rev=2       -> lost place, theo 200 @ 30.00 sell+100, rests 300
        mass_cancel P1                 -> cancelled b2 100 mass_cancel, mass cancelled 1
        halt PETR4                     -> PETR4 halted
        cancel b1 rev=6                -> cancelled 100
        """,
        phase=Phase.PRE_OPEN,
    )


def test_the_theoretical_price_is_told_when_it_changes_and_only_then():
    check_book(
        """
        buy b1 100 @ 30.00             -> rests 100
        sell s1 100 @ 30.10            -> rests 100
        sell s2 100 @ 29.90            -> theo 100 @ 30.00, rests 100
        buy b2 100 @ 20.00             -> rests 100
        cancel b2 rev=2                -> cancelled 100
        buy b3 100 @ 30.00             -> theo 100 @ 30.00 buy+100, rests 100
        """,
        phase=Phase.PRE_OPEN,
    )


def test_an_auction_uses_the_last_trade_before_the_reference():
    for last, price in (("10.03", "10.03"), ("9.90", "10.00"), (None, "10.05")):
        desk = Desk(phase=Phase.PRE_OPEN, reference="11.00", last=last)
        desk.place(Side.BUY, "b", 300, "10.05")
        desk.place(Side.SELL, "s", 300, "10.00")
        theoretical = desk.engine.book("PETR4").theoretical_price_ticks
        assert theoretical is not None
        assert format_ticks(theoretical) == price
