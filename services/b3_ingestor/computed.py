"""Sources that compute: a day's prices on a grid, and the quote of a slot read from it.

A slot is a session instant in whole seconds since the epoch; its quote depends only on the source's own inputs (seed,
references or file, hours), the ticker and the slot. Simulated and Cotahist differ only in the day they give.
Invariants: prices are whole ticks of at least one, high and low include every price already quoted that day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate

from mybroker.contracts.quotes import FetchTask, Quote
from mybroker.domain.money import format_ticks
from mybroker.domain.schedule import NS_PER_SECOND, Hours, day_schedule, format_instant, local_date, local_instant_ns
from services.b3_ingestor.noise import GRID_STEPS, PPM, volume_share_ppm
from services.b3_ingestor.source import Answer, Fetched, Refused

DAYS_KEPT_MAX = 256
"""Ticker-days kept in memory, about 50 kB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One ticker's day: GRID_STEPS + 1 prices from the open to the close."""

    prices_ticks: tuple[int, ...]
    volume_shares: int
    previous_close_ticks: int | None

    def __post_init__(self) -> None:
        assert len(self.prices_ticks) == GRID_STEPS + 1, f"expected a whole grid, was {len(self.prices_ticks)} prices"
        assert min(self.prices_ticks) >= 1, f"expected prices of at least a tick, was {min(self.prices_ticks)}"


DayOf = Callable[[str, date], Day | None]


class ComputedSource:
    """A source whose every slot can be computed at any time."""

    computes = True

    def __init__(self, name: str, session_key: str, hours: Hours, day_of: DayOf) -> None:
        self.name = name
        self._session_key = session_key
        self._hours = hours
        self._day = lru_cache(DAYS_KEPT_MAX)(lambda ticker, day: _with_extremes(day_of(ticker, day)))

    async def fetch(self, task: FetchTask) -> Answer:
        """Answer from the ticker's day; a ticker the source does not know is refused for good."""
        quote = self.quote(task.ticker, task.slot)
        if quote is None:
            return Refused(ticker=task.ticker, status=404, reason=f"{self.name} knows no {task.ticker}")
        return Fetched(quote=quote, raw=json.dumps({"source": self.name, "ticker": task.ticker, "slot": task.slot}))

    def quote(self, ticker: str, slot: int) -> Quote | None:
        """Return the quote of a ticker at a slot, or None for a ticker the source does not know."""
        at_ns = slot * NS_PER_SECOND
        day = local_date(at_ns)
        known = self._day(ticker, day)
        if known is None:
            return None
        of_day, lows, highs = known
        opens_at_ns = local_instant_ns(day, self._hours.open_minutes)
        closes_at_ns = day_schedule(day, self._hours).ends_at_ns
        inside_ns = min(max(at_ns - opens_at_ns, 0), closes_at_ns - opens_at_ns)
        step = inside_ns * GRID_STEPS // (closes_at_ns - opens_at_ns)
        before_open = at_ns < opens_at_ns
        prices = of_day.prices_ticks
        price_ticks = (of_day.previous_close_ticks or prices[0]) if before_open else prices[step]
        text = at_ns_text(at_ns)
        return Quote(
            ticker=ticker,
            price=format_ticks(price_ticks),
            source=self.name,
            updated_at=text,
            received_at=text,
            session_key=self._session_key,
            slot=slot,
            volume=of_day.volume_shares * volume_share_ppm(step, GRID_STEPS) // PPM,
            open=None if before_open else format_ticks(prices[0]),
            high=None if before_open else format_ticks(highs[step]),
            low=None if before_open else format_ticks(lows[step]),
            previous_close=format_ticks(of_day.previous_close_ticks) if of_day.previous_close_ticks else None,
        )


def at_ns_text(at_ns: int) -> str:
    """Write an instant of a quote."""
    return format_instant(at_ns)


def _with_extremes(day: Day | None) -> tuple[Day, list[int], list[int]] | None:
    if day is None:
        return None
    return day, list(accumulate(day.prices_ticks, min)), list(accumulate(day.prices_ticks, max))
