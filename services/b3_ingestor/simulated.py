"""A market that never was: seeded paths that need no key and no network.

A ticker's return is its share of an index factor plus a part of its own, each a seeded walk from nothing at the open to
a normal return at the close. Every day opens at the reference price, so a price stays sane however long a session
rolls on; what it gained is given back over night.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from services.b3_ingestor.computed import Day, DayOf
from services.b3_ingestor.noise import PPM, bridge_ppm, normal_milli, uniform

NAME = "simulated"
INDEX_DEVIATION_PPM = 9_000
OWN_DEVIATION_PPM = 11_000
RETURN_PPM_MAX = 90_000
"""However two walks add up, a price stays within nine per cent of its reference."""

TURNOVER_CENTS_MIN = 20_000_000_00
TURNOVER_CENTS_SPREAD = 1_500_000_000_00


def simulated_days(seed: int, references_ticks: Mapping[str, int]) -> DayOf:
    """Return the function that gives a ticker's day; None for a ticker without a reference price."""

    def day_of(ticker: str, day: date) -> Day | None:
        reference_ticks = references_ticks.get(ticker)
        if reference_ticks is None:
            return None
        beta_per_mille = 600 + uniform(700, seed, ticker, "beta")
        index = _walk_ppm(seed, "index", INDEX_DEVIATION_PPM, day)
        own = _walk_ppm(seed, ticker, OWN_DEVIATION_PPM, day)
        turnover_cents = TURNOVER_CENTS_MIN + uniform(TURNOVER_CENTS_SPREAD, seed, ticker, day, "turnover")
        return Day(
            prices_ticks=tuple(
                _price_ticks(reference_ticks, shared * beta_per_mille // 1_000 + alone)
                for shared, alone in zip(index, own, strict=True)
            ),
            volume_shares=turnover_cents // reference_ticks,
            previous_close_ticks=reference_ticks,
        )

    return day_of


def _walk_ppm(seed: int, name: str, deviation_ppm: int, day: date) -> list[int]:
    end_ppm = normal_milli(seed, name, day, "close") * deviation_ppm // 1_000
    return bridge_ppm(0, end_ppm, deviation_ppm, seed, name, day)


def _price_ticks(reference_ticks: int, return_ppm: int) -> int:
    bounded_ppm = min(max(return_ppm, -RETURN_PPM_MAX), RETURN_PPM_MAX)
    return max(1, reference_ticks * (PPM + bounded_ppm) // PPM)
