"""The planner's loop: looks at the session's clock, writes the fetch tasks that fell due since the last look.

It keeps nothing but the instant of that look, so a restarted planner goes on with the running slots; a task written
twice is fetched twice and kept once. Between the close and the next lead time nothing is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date

from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.market_config import SessionSetup
from mybroker.contracts.market_session import DesiredState, QuoteSource
from mybroker.contracts.quotes import FetchTask
from mybroker.domain.calendar import Calendar
from mybroker.domain.schedule import NS_PER_SECOND, day_schedule
from mybroker.runtime.clock import Clock
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter
from services.b3_ingestor.brapi_quota import Quota, is_trading_time, month_key
from services.b3_ingestor.memory import Memory, MemoryAway
from services.b3_ingestor.slots import assets_of, computed_tasks, metered_tasks

LOOK_MS = 200
QUOTA_LOOK_NS = 30 * NS_PER_SECOND
_STATES_WITH_QUOTES = frozenset({DesiredState.OPEN.value, DesiredState.HALTED.value})

_WRITTEN = counter("mbb3_fetch_tasks_written_total", "Fetch tasks written, by source", ["source"])


class Planner:
    """Says what is due. `metered` is the first source when it is Brapi, else everything is computed."""

    def __init__(
        self, setup: SessionSetup, *, quota: Quota, memory: Memory | None, calendar: Calendar, clock: Clock
    ) -> None:
        self._setup = setup
        self._tickers = assets_of(setup.symbols)
        self._quota = quota
        self._memory = memory
        self._calendar = calendar
        self._clock = clock
        self._looked_ns: int | None = None
        self._interval_seconds: int | None = None
        self._interval_known_until_ns = 0
        self._log = get_logger()

    async def due(self, entry: DirectoryEntry | None) -> list[FetchTask]:
        """Return the tasks that fell due since the last call."""
        now_ns = self._clock.now_ns()
        if entry is None or not self._is_quoted(entry, now_ns) or not self._tickers:
            self._looked_ns = None
            return []
        tasks: list[FetchTask] = []
        computed = self._setup.source
        if self._setup.source is QuoteSource.BRAPI:
            tasks += await self._metered(entry, now_ns)
            computed = self._setup.fallback or QuoteSource.BRAPI
        if computed is not QuoteSource.BRAPI:
            tasks += computed_tasks(
                session_key=self._setup.key,
                source=computed.value.lower(),
                tickers=self._tickers,
                clock=entry.clock,
                after_wall_ns=self._looked_ns,
                now_wall_ns=now_ns,
            )
        self._looked_ns = now_ns
        for task in tasks:
            _WRITTEN.labels(task.source).inc()
        return tasks

    def _is_quoted(self, entry: DirectoryEntry, now_ns: int) -> bool:
        if entry.desired_state not in _STATES_WITH_QUOTES:
            return False
        schedule = day_schedule(date.fromisoformat(entry.business_date), self._setup.hours)
        begins_ns = schedule.starts_at_ns - self._setup.lead_time_seconds * NS_PER_SECOND
        return begins_ns <= entry.clock.now_ns(now_ns) < schedule.ends_at_ns

    async def _metered(self, entry: DirectoryEntry, now_ns: int) -> list[FetchTask]:
        first_look = self._looked_ns is None
        if not first_look and not is_trading_time(now_ns, self._calendar):
            return []
        interval_seconds = await self._interval(now_ns)
        if interval_seconds is None:
            if not first_look:
                return []
            interval_seconds = self._quota.refresh_seconds
        return list(
            metered_tasks(
                session_key=self._setup.key,
                source=QuoteSource.BRAPI.value.lower(),
                tickers=self._tickers,
                clock=entry.clock,
                interval_seconds=interval_seconds,
                after_wall_ns=self._looked_ns,
                now_wall_ns=now_ns,
            )
        )

    async def _interval(self, now_ns: int) -> int | None:
        """Return the seconds between two requests for a ticker; looked up now and then, kept while Redis is away."""
        if now_ns < self._interval_known_until_ns or self._memory is None:
            return self._interval_seconds
        try:
            used = await self._memory.used(month_key(now_ns))
        except MemoryAway:
            return self._interval_seconds
        interval_seconds = self._quota.interval_seconds(
            tickers=len(self._tickers), used=used, now_ns=now_ns, calendar=self._calendar
        )
        if interval_seconds != self._interval_seconds:
            self._log.info("brapi_interval_planned", seconds=interval_seconds, used=used, tickers=len(self._tickers))
        self._interval_seconds = interval_seconds
        self._interval_known_until_ns = now_ns + QUOTA_LOOK_NS
        return interval_seconds


async def run_planner(
    planner: Planner,
    entry: Callable[[], DirectoryEntry | None],
    write: Callable[[list[FetchTask]], Awaitable[object]],
) -> None:
    """Look every LOOK_MS and write what is due, until cancelled."""
    while True:
        tasks = await planner.due(entry())
        if tasks:
            await write(tasks)
        await asyncio.sleep(LOOK_MS / 1_000)
