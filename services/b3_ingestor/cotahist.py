"""A real day walked again: from each ticker's real open through its real low and high to its real close.

COTAHIST gives four prices and a volume a day; between them the walk is seeded, never outside the day's real range, and
touches low and high once each at least. Every day of a session repeats the file's day with another walk. The file of
a single day has no previous close: the catalogue's reference stands. What is quoted below a tick a share is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from mybroker.contracts.cotahist import MARKET_CASH, DailyRecord, read_cotahist
from services.b3_ingestor.computed import Day, DayOf
from services.b3_ingestor.noise import GRID_STEPS, PPM, bridge_ppm, uniform

NAME = "cotahist"
WALK_DEVIATION_PPM = 8_000
_EARLIEST_STEP = GRID_STEPS // 16
_LATEST_STEP = GRID_STEPS - GRID_STEPS // 16


def load_cash_day(path: Path) -> dict[str, DailyRecord]:
    """Read the cash market's records by ticker, of the last day in the file; raises CotahistError, OSError."""
    records: dict[str, DailyRecord] = {}
    for record in read_cotahist(path):
        if record.market != MARKET_CASH or record.price_ticks(record.low_hundredths) < 1:
            continue
        known = records.get(record.ticker)
        if known is None or record.day >= known.day:
            records[record.ticker] = record
    return records


def cotahist_days(seed: int, records: Mapping[str, DailyRecord]) -> DayOf:
    """Return the function that gives a ticker's day; None for a ticker the file has not."""

    def day_of(ticker: str, day: date) -> Day | None:
        record = records.get(ticker)
        return None if record is None else _walked(seed, record, day)

    return day_of


def tickers_missing(records: Mapping[str, DailyRecord], tickers: Iterable[str]) -> tuple[str, ...]:
    """Return which tickers the file has not."""
    return tuple(ticker for ticker in tickers if ticker not in records)


def _walked(seed: int, record: DailyRecord, day: date) -> Day:
    open_ticks = record.price_ticks(record.open_hundredths)
    low_ticks = record.price_ticks(record.low_hundredths)
    high_ticks = record.price_ticks(record.high_hundredths)
    close_ticks = record.price_ticks(record.close_hundredths)
    name = (seed, record.ticker, day)
    first = _EARLIEST_STEP + uniform((GRID_STEPS - 2 * _EARLIEST_STEP) // 2, *name, "first")
    second = first + 1 + uniform(_LATEST_STEP - first - 1, *name, "second")
    # A day that closed higher is the likelier to have had its low first: the path is shorter so.
    low_first = (close_ticks >= open_ticks) if uniform(4, *name, "order") else (close_ticks < open_ticks)
    turns = ((first, low_ticks), (second, high_ticks)) if low_first else ((first, high_ticks), (second, low_ticks))

    # The free walk is a return around nothing; each leg takes its own straight line plus the walk's deviation from
    # the line between its ends, so that the four real prices stand exactly where the legs meet.
    free_ppm = bridge_ppm(0, 0, WALK_DEVIATION_PPM, *name, "walk")
    prices = [open_ticks]
    for (start, from_ticks), (end, to_ticks) in zip(
        ((0, open_ticks), *turns), (*turns, (GRID_STEPS, close_ticks)), strict=True
    ):
        steps = end - start
        for step in range(1, steps + 1):
            line_ticks = from_ticks + (to_ticks - from_ticks) * step // steps
            line_ppm = free_ppm[start] + (free_ppm[end] - free_ppm[start]) * step // steps
            walked_ticks = line_ticks + (free_ppm[start + step] - line_ppm) * open_ticks // PPM
            prices.append(min(max(walked_ticks, low_ticks), high_ticks))
    return Day(prices_ticks=tuple(prices), volume_shares=record.quantity_shares, previous_close_ticks=None)
