"""From due tasks to quotes: which source is asked, when the last quote goes out stale, when the fallback takes over.

For each ticker: as long as its first source answers, fallback tasks are dropped. When it stops answering, the last
known quote goes out once more, marked stale; STALE_NS later, or at once where nothing is known, the fallback takes
over, and its quotes name it as their source; so it does for a ticker that a computed first source does not know.
Meanwhile the first source is probed now and then. A quote with the same
(symbol, market time) as the ticker's last is not sent again.
A task past its slot is dropped, except that what a source computes still enters the history (a restart loses nothing).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mybroker.contracts.quotes import FetchTask, Quote
from mybroker.domain.schedule import NS_PER_SECOND, format_instant
from mybroker.runtime.clock import Clock
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter
from services.b3_ingestor.memory import Memory
from services.b3_ingestor.source import Answer, Fetched, Refused, Source, Spent

STALE_NS = 5 * NS_PER_SECOND
PROBE_NS = 60 * NS_PER_SECOND
REMEMBERED_FRESH_NS = 1_800 * NS_PER_SECOND
"""A quote fetched by an earlier life so recently is not asked for again: the plan has nothing newer."""

FETCHES_AT_ONCE_MAX = 8

_TASKS = counter("mbb3_fetch_tasks_total", "Fetch tasks by outcome", ["outcome"])
_QUOTES = counter("mbb3_quotes_total", "Quotes that went out, by source", ["source", "stale"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a task: a quote for the history, and for the market where it is `live`."""

    fetched: Fetched
    live: bool = True


@dataclass(slots=True, kw_only=True)
class Standing:
    """How a ticker stands with its first source."""

    answers: bool = False
    last: Quote | None = None
    away_since_ns: int = 0
    said: str = ""


