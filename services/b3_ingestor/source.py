"""What a source of prices is: something that answers a fetch task with a quote, or says why it cannot.

Four answers, all values. `Fetched` has the quote, the payload as it came (text, so that no decimal is lost) and what
daily bars came with it. `Unavailable` may pass: the last known quote goes out stale, then the fallback takes over.
`Refused` is permanent for the ticker. `Spent` is a quota: nothing more is asked until `until_wall_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from mybroker.contracts.quotes import FetchTask, Quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One day of one ticker as its source tells it; prices are decimal text."""

    ticker: str
    day: date
    open: str
    high: str
    low: str
    close: str
    adjusted_close: str | None = None
    volume: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A quote, its payload as it came, and the daily bars that came with it."""

    quote: Quote
    raw: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The source cannot be reached, or cannot answer now."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The source will never answer for this ticker as it is asked."""

    ticker: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The source's quota is used up until an instant."""

    until_wall_ns: int
    reason: str


Answer = Fetched | Unavailable | Refused | Spent


class Source(Protocol):
    """A source of prices. `computes` says that a slot's value can be had at any time, so nothing is ever too late."""

    @property
    def name(self) -> str: ...

    @property
    def computes(self) -> bool: ...

    async def fetch(self, task: FetchTask) -> Answer:
        """Answer one task; never raises for what happens outside."""
        ...
