"""A shared memory in this process, and a Brapi source that talks to a local server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import pytest

from mybroker.contracts.quotes import Quote
from mybroker.domain.schedule import local_instant_ns
from mybroker.runtime.clock import ManualClock
from mybroker.testing.brapi_server import BrapiServer, brapi_server
from services.b3_ingestor.brapi import BrapiSource
from services.b3_ingestor.brapi_quota import Quota
from services.b3_ingestor.memory import MemoryAway


class LocalMemory:
    """Keeps the promises of `Memory` in one process; `away` behaves as when Redis is gone."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.stop_ns = 0
        self.quotes: dict[str, tuple[Quote, int]] = {}
        self.away = False

    def _here(self) -> None:
        if self.away:
            raise MemoryAway("gone")

    async def take(self, month: str, limit: int) -> bool:
        self._here()
        if self.counts.get(month, 0) >= limit:
            return False
        self.counts[month] = self.counts.get(month, 0) + 1
        return True

    async def give_back(self, month: str) -> None:
        if not self.away:
            self.counts[month] -= 1

    async def raise_used(self, month: str, used: int) -> None:
        if not self.away:
            self.counts[month] = max(used, self.counts.get(month, 0))

    async def used(self, month: str) -> int:
        self._here()
        return self.counts.get(month, 0)

    async def spent_until_ns(self) -> int:
        self._here()
        return self.stop_ns

    async def stop_until(self, wall_ns: int, now_ns: int) -> None:
        if not self.away:
            self.stop_ns = wall_ns

    async def last_quote(self, ticker: str) -> tuple[Quote, int] | None:
        return None if self.away else self.quotes.get(ticker)

    async def keep_quote(self, ticker: str, quote: Quote, fetched_wall_ns: int) -> None:
        if not self.away:
            self.quotes[ticker] = (quote, fetched_wall_ns)


@pytest.fixture
def memory() -> LocalMemory:
    return LocalMemory()


@pytest.fixture
def clock() -> ManualClock:
    from datetime import date

    return ManualClock(local_instant_ns(date(2026, 11, 23), 11 * 60))


@pytest.fixture
def server() -> Iterator[BrapiServer]:
    with brapi_server() as running:
        yield running


MakeBrapi = Callable[..., BrapiSource]


@pytest.fixture
async def make_brapi(memory: LocalMemory, clock: ManualClock, server: BrapiServer) -> AsyncIterator[MakeBrapi]:
    """Make a source; its pauses between attempts take no time."""
    made: list[BrapiSource] = []

    async def no_pause(_seconds: float) -> None:
        return

    def make(*, token: str | None = None, url: str = server.url, quota: Quota | None = None) -> BrapiSource:
        source = BrapiSource(
            url=url,
            token=token,
            session_key="local.pregao",
            memory=memory,
            clock=clock,
            chance=Random(7),
            quota=quota,
            sleep=no_pause,
        )
        made.append(source)
        return source

    yield make
    for source in made:
        await source.close()