class Fetching:
    """The decisions of one fetcher. `memory` is only needed by a metered first source."""

    def __init__(self, *, first: Source, fallback: Source | None, memory: Memory | None, clock: Clock) -> None:
        self._first = first
        self._fallback = fallback
        self._memory = memory
        self._clock = clock
        self._standings: dict[str, Standing] = {}
        self._probed_at_ns = -PROBE_NS
        self._at_once = asyncio.Semaphore(FETCHES_AT_ONCE_MAX)
        self._log = get_logger()

    async def handle(self, tasks: Sequence[FetchTask]) -> list[Result]:
        """Do these tasks: a ticker's in order, several tickers at once."""
        by_ticker = [
            list(group) for _ticker, group in groupby(sorted(tasks, key=lambda t: t.ticker), lambda t: t.ticker)
        ]
        done = await asyncio.gather(*(self._in_order(group) for group in by_ticker))
        return [result for results in done for result in results]

    async def _in_order(self, tasks: Sequence[FetchTask]) -> list[Result]:
        results: list[Result] = []
        for task in tasks:
            async with self._at_once:
                results += await self._one(task)
        for result in results:
            if result.live:
                _QUOTES.labels(result.fetched.quote.source, str(result.fetched.quote.stale).lower()).inc()
        return results

    async def _one(self, task: FetchTask) -> list[Result]:
        asks_fallback = self._fallback is not None and task.source == self._fallback.name != self._first.name
        source = self._fallback if asks_fallback else self._first
        assert source is not None, "a task for the fallback is only taken where there is one"
        late = self._clock.now_ns() > task.expires_wall_ns
        if late and not source.computes:
            _TASKS.labels("expired").inc()
            return []
        if asks_fallback:
            return await self._by_fallback(task, late=late)
        if not source.computes:
            return await self._by_first(task)
        answer = await source.fetch(task)
        if isinstance(answer, Refused) and self._fallback is not None:
            self._say(task.ticker, answer)
            answer = await self._fallback.fetch(task)
        return self._computed(answer, late=late)

    def _computed(self, answer: Answer, *, late: bool) -> list[Result]:
        if isinstance(answer, Fetched):
            _TASKS.labels("late" if late else "done").inc()
            return [Result(fetched=self._received(answer), live=not late)]
        assert isinstance(answer, Refused), f"a computed source answers or refuses, was {answer}"
        _TASKS.labels("refused").inc()
        self._say(answer.ticker, answer)
        return []

    async def _by_first(self, task: FetchTask) -> list[Result]:
        """Ask the metered first source; without an answer say so at once, by a stale quote or by the fallback."""
        if task.ticker not in self._standings:
            remembered = await self._remember(task.ticker, fresh_ns=REMEMBERED_FRESH_NS)
            if remembered is not None:
                _TASKS.labels("remembered").inc()
                return [Result(fetched=Fetched(quote=remembered, raw=""), live=True)]
        answer = await self._first.fetch(task)
        if isinstance(answer, Fetched):
            return await self._answered(task.ticker, answer)
        _TASKS.labels("unanswered").inc()
        standing = self._standings.setdefault(task.ticker, Standing())
        self._say(task.ticker, answer)
        if standing.answers:
            standing.answers = False
            standing.away_since_ns = self._clock.now_ns()
            assert standing.last is not None, "a source that answers has given a quote"
            return [Result(fetched=Fetched(quote=replace(standing.last, stale=True), raw=""))]
        if standing.last is None and self._fallback is not None:
            substitute = replace(task, slot=task.due_session_ns // NS_PER_SECOND, source=self._fallback.name)
            return self._computed(await self._fallback.fetch(substitute), late=False)
        return []

    async def _by_fallback(self, task: FetchTask, *, late: bool) -> list[Result]:
        assert self._fallback is not None
        if task.ticker not in self._standings:
            await self._remember(task.ticker, fresh_ns=None)
        standing = self._standings.setdefault(task.ticker, Standing())
        now_ns = self._clock.now_ns()
        if not standing.answers and now_ns - self._probed_at_ns >= PROBE_NS:
            self._probed_at_ns = now_ns
            answer = await self._first.fetch(task)
            if isinstance(answer, Fetched):
                return await self._answered(task.ticker, answer)
            self._say(task.ticker, answer)
        if standing.answers or (standing.last is not None and now_ns - standing.away_since_ns < STALE_NS):
            _TASKS.labels("not_needed").inc()
            return []
        return self._computed(await self._fallback.fetch(task), late=late)

    async def _answered(self, ticker: str, answer: Fetched) -> list[Result]:
        standing = self._standings.setdefault(ticker, Standing())
        before, came_back = standing.last, not standing.answers
        standing.answers, standing.said = True, ""
        quote = answer.quote
        known = before is not None and (before.ticker, before.updated_at) == (quote.ticker, quote.updated_at)
        if known and not came_back:
            _TASKS.labels("unchanged").inc()
            return []
        _TASKS.labels("done").inc()
        received = self._received(answer)
        standing.last = received.quote
        if self._memory is not None:
            await self._memory.keep_quote(ticker, received.quote, self._clock.now_ns())
        return [Result(fetched=received)]

    async def _remember(self, ticker: str, *, fresh_ns: int | None) -> Quote | None:
        if self._memory is None:
            return None
        remembered = await self._memory.last_quote(ticker)
        if remembered is None:
            return None
        quote, fetched_wall_ns = remembered
        if fresh_ns is not None and self._clock.now_ns() - fetched_wall_ns > fresh_ns:
            return None
        self._standings[ticker] = Standing(answers=True, last=quote)
        return quote

    def _received(self, fetched: Fetched) -> Fetched:
        received_at = format_instant(self._clock.now_ns())
        return replace(fetched, quote=replace(fetched.quote, received_at=received_at))

    def _say(self, ticker: str, answer: Answer) -> None:
        """Log why a ticker has no quote, once per reason."""
        standing = self._standings.setdefault(ticker, Standing())
        reason = f"{type(answer).__name__.lower()}: {getattr(answer, 'reason', '')}"
        kind = "spent" if isinstance(answer, Spent) else reason
        if standing.said == kind:
            return
        standing.said = kind
        fallback = self._fallback.name if self._fallback else None
        self._log.warning("quote_source_away", ticker=ticker, source=self._first.name, reason=reason, fallback=fallback)
