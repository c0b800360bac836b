"""What all participants of this process see: the public feed's summaries and the ingested quotes.

The feed is asked every LOOK_MS for the whole session (`/state`); a view older than BLIND_NS is not traded on, because
nobody quotes a market it cannot see. Quotes come from Kafka, from a little before the end of the topic on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mybroker.contracts import topics
from mybroker.contracts.codec import Malformed
from mybroker.contracts.feed import Ticker
from mybroker.contracts.http_feed import SessionState
from mybroker.contracts.quotes import Quote, decode_quote
from mybroker.domain.instrument import asset_of
from mybroker.domain.money import parse_price_ticks
from mybroker.runtime.clock import Clock
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.kafka import Record, watermarks
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.problem import Problem
from services.b3_participants.decision import View

LOOK_MS = 250
BLIND_NS = 5_000_000_000
QUOTES_READ_BACK = 2_000
"""Per partition: enough for every ticker's last quote."""

FEED = "b3_market_feed"


class MarketEye:
    """The newest view of every ticker."""

    def __init__(self, http: HttpClient, kafka_url: str, session_key: str, clock: Clock) -> None:
        self._http = http
        self._kafka_url = kafka_url
        self._session_key = session_key
        self._clock = clock
        self._tickers: dict[str, Ticker] = {}
        self._quotes_ticks: dict[str, int] = {}
        self._seen_at_ns: int | None = None
        self.running = False
        """Whether the session's clock runs: nobody trades in a paused one."""

    def view(self, ticker: str) -> View | None:
        """Return a ticker's view; None where it is not known, or the market was not seen for a while."""
        seen = self._tickers.get(ticker)
        blind = self._seen_at_ns is None or self._clock.monotonic_ns() - self._seen_at_ns > BLIND_NS
        if seen is None or blind:
            return None
        return View(
            ticker=ticker,
            phase=seen.phase,
            bid_ticks=_ticks(seen.bid),
            ask_ticks=_ticks(seen.ask),
            last_ticks=_ticks(seen.last),
            reference_ticks=_ticks(seen.reference),
            quote_ticks=self._quotes_ticks.get(asset_of(ticker)),
        )

    def show(self, state: SessionState) -> None:
        """Take the feed's answer in."""
        self._tickers = {ticker.ticker: ticker for ticker in state.tickers}
        self.running = any(market.speed > 0 for market in state.markets)
        self._seen_at_ns = self._clock.monotonic_ns()

    def hear(self, quote: Quote) -> None:
        """Take a quote in; a renamed one counts for the name that was asked for."""
        ticks = _ticks(quote.price)
        if quote.session_key == self._session_key and ticks is not None:
            self._quotes_ticks[quote.requested_ticker or quote.ticker] = ticks

    async def watch_feed(self) -> None:
        """Ask the feed again and again, until cancelled; what fails now is asked again."""
        while True:
            try:
                state = await self._http.call(
                    "GET", FEED, "/state", query={"session": self._session_key}, reply=SessionState
                )
            except Problem:
                await asyncio.sleep(LOOK_MS / 1_000)
                continue
            self.show(state)
            await asyncio.sleep(LOOK_MS / 1_000)

    async def watch_quotes(self) -> None:
        """Follow the quotes, until cancelled."""
        positions = await asyncio.to_thread(self._positions)
        await ConsumerLoop(self._kafka_url, self._hear_records, positions=positions).run()

    def _positions(self) -> dict[tuple[str, int], int]:
        spec = next(spec for spec in topics.SHARED_TOPICS if spec.name == topics.MARKET_DATA)
        positions = {}
        for partition in range(spec.partitions):
            low, high = watermarks(self._kafka_url, topics.MARKET_DATA, partition)
            positions[topics.MARKET_DATA, partition] = max(low, high - QUOTES_READ_BACK)
        return positions

    async def _hear_records(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self.hear(decode_quote(record.value or b""))
            except Malformed:
                continue  # somebody else's mistake; the next quote is a good one


def _ticks(text: str | None) -> int | None:
    if text is None:
        return None
    ticks = parse_price_ticks(text)
    return ticks if isinstance(ticks, int) and not isinstance(ticks, bool) else None
