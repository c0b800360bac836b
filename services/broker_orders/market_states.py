"""What the public feed says of phases and prices, kept for a moment.

What is younger than FRESH_MS is taken as it is. What is older is used while a new answer is fetched, and forgotten
after KEPT_MS: then nothing is known, and the exchange decides alone. An order is refused on a fresh answer only.
"""

import asyncio

from mybroker.contracts.http_feed import SessionState
from mybroker.domain.money import parse_price_ticks
from mybroker.runtime.clock import Clock
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.logging import get_logger
from mybroker.runtime.problem import Problem
from services.broker_orders.admission import TickerState

FEED = "b3_market_feed"
FRESH_MS = 200
KEPT_MS = 3_000
TIMEOUT_MS = 400


class MarketStates:
    """The states of all tickers of the sessions that were asked for."""

    def __init__(self, client: HttpClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[int, dict[str, TickerState]]] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}

    def last(self, session_key: str, ticker: str) -> tuple[TickerState | None, bool]:
        """Return what is known and whether it is fresh; a new answer is fetched when it is not."""
        at_ns, states = self._known.get(session_key, (0, {}))
        age_ms = (self._clock.monotonic_ns() - at_ns) // 1_000_000 if states else KEPT_MS
        if age_ms >= FRESH_MS:
            self._fetch(session_key)
        return (states.get(ticker) if age_ms < KEPT_MS else None), age_ms < FRESH_MS

    async def fresh(self, session_key: str, ticker: str) -> TickerState | None:
        """Return the state as of now; what is known where the feed is away."""
        state, is_fresh = self.last(session_key, ticker)
        if is_fresh:
            return state
        await asyncio.shield(self._fetch(session_key))
        return self.last(session_key, ticker)[0]

    def _fetch(self, session_key: str) -> "asyncio.Task[None]":
        task = self._fetching.get(session_key)
        if task is None:
            task = self._fetching[session_key] = asyncio.create_task(self._ask(session_key))
        return task

    async def _ask(self, session_key: str) -> None:
        try:
            answer = await self._client.call(
                "GET", FEED, "/state", query={"session": session_key}, reply=SessionState, timeout_ms=TIMEOUT_MS
            )
        except Problem as problem:
            get_logger().warning("market_state_not_fetched", reason=str(problem))
        else:
            states = {}
            for row in answer.tickers:
                text = row.last or row.reference
                price_ticks = None if text is None else parse_price_ticks(text)
                centre_ticks = price_ticks if isinstance(price_ticks, int) else None
                states[row.ticker] = TickerState(phase=row.phase, centre_ticks=centre_ticks)
            self._known[session_key] = (self._clock.monotonic_ns(), states)
        finally:
            del self._fetching[session_key]
