"""The brapi.dev client: one ticker a request, within the month's quota, quick to say when it cannot be reached.

Order of the checks before anything goes out: a ticker refused before, a missing token, a stop (402, 429), the breaker,
the quota. Then at most ATTEMPTS_MAX attempts with jitter for timeouts and 5xx; what was not sent is given back to the
quota. 400, 401, 404, 417 and every other 4xx are permanent for the ticker while the process lives, and are logged once;
a 401 against our token stops every ticker that needs one. The token travels only in the Authorization header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from urllib.parse import quote as quote_url

import aiohttp

from mybroker.contracts.quotes import FetchTask, Quote
from mybroker.domain.money import format_ticks
from mybroker.domain.schedule import NS_PER_SECOND
from mybroker.runtime.breaker import Breaker
from mybroker.runtime.clock import Clock
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter
from services.b3_ingestor.brapi_answer import BrapiQuote, MalformedAnswer, error_text, parse_answer
from services.b3_ingestor.brapi_quota import Quota, month_key, next_day_ns, next_month_ns
from services.b3_ingestor.memory import Memory, MemoryAway
from services.b3_ingestor.source import Answer, Fetched, Refused, Spent, Unavailable

NAME = "brapi"
URL = "https://brapi.dev"
TICKERS_WITHOUT_TOKEN = frozenset({"PETR4", "MGLU3", "VALE3", "ITUB4"})
QUERY = "range=5d&interval=1d"
"""The free plan has it, and the same request brings the last days' candles."""

ATTEMPTS_MAX = 2
CONNECT_TIMEOUT_MS = 1_000
TIMEOUT_MS = 1_500
BACKOFF_MS = 100
BREAKER_FAILURES_MAX = 3
BREAKER_OPEN_MS = 60_000
REPLY_BYTES_MAX = 4 * 1024 * 1024
CONNECTIONS_MAX = 8
STOP_429_SECONDS = 3_600
"""Without a Retry-After, a rate limit's window is taken to be an hour."""

_REQUESTS = counter("mbb3_brapi_requests_total", "Requests to brapi.dev by outcome", ["outcome"])


