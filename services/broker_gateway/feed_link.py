"""One client's line to the feed: what it subscribed to survives a restart of the feed.

Messages pass through as they are; reading waits for the client, so a slow one is conflated by the feed and not here.
When the feed goes away the line is opened again with the same subscriptions: books begin with a fresh snapshot, trades
are asked for after the last number the client has, and those it has are dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import msgspec

from mybroker.contracts.feed import FeedError, Subscribe, Unsubscribe
from mybroker.runtime.problem import Unavailable
from mybroker.runtime.telemetry import counter
from services.broker_gateway.upstream import Upstreams

FEED = "b3_market_feed"
RECONNECT_MS = 200
RECONNECT_MS_MAX = 2_000
EVERY_TICKER = "*"
TRADES = "trades"
_TRADE_MARK = '{"type":"trade",'
_SUBSCRIBED_MARK = '{"type":"subscribed",'

_RECONNECTED = counter("mbb3_feed_reconnects_total", "Lines to the feed that were opened again")


class _TradeHead(msgspec.Struct):
    ticker: str
    number: int


class _SubscribedHead(msgspec.Struct):
    tickers: tuple[str, ...]


_TRADE = msgspec.json.Decoder(_TradeHead)
_SUBSCRIBED = msgspec.json.Decoder(_SubscribedHead)


class FeedMemory:
    """What a client is subscribed to, and the last trade it has of each ticker. Pure."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.wanted: dict[str, set[str]] = {}
        self.numbers: dict[str, int] = {}

    def subscribed(self, asked: Subscribe) -> None:
        """Remember a subscription; trades asked for again are wanted again."""
        self.session = asked.session or self.session
        for channel in asked.channels:
            self.wanted.setdefault(channel, set()).update(asked.tickers or (EVERY_TICKER,))
        if TRADES in asked.channels:
            for ticker in asked.tickers or tuple(self.numbers):
                self.numbers.pop(ticker, None)

    def unsubscribed(self, asked: Unsubscribe) -> None:
        """Forget a subscription."""
        for channel in asked.channels:
            if asked.tickers:
                self.wanted.get(channel, set()).difference_update(asked.tickers)
            else:
                self.wanted.pop(channel, None)

    def is_new(self, text: str) -> bool:
        """Say whether the client lacks this message; only a trade it has is none."""
        if text.startswith(_SUBSCRIBED_MARK) and TRADES in self.wanted:
            for ticker in _SUBSCRIBED.decode(text).tickers:
                if self.wanted[TRADES] & {ticker, EVERY_TICKER}:
                    self.numbers.setdefault(ticker, 0)
        if not text.startswith(_TRADE_MARK):
            return True
        trade = _TRADE.decode(text)
        if trade.number <= self.numbers.get(trade.ticker, 0):
            return False
        self.numbers[trade.ticker] = trade.number
        return True

    def again(self) -> Iterator[Subscribe]:
        """Yield the subscriptions that restore the line, trades from where the client has them."""
        trades = self.wanted.get(TRADES, set())
        known = {ticker for ticker in self.numbers if ticker in trades or EVERY_TICKER in trades}
        # First what is missing of each ticker, then everything: the newest trades alone would look like a gap.
        for ticker in sorted((trades - {EVERY_TICKER}) | known):
            yield Subscribe(channels=(TRADES,), tickers=(ticker,), after=self.numbers.get(ticker), session=self.session)
        for channel, tickers in self.wanted.items():
            if EVERY_TICKER in tickers:
                yield Subscribe(channels=(channel,), session=self.session)
            elif tickers and channel != TRADES:
                yield Subscribe(channels=(channel,), tickers=tuple(sorted(tickers)), session=self.session)


class FeedLink:
    """The line itself. `run` passes messages to the client; `ask` passes the client's to the feed."""

    def __init__(self, upstreams: Upstreams, send: Callable[[str], Awaitable[object]]) -> None:
        self._upstreams = upstreams
        self._send = send
        self._memory = FeedMemory()
        self._line: aiohttp.ClientWebSocketResponse | None = None

    async def ask(self, message: Subscribe | Unsubscribe) -> None:
        """Subscribe or unsubscribe; while the line is down it is enough to remember it."""
        if isinstance(message, Subscribe):
            self._memory.subscribed(message)
        else:
            self._memory.unsubscribed(message)
        if self._line is not None and not self._line.closed:
            await self._write(self._line, message)

    async def run(self) -> None:
        """Keep the line open and pass on what comes until cancelled."""
        wait_ms = RECONNECT_MS
        told = False
        while True:
            try:
                line = await self._upstreams.connect_stream(FEED, "/stream")
            except Unavailable:
                line = None
            if line is not None:
                try:
                    restored = list(self._memory.again())
                    self._line = line  # what is asked from here on is not in `restored`
                    for message in restored:
                        await self._write(line, message)
                    if await self._pass_on(line):
                        wait_ms, told = RECONNECT_MS, False
                finally:
                    self._line = None
                    await line.close()
            if not told:
                told = True
                gone = FeedError(code="feed_unavailable", detail="market data pauses; it resumes by itself")
                await self._send(msgspec.json.encode(gone).decode())
            _RECONNECTED.inc()
            await asyncio.sleep(wait_ms / 1000)
            wait_ms = min(wait_ms * 2, RECONNECT_MS_MAX)

    async def _pass_on(self, line: aiohttp.ClientWebSocketResponse) -> bool:
        """Pass messages on until the line ends; say whether there was any."""
        some = False
        async for message in line:
            if message.type is aiohttp.WSMsgType.TEXT:
                some = True
                if self._memory.is_new(message.data):
                    await self._send(message.data)
        return some

    async def _write(self, line: aiohttp.ClientWebSocketResponse, message: Subscribe | Unsubscribe) -> None:
        try:
            await line.send_str(msgspec.json.encode(message).decode())
        except (aiohttp.ClientError, ConnectionError):
            return  # the line just broke; what was asked is remembered and asked again
