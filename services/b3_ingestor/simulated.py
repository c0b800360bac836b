"""A market that never was: seeded paths that need no key and no network.

A ticker's return is its share of an index factor plus a part of its own; each day is a Brownian bridge between two
levels that wander over the weeks and come back, so a price stays sane however long the session rolls on. Returns are
counted from the reference price at the close before the session's first day, where every ticker starts; where that
day is not known, every day starts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from services.b3_ingestor.computed import Day, DayOf
from services.b3_ingestor.noise import PPM, bridge_ppm, level_ppm, uniform

NAME = "simulated"
INDEX_DEVIATION_PPM = 9_000
OWN_DEVIATION_PPM = 11_000
RETURN_PPM_MAX = 250_000
"""However the waves add up, a price stays within a quarter of its reference."""

TURNOVER_CENTS_MIN = 20_000_000_00
TURNOVER_CENTS_SPREAD = 1_500_000_000_00


def simulated_days(seed: int, references_ticks: Mapping[str, int], first_day: date | None) -> DayOf:
    """Return the function that gives a ticker's day; None for a ticker without a reference price."""

    def day_of(ticker: str, day: date) -> Day | None:
        reference_ticks = references_ticks.get(ticker)
        if reference_ticks is None:
            return None
        beta_per_mille = 600 + uniform(700, seed, ticker, "beta")
        index = _path_ppm(seed, "index", INDEX_DEVIATION_PPM, day, first_day or day)
        own = _path_ppm(seed, ticker, OWN_DEVIATION_PPM, day, first_day or day)
        prices = tuple(
            _price_ticks(reference_ticks, shared * beta_per_mille // 1_000 + alone)
            for shared, alone in zip(index, own, strict=True)
        )
        turnover_cents = TURNOVER_CENTS_MIN + uniform(TURNOVER_CENTS_SPREAD, seed, ticker, day, "turnover")
        return Day(
            prices_ticks=prices,
            volume_shares=turnover_cents // reference_ticks,
            previous_close_ticks=prices[0],
        )

    return day_of


def _path_ppm(seed: int, name: str, deviation_ppm: int, day: date, first_day: date) -> list[int]:
    started_ppm = level_ppm(first_day.toordinal() - 1, deviation_ppm, seed, name, "level")
    before_ppm = level_ppm(day.toordinal() - 1, deviation_ppm, seed, name, "level") - started_ppm
    after_ppm = level_ppm(day.toordinal(), deviation_ppm, seed, name, "level") - started_ppm
    return bridge_ppm(before_ppm, after_ppm, deviation_ppm, seed, name, day)


def _price_ticks(reference_ticks: int, return_ppm: int) -> int:
    bounded_ppm = min(max(return_ppm, -RETURN_PPM_MAX), RETURN_PPM_MAX)
    return max(1, reference_ticks * (PPM + bounded_ppm) // PPM)