class BrapiSource:
    """Quotes of brapi.dev. Close it at the end."""

    name = NAME
    computes = False

    def __init__(
        self,
        *,
        url: str,
        token: str | None,
        session_key: str,
        memory: Memory,
        clock: Clock,
        chance: Random,
        quota: Quota | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._session_key = session_key
        self._memory = memory
        self._clock = clock
        self._chance = chance
        self._quota = quota or Quota()
        self._sleep = sleep
        self._breaker = Breaker(NAME, failures_max=BREAKER_FAILURES_MAX, open_ms=BREAKER_OPEN_MS)
        self._refused: dict[str, Refused] = {}
        self._spent: Spent | None = None
        self._http: aiohttp.ClientSession | None = None
        self._log = get_logger()

    async def fetch(self, task: FetchTask) -> Answer:
        """Ask for one ticker; every failure is a value."""
        ticker = task.ticker
        refused = self._refused.get(ticker)
        if refused is not None:
            return refused
        if self._token is None and ticker not in TICKERS_WITHOUT_TOKEN:
            return self._refuse(ticker, 401, "needs a token (secret brapi_token, or BRAPI_TOKEN); none is given")
        try:
            spent = await self._stopped()
        except MemoryAway as error:
            return Unavailable(reason=f"the shared quota counter is away: {error}")
        if spent is not None:
            return spent
        return await self._attempts(ticker, task.slot)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _stopped(self) -> Spent | None:
        now_ns = self._clock.now_ns()
        if self._spent is not None and now_ns < self._spent.until_wall_ns:
            return self._spent
        until_ns = await self._memory.spent_until_ns()
        self._spent = Spent(until_wall_ns=until_ns, reason="another fetcher was told to stop") if until_ns else None
        return self._spent if until_ns > now_ns else None

    async def _attempts(self, ticker: str, slot: int) -> Answer:
        last = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await self._sleep(BACKOFF_MS * 2**attempt * (0.5 + self._chance.random()) / 1_000)
            now_ns = self._clock.now_ns()
            if not self._breaker.allows(self._clock.monotonic_ns()):
                return Unavailable(reason=last or "brapi.dev is not answering; its breaker is open")
            month = month_key(now_ns)
            try:
                allowed = await self._memory.take(month, self._quota.monthly_requests)
            except MemoryAway as error:
                self._breaker.failed(self._clock.monotonic_ns())
                return Unavailable(reason=f"the shared quota counter is away: {error}")
            if not allowed:
                self._breaker.succeeded()
                return await self._stop(next_month_ns(now_ns), f"{self._quota.monthly_requests} requests of {month}")
            try:
                status, headers, body = await self._request(ticker)
            except aiohttp.ClientConnectorError as error:
                last = f"brapi.dev cannot be reached: {type(error).__name__}"
                await self._memory.give_back(month)
            except (aiohttp.ClientError, TimeoutError) as error:
                last = f"brapi.dev did not answer: {type(error).__name__}"
            else:
                if status < 500:
                    self._breaker.succeeded()
                    await self._heed_remaining(month, headers.get("x-ratelimit-remaining"))
                    return await self._answered(ticker, slot, status, headers.get("Retry-After"), body)
                last = f"brapi.dev answered {status}"
            _REQUESTS.labels("failed").inc()
            self._breaker.failed(self._clock.monotonic_ns())
        return Unavailable(reason=last)

    async def _request(self, ticker: str) -> tuple[int, dict[str, str], bytes]:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX))
        sent = {"Accept": "application/json"}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_MS / 1_000, sock_connect=CONNECT_TIMEOUT_MS / 1_000)
        url = f"{self._url}/api/quote/{quote_url(ticker, safe='')}?{QUERY}"
        async with self._http.get(url, headers=sent, timeout=timeout, allow_redirects=False) as response:
            body = b""
            while not response.content.at_eof():
                body += await response.content.read(REPLY_BYTES_MAX + 1 - len(body))
                if len(body) > REPLY_BYTES_MAX:
                    raise aiohttp.ClientPayloadError(f"expected at most {REPLY_BYTES_MAX} bytes")
            names = ("x-ratelimit-remaining", "Retry-After")
            return response.status, {name: response.headers[name] for name in names if name in response.headers}, body

    async def _answered(self, ticker: str, slot: int, status: int, retry_after: str | None, body: bytes) -> Answer:
        now_ns = self._clock.now_ns()
        if status == 200:
            try:
                read = parse_answer(body, ticker)
            except MalformedAnswer as error:
                _REQUESTS.labels("malformed").inc()
                self._log.warning("brapi_answer_refused", ticker=ticker, reason=str(error))
                return Unavailable(reason=str(error))
            _REQUESTS.labels("ok").inc()
            return Fetched(quote=self._quote(ticker, slot, read), raw=body.decode("utf-8", "replace"), bars=read.bars)
        if status == 402:
            return await self._stop(next_day_ns(now_ns), f"402 {error_text(body)}")
        if status == 429:
            seconds = int(retry_after) if retry_after and retry_after.isdigit() else STOP_429_SECONDS
            return await self._stop(now_ns + seconds * NS_PER_SECOND, f"429 {error_text(body)}")
        return self._refuse(ticker, status, error_text(body))

    async def _stop(self, until_wall_ns: int, reason: str) -> Spent:
        _REQUESTS.labels("spent").inc()
        now_ns = self._clock.now_ns()
        self._spent = Spent(until_wall_ns=until_wall_ns, reason=reason)
        await self._memory.stop_until(until_wall_ns, now_ns)
        self._log.warning("brapi_stopped", reason=reason, seconds=(until_wall_ns - now_ns) // NS_PER_SECOND)
        return self._spent

    def _refuse(self, ticker: str, status: int, reason: str) -> Refused:
        _REQUESTS.labels("refused").inc()
        refused = Refused(ticker=ticker, status=status, reason=reason)
        self._refused[ticker] = refused
        self._log.warning("brapi_ticker_refused", ticker=ticker, status=status, reason=reason)
        return refused

    async def _heed_remaining(self, month: str, remaining: str | None) -> None:
        if remaining is not None and remaining.isdigit():
            await self._memory.raise_used(month, self._quota.monthly_requests - int(remaining))

    def _quote(self, ticker: str, slot: int, read: BrapiQuote) -> Quote:
        return Quote(
            ticker=read.symbol,
            price=format_ticks(read.price_ticks),
            source=NAME,
            updated_at=read.market_time,
            received_at="",
            session_key=self._session_key,
            slot=slot,
            name=read.name,
            short_name=read.short_name,
            volume=read.volume_shares,
            open=_decimal_text(read.open_ticks),
            high=_decimal_text(read.high_ticks),
            low=_decimal_text(read.low_ticks),
            previous_close=_decimal_text(read.previous_close_ticks),
            requested_ticker=None if read.symbol == ticker else ticker,
        )


def _decimal_text(price_ticks: int | None) -> str | None:
    return None if price_ticks is None else format_ticks(price_ticks)
