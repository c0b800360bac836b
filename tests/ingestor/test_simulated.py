"""Simulated prices can be looked up in any order, stay sane, and trade most early and late."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from mybroker.domain.money import parse_price_ticks
from mybroker.domain.schedule import HOURS_PRESETS, local_instant_ns
from services.b3_ingestor.computed import ComputedSource
from services.b3_ingestor.noise import GRID_STEPS, PPM, bridge_ppm, normal_milli, volume_share_ppm
from services.b3_ingestor.simulated import simulated_days

MONDAY = date(2026, 11, 23)
REFERENCES = {"PETR4": 3800, "VALE3": 6500, "COGN3": 300, "PENNY3": 1}


def source(seed: int = 7) -> ComputedSource:
    days = simulated_days(seed, REFERENCES)
    return ComputedSource("simulated", "local.pregao", HOURS_PRESETS["b3-summer"], days)


def slot(day: date, minutes: int) -> int:
    return local_instant_ns(day, minutes) // 1_000_000_000


def price(of: ComputedSource, ticker: str, day: date, minutes: int) -> int:
    quote = of.quote(ticker, slot(day, minutes))
    assert quote is not None
    ticks = parse_price_ticks(quote.price)
    assert isinstance(ticks, int)
    return ticks


def test_a_slots_quote_is_the_same_in_any_order_and_in_any_process() -> None:
    slots = [(ticker, slot(MONDAY, minutes)) for minutes in range(580, 1090, 9) for ticker in ("VALE3", "PETR4")]
    one, other = source(), source()

    there = [one.quote(*named) for named in slots]
    back = [other.quote(*named) for named in reversed(slots)]

    assert there == back[::-1]


def test_these_prices_stay_what_they_were_so_that_a_recorded_day_can_be_had_again() -> None:
    of = source()
    assert [price(of, "PETR4", MONDAY, minutes) for minutes in (590, 640, 820, 1079)] == [3800, 3776, 3776, 3707]


def test_every_day_opens_at_the_reference_and_goes_its_own_way() -> None:
    of = source()
    days = [MONDAY + timedelta(days=number) for number in range(12)]

    assert {price(of, "PETR4", day, 600) for day in days} == {3800}
    assert len({price(of, "PETR4", day, 1079) for day in days}) > 8
    assert len({price(source(seed), "PETR4", MONDAY, 1079) for seed in range(12)}) > 8


@pytest.mark.parametrize("ticker", REFERENCES)
def test_prices_stay_within_nine_per_cent_of_their_reference(ticker: str) -> None:
    of, reference = source(), REFERENCES[ticker]
    for days in range(0, 1500, 137):
        ticks = price(of, ticker, MONDAY + timedelta(days=days), 1075)
        assert max(1, reference * 90 // 100) <= ticks <= reference * 110 // 100


def test_shares_move_with_the_index() -> None:
    of, agree = source(), 0
    for number in range(100):
        day = MONDAY + timedelta(days=number)
        moves = [price(of, ticker, day, 1079) - REFERENCES[ticker] for ticker in ("PETR4", "VALE3")]
        agree += (moves[0] > 0) == (moves[1] > 0)
    assert agree > 55, f"on only {agree} of 100 days both went the same way"


def test_volume_is_a_u_and_never_falls() -> None:
    shares = [volume_share_ppm(step, 100) for step in range(101)]
    hours = [shares[(hour + 1) * 10] - shares[hour * 10] for hour in range(10)]

    assert (shares[0], shares[-1]) == (0, PPM)
    assert shares == sorted(shares)
    assert hours[0] > 2 * hours[5] < hours[-1]


def test_a_bridge_begins_and_ends_where_it_should_and_spreads_as_asked() -> None:
    middles = [bridge_ppm(0, 0, 10_000, "seed", number)[GRID_STEPS // 2] for number in range(300)]
    deviation = (sum(middle * middle for middle in middles) // len(middles)) ** 0.5

    assert bridge_ppm(5, -7, 10_000, 1)[0] == 5
    assert bridge_ppm(5, -7, 10_000, 1)[-1] == -7
    assert 4_300 < deviation < 5_700  # half of a free day's, at the middle


def test_normal_numbers_are_normal_enough() -> None:
    numbers = [normal_milli("n", number) for number in range(4_000)]
    mean = sum(numbers) / len(numbers)
    deviation = (sum(number * number for number in numbers) / len(numbers)) ** 0.5

    assert abs(mean) < 60
    assert 950 < deviation < 1_050


def test_a_ticker_without_a_reference_is_not_known() -> None:
    assert source().quote("NOPE3", slot(MONDAY, 700)) is None
