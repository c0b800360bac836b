"""The assets database, and the copy of last quotes in Redis.

PostgreSQL keeps catalogue, aliases and last quotes; Redis holds `market:price:{TICKER}` for whoever wants a price fast
and is written after PostgreSQL, so it can only be behind, never ahead. Reads go to Redis and, while it is away, to
PostgreSQL. Writing a quote again, or an older one, changes nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final, LiteralString

import msgspec
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from mybroker.contracts.quotes import Quote, decode_quote, encode_quote
from mybroker.contracts.topics import market_price_key
from mybroker.domain.instrument import Instrument
from mybroker.domain.schedule import parse_instant_ns
from mybroker.runtime.logging import get_logger
from mybroker.runtime.postgres import Connection, Pool, in_transaction
from mybroker.runtime.telemetry import counter

_FALLEN_BACK = counter("mbb3_quote_reads_without_redis_total", "Quotes read from the database because Redis was away")

MIGRATIONS: Final[tuple[LiteralString, ...]] = (
    """
    create table assets (
        ticker           text primary key,
        name             text not null,
        kind             text not null,
        instrument_group text not null,
        lot_shares       integer not null,
        reference_ticks  bigint not null,
        index_weight_ppm integer not null,
        updated_at       timestamptz not null default now()
    );
    create table aliases (
        alias    text primary key,
        ticker   text not null,
        seen_at  timestamptz not null default now()
    );
    create table last_quotes (
        ticker      text primary key,
        updated_ns  bigint not null,
        received_ns bigint not null,
        quote       bytea not null
    );
    """,
)


class Store:
    """All statements of the assets database and its Redis copy."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    async def put_catalogue(self, instruments: Iterable[Instrument]) -> None:
        """Write the catalogue; tickers that are no longer in it stay, for what was traded in them."""

        async def work(connection: Connection) -> None:
            for one in sorted(instruments, key=lambda instrument: instrument.ticker):
                await connection.execute(
                    "insert into assets (ticker, name, kind, instrument_group, lot_shares, reference_ticks,"
                    " index_weight_ppm) values (%s, %s, %s, %s, %s, %s, %s)"
                    " on conflict (ticker) do update set name = excluded.name, kind = excluded.kind,"
                    " instrument_group = excluded.instrument_group, lot_shares = excluded.lot_shares,"
                    " reference_ticks = excluded.reference_ticks, index_weight_ppm = excluded.index_weight_ppm,"
                    " updated_at = now()",
                    [
                        one.ticker,
                        one.name,
                        one.kind.value,
                        one.group.value,
                        one.lot_shares,
                        one.reference_price_ticks,
                        one.index_weight_ppm,
                    ],
                )

        await in_transaction(self._pool, work, idempotent=True)

    async def put_quotes(self, quotes: Sequence[Quote]) -> None:
        """Keep the newest quote of each ticker and the names they were asked under."""

        async def work(connection: Connection) -> None:
            for quote in sorted(quotes, key=lambda quote: quote.ticker):
                await connection.execute(
                    "insert into last_quotes (ticker, updated_ns, received_ns, quote) values (%s, %s, %s, %s)"
                    " on conflict (ticker) do update set updated_ns = excluded.updated_ns,"
                    " received_ns = excluded.received_ns, quote = excluded.quote"
                    " where (last_quotes.updated_ns, last_quotes.received_ns)"
                    " <= (excluded.updated_ns, excluded.received_ns)",
                    [
                        quote.ticker,
                        parse_instant_ns(quote.updated_at) or 0,
                        parse_instant_ns(quote.received_at) or 0,
                        encode_quote(quote),
                    ],
                )
                if quote.requested_ticker not in (None, quote.ticker):
                    await connection.execute(
                        "insert into aliases (alias, ticker) values (%s, %s)"
                        " on conflict (alias) do update set ticker = excluded.ticker, seen_at = now()",
                        [quote.requested_ticker, quote.ticker],
                    )

        await in_transaction(self._pool, work, idempotent=True)
        await self._copy({quote.ticker for quote in quotes})

    async def quotes(self, tickers: Sequence[str]) -> dict[str, Quote]:
        """Return the last quotes of these tickers."""
        if not tickers:
            return {}
        try:
            values = await self._redis.mget([market_price_key(ticker) for ticker in tickers])
        except (redis_errors.RedisError, OSError) as error:
            _FALLEN_BACK.inc()
            get_logger().warning("quotes_read_without_redis", reason=type(error).__name__)
            return await self._stored(tickers)
        found = [decode_quote(value if isinstance(value, bytes) else value.encode()) for value in values if value]
        return {quote.ticker: quote for quote in found}

    async def aliases(self) -> dict[str, str]:
        """Return {old name: ticker}."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select alias, ticker from aliases order by alias")
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def restore(self) -> int:
        """Write every last quote to Redis, which may have lost them; returns how many."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select ticker from last_quotes")
            tickers = {row[0] for row in await cursor.fetchall()}
        await self._copy(tickers)
        return len(tickers)

    async def _stored(self, tickers: Iterable[str]) -> dict[str, Quote]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select quote from last_quotes where ticker = any(%s) order by ticker", [sorted(tickers)]
            )
            rows = await cursor.fetchall()
        quotes = [decode_quote(bytes(row[0])) for row in rows]
        return {quote.ticker: quote for quote in quotes}

    async def _copy(self, tickers: Iterable[str]) -> None:
        quotes = await self._stored(tickers)
        if not quotes:
            return
        values = {market_price_key(ticker): msgspec.json.encode(quote).decode() for ticker, quote in quotes.items()}
        try:
            await self._redis.mset(values)
        except (redis_errors.RedisError, OSError) as error:
            # The next quote of each ticker, or the next start, writes it again.
            get_logger().warning("quotes_not_copied", tickers=len(values), reason=type(error).__name__)
