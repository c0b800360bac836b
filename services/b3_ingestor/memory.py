"""What all fetchers know together: the month's requests, a source's stop, each ticker's last real quote. In Redis.

The counter is the only guard of the month's quota, so without Redis nothing metered is asked (`MemoryAway`); the last
quotes are a convenience, so without Redis they are simply not known.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mybroker.contracts.codec import Malformed
from mybroker.contracts.quotes import Quote, decode_quote, encode_quote

COUNTER_LIFE_SECONDS = 40 * 86_400
LAST_QUOTE_LIFE_SECONDS = 86_400


class MemoryAway(Exception):
    """The shared memory cannot be reached."""


class LastQuote(msgspec.Struct, frozen=True, kw_only=True):
    """A real quote, with the payload it came in and when it was fetched (wall)."""

    quote: bytes
    fetched_wall_ns: int


class Memory(Protocol):
    """What fetchers share."""

    async def take(self, month: str, limit: int) -> bool:
        """Count one request of the month, unless that would pass the limit. Raises MemoryAway."""
        ...

    async def give_back(self, month: str) -> None:
        """Take one request back that never went out."""
        ...

    async def raise_used(self, month: str, used: int) -> None:
        """Count at least `used`: the source itself said so."""
        ...

    async def used(self, month: str) -> int:
        """Return the month's requests so far. Raises MemoryAway."""
        ...

    async def spent_until_ns(self) -> int:
        """Return the wall instant until which nothing may be asked, 0 for none. Raises MemoryAway."""
        ...

    async def stop_until(self, wall_ns: int, now_ns: int) -> None:
        """Ask nothing until an instant."""
        ...

    async def last_quote(self, ticker: str) -> tuple[Quote, int] | None:
        """Return a ticker's last real quote and when it was fetched; None also when the memory is away."""
        ...

    async def keep_quote(self, ticker: str, quote: Quote, fetched_wall_ns: int) -> None:
        """Keep a ticker's last real quote."""
        ...


_LAST = msgspec.json.Decoder(LastQuote)


class RedisMemory:
    """The shared memory of one session's fetchers; the quota is one for all sessions on that Redis."""

    def __init__(self, redis: Redis, session_key: str, source: str) -> None:
        self._redis = redis
        self._session_key = session_key
        self._source = source

    async def take(self, month: str, limit: int) -> bool:
        try:
            count = await self._redis.incr(self._counter(month))
            if count == 1:
                await self._redis.expire(self._counter(month), COUNTER_LIFE_SECONDS)
            if count > limit:
                await self._redis.decr(self._counter(month))
                return False
        except RedisError as error:
            raise MemoryAway(str(error)) from error
        return True

    async def give_back(self, month: str) -> None:
        try:
            await self._redis.decr(self._counter(month))
        except RedisError:
            return  # one request too many stays counted: the safe side

    async def raise_used(self, month: str, used: int) -> None:
        try:
            known = int(await self._redis.get(self._counter(month)) or 0)
            if used > known:
                await self._redis.incrby(self._counter(month), used - known)
        except RedisError:
            return  # the source says it again with its next answer

    async def used(self, month: str) -> int:
        try:
            return int(await self._redis.get(self._counter(month)) or 0)
        except RedisError as error:
            raise MemoryAway(str(error)) from error

    async def spent_until_ns(self) -> int:
        try:
            return int(await self._redis.get(self._stop) or 0)
        except RedisError as error:
            raise MemoryAway(str(error)) from error

    async def stop_until(self, wall_ns: int, now_ns: int) -> None:
        life_ms = max(1, (wall_ns - now_ns) // 1_000_000)
        try:
            await self._redis.set(self._stop, str(wall_ns), px=life_ms)
        except RedisError:
            return  # this process still knows; another one asks once and is told the same

    async def last_quote(self, ticker: str) -> tuple[Quote, int] | None:
        try:
            data = await self._redis.get(self._quote(ticker))
            if not data:
                return None
            last = _LAST.decode(data)
            return decode_quote(last.quote), last.fetched_wall_ns
        except (RedisError, msgspec.MsgspecError, Malformed):
            return None

    async def keep_quote(self, ticker: str, quote: Quote, fetched_wall_ns: int) -> None:
        last = LastQuote(quote=encode_quote(quote), fetched_wall_ns=fetched_wall_ns)
        try:
            await self._redis.set(self._quote(ticker), msgspec.json.encode(last).decode(), ex=LAST_QUOTE_LIFE_SECONDS)
        except RedisError:
            return  # costs one request more after a restart

    @property
    def _stop(self) -> str:
        return f"ingest:{self._source}:stop"

    def _counter(self, month: str) -> str:
        return f"ingest:{self._source}:requests:{month}"

    def _quote(self, ticker: str) -> str:
        return f"ingest:{self._session_key}:{self._source}:quote:{ticker}"
