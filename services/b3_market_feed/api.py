"""The feed over HTTP: what the stream says, as answers."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.http_feed import CandleList, MarketList, TradeList
from mybroker.runtime.clock import Clock
from mybroker.runtime.http import read_query, reply
from mybroker.runtime.problem import Problem
from services.b3_market_feed.day import CANDLES_KEPT_MAX, TRADES_KEPT_MAX
from services.b3_market_feed.sessions import SessionFeed, Sessions

DEPTH_MAX = 1_000


class Which(msgspec.Struct, frozen=True):
    """Which session is meant; not needed while one is open."""

    session: str | None = None


class BookQuery(Which, frozen=True):
    """How much of a book."""

    depth: Annotated[int, msgspec.Meta(ge=1, le=DEPTH_MAX)] = 20


class TradesQuery(Which, frozen=True):
    """Which trades: the newest, or those after a number."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=TRADES_KEPT_MAX)] = 50
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None


class CandlesQuery(Which, frozen=True):
    """How many candles."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=CANDLES_KEPT_MAX)] = 500


class Api:
    """The handlers of the feed."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the HTTP routes."""
        return [
            Route("/state", self.state),
            Route("/markets", self.markets),
            Route("/markets/{market}/status", self.status),
            Route("/book/{ticker}", self.book),
            Route("/trades/{ticker}", self.trades),
            Route("/candles/{ticker}", self.candles),
        ]

    async def state(self, request: Request) -> Response:
        """The whole session in one answer."""
        return reply(self._session(request).state(self._clock))

    async def markets(self, _request: Request) -> Response:
        """All markets of all sessions."""
        summaries = [summary for feed in self._sessions.feeds for summary in feed.summaries(self._clock)]
        return reply(MarketList(markets=tuple(summaries)))

    async def status(self, request: Request) -> Response:
        """One market."""
        feed = self._session(request)
        status = feed.status(request.path_params["market"], self._clock)
        if status is None:
            names = ", ".join(market.name for market in feed.entry.markets)
            raise Problem(404, "unknown_market", f"expected one of {names}")
        return reply(status)

    async def book(self, request: Request) -> Response:
        """A book by price level."""
        query = read_query(request, BookQuery)
        return reply(self._session(request).find(request.path_params["ticker"]).book.snapshot(query.depth))

    async def trades(self, request: Request) -> Response:
        """Trades, oldest first."""
        query = read_query(request, TradesQuery)
        day = self._session(request).find(request.path_params["ticker"])
        newest = query.after is None
        trades = day.newest_trades(query.limit) if newest else day.trades_after(query.after or 0, query.limit)
        return reply(TradeList(ticker=day.ticker, trades=tuple(trades)))

    async def candles(self, request: Request) -> Response:
        """The newest candles of the day, oldest first."""
        query = read_query(request, CandlesQuery)
        day = self._session(request).find(request.path_params["ticker"])
        bars = list(day.bars)[-query.limit :]
        return reply(CandleList(ticker=day.ticker, candles=tuple(day.show_candle(bar) for bar in bars)))

    def _session(self, request: Request) -> SessionFeed:
        feed = self._sessions.choose(request.query_params.get("session"))
        if not feed.ready:
            raise Problem(503, "feed_starting", "the market is being read from its log", retry_after_s=1)
        return feed
