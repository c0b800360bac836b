"""COTAHIST is read to the last record or not at all; a walk goes through the four real prices."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from mybroker.contracts.cotahist import CotahistError, parse_cotahist, read_cotahist, totals
from mybroker.domain.schedule import HOURS_PRESETS, local_instant_ns
from mybroker.testing.cotahist_file import Day, cotahist_lines, write_cotahist
from services.b3_ingestor.computed import ComputedSource
from services.b3_ingestor.cotahist import cotahist_days, load_cash_day

FRIDAY = date(2024, 11, 8)
MONDAY = date(2026, 11, 23)
PETR4 = Day(ticker="PETR4", open=3585, high=3632, low=3554, close=3618, trades=80702, quantity=49_792_700, average=3596)
DAYS = (
    PETR4,
    Day(ticker="PETR4F", open=3585, high=3630, low=3555, close=3617, market=20, bdi="96"),
    Day(ticker="SMLL11", open=12345, high=12400, low=12300, close=12355, quotation_factor=10),
    Day(ticker="FNAM11", open=36, high=36, low=36, close=36, quotation_factor=1000),
)
HOURS = HOURS_PRESETS["b3-summer"]


@pytest.mark.parametrize("name", ["COTAHIST_D08112024.TXT", "COTAHIST_D08112024.ZIP"])
def test_what_was_written_is_read_from_text_and_zip(tmp_path: Path, name: str) -> None:
    records = list(read_cotahist(write_cotahist(tmp_path / name, DAYS, FRIDAY)))

    assert [record.ticker for record in records] == [day.ticker for day in DAYS]
    petr4 = records[0]
    assert (petr4.open_hundredths, petr4.high_hundredths, petr4.low_hundredths) == (3585, 3632, 3554)
    assert (petr4.trades, petr4.quantity_shares, petr4.day) == (80702, 49_792_700, FRIDAY)
    assert totals(records).trades == 80705


def test_prices_are_divided_by_the_quotation_factor() -> None:
    by_ticker = {record.ticker: record for record in parse_cotahist(cotahist_lines(DAYS, FRIDAY))}

    assert by_ticker["SMLL11"].price_ticks(12345) == 1235  # 12.345 a share, half a tick up
    assert by_ticker["SMLL11"].price_ticks(12344) == 1234
    assert by_ticker["FNAM11"].price_ticks(36) == 0
    assert by_ticker["PETR4"].price_ticks(3585) == 3585


LINES = cotahist_lines(DAYS[:2], FRIDAY)
BROKEN_FILES = {
    "a short line": ([LINES[0], LINES[1][:-1], *LINES[2:]], 2, "245 characters"),
    "no header": (LINES[1:], 1, "the header"),
    "no trailer": (LINES[:-1], 3, "the trailer"),
    "a record lost": ([LINES[0], *LINES[2:]], 3, "counts 3 lines"),
    "a line after the trailer": ([*LINES, LINES[1]], 5, "nothing after"),
    "a letter in a price": ([LINES[0], LINES[1][:60] + "x" + LINES[1][61:], *LINES[2:]], 2, "digits in PREABE"),
    "a month thirteen": ([LINES[0], LINES[1][:6] + "13" + LINES[1][8:], *LINES[2:]], 2, "a date AAAAMMDD"),
    "a low above the open": ([LINES[0], LINES[1][:82] + "0000000003600" + LINES[1][95:], *LINES[2:]], 2, "within low"),
    "a quotation factor of zero": ([LINES[0], LINES[1][:210] + "0000000" + LINES[1][217:], *LINES[2:]], 2, "FATCOT"),
    "an unknown kind of record": ([LINES[0], "02" + LINES[1][2:], *LINES[2:]], 2, "a record 01"),
    "nothing at all": ([], 0, "the trailer"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_names_its_line_and_what_was_expected(case: str) -> None:
    lines, line_number, expected = BROKEN_FILES[case]

    with pytest.raises(CotahistError, match=expected) as error:
        list(parse_cotahist(lines))

    assert error.value.line_number == line_number


def test_the_cash_day_leaves_out_odd_lots_and_prices_below_a_tick(tmp_path: Path) -> None:
    assert sorted(load_cash_day(write_cotahist(tmp_path / "day.zip", DAYS, FRIDAY))) == ["PETR4", "SMLL11"]


def source(seed: int = 7) -> ComputedSource:
    records = {record.ticker: record for record in parse_cotahist(cotahist_lines([PETR4], FRIDAY))}
    return ComputedSource("cotahist", "local.pregao", HOURS, cotahist_days(seed, records))


def slot(minutes: int, seconds: int = 0) -> int:
    return local_instant_ns(MONDAY, minutes) // 1_000_000_000 + seconds


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_goes_from_the_open_through_low_and_high_to_the_close(seed: int) -> None:
    day = cotahist_days(seed, {"PETR4": next(parse_cotahist(cotahist_lines([PETR4], FRIDAY)))})("PETR4", MONDAY)

    assert day is not None
    assert (day.prices_ticks[0], day.prices_ticks[-1]) == (3585, 3618)
    assert (min(day.prices_ticks), max(day.prices_ticks)) == (3554, 3632)
    steps = [abs(b - a) for a, b in zip(day.prices_ticks, day.prices_ticks[1:], strict=False)]
    assert max(steps) < 60, f"seed {seed}: a jump of {max(steps)} ticks"
    assert len(set(day.prices_ticks)) > 30, f"seed {seed}: it hardly moves"


def test_a_walks_quote_depends_on_seed_ticker_and_slot_alone() -> None:
    backwards = source()
    slots = [slot(minutes) for minutes in range(585, 1085, 7)]
    there = [source().quote("PETR4", one) for one in slots]
    back = [backwards.quote("PETR4", one) for one in reversed(slots)]

    assert there == back[::-1]
    assert there != [source(seed=8).quote("PETR4", one) for one in slots]


def test_at_the_close_the_whole_days_volume_and_range_are_quoted() -> None:
    closed = source().quote("PETR4", slot(1080))

    assert closed is not None
    assert (closed.open, closed.low, closed.high, closed.price) == ("35.85", "35.54", "36.32", "36.18")
    assert closed.volume == 49_792_700


def test_before_the_open_the_open_is_quoted_without_volume() -> None:
    early = source().quote("PETR4", slot(590))

    assert early is not None
    assert (early.price, early.volume, early.high) == ("35.85", 0, None)


@pytest.mark.shared
def test_the_real_file_adds_up_to_its_published_totals(shared_data: Path) -> None:
    records = list(read_cotahist(shared_data / "cotahist" / "COTAHIST_D08112024.ZIP"))
    cash = totals(record for record in records if record.market == 10)
    everything = totals(records)

    assert everything.records == 12_226
    assert (everything.trades, everything.turnover_cents) == (4_631_037, 3_001_349_491_234)
    assert (cash.records, cash.trades, cash.turnover_cents) == (1_341, 3_765_304, 2_872_339_208_920)
    assert sum(record.market == 20 for record in records) == 398
    assert all(record.ticker.endswith("F") for record in records if record.market == 20)
    petr4 = next(record for record in records if record.ticker == "PETR4" and record.market == 10)
    assert (petr4.open_hundredths, petr4.close_hundredths, petr4.average_hundredths) == (3585, 3618, 3596)
    assert (petr4.trades, petr4.quantity_shares, petr4.turnover_cents) == (80_702, 49_792_700, 179_087_057_000)


@pytest.mark.shared
def test_every_real_average_is_turnover_over_quantity(shared_data: Path) -> None:
    for record in read_cotahist(shared_data / "cotahist" / "COTAHIST_D08112024.ZIP"):
        # Within 0.011 as published: |turnover * factor - average * quantity| <= 1.1 cents * quantity, in tenths.
        difference = (
            record.turnover_cents * record.quotation_factor - record.average_hundredths * record.quantity_shares
        )
        assert abs(difference) * 10 <= 11 * record.quantity_shares * record.quotation_factor, record.ticker


@pytest.mark.shared
def test_every_real_cash_ticker_walks_its_own_day(shared_data: Path) -> None:
    records = load_cash_day(shared_data / "cotahist" / "COTAHIST_D08112024.ZIP")
    day_of = cotahist_days(7, records)
    for ticker in sorted(records)[::40]:
        record, day = records[ticker], day_of(ticker, MONDAY)
        assert day is not None
        printed = [record.open_hundredths, record.low_hundredths, record.high_hundredths, record.close_hundredths]
        walked = [day.prices_ticks[0], min(day.prices_ticks), max(day.prices_ticks), day.prices_ticks[-1]]
        assert walked == [record.price_ticks(price) for price in printed], ticker
