"""`price_history` in MongoDB: every quote with its payload, and the daily bars that came along.

Unique by {ticker, ts, source}: a quote heard twice is written once (`$setOnInsert`), a day's bar is written over until
its day is done. What a session made up is its own: there `source` carries the session ("simulated@local.pregao"), so
that two sessions on one MongoDB never take each other's row for theirs. Payloads are kept as text, because a document's
numbers are floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from mybroker.contracts.quotes import Quote
from mybroker.contracts.topics import PRICE_HISTORY
from mybroker.runtime.mongo import MongoClient
from services.b3_ingestor.source import Bar, Fetched

DATABASE = "mybroker"
DUPLICATE_KEY = 11_000
REAL_SOURCES = frozenset({"brapi"})
_KEY = [("ticker", ASCENDING), ("ts", ASCENDING), ("source", ASCENDING)]


class PriceHistory:
    """Writes quotes and bars, each once."""

    def __init__(self, client: MongoClient) -> None:
        self._collection = client.get_default_database(DATABASE)[PRICE_HISTORY]
        self._prepared = False

    async def write(self, fetched: Sequence[Fetched]) -> None:
        """Write quotes and bars; writing them again changes nothing. Raises PyMongoError.

        The first write creates the unique index where it is missing.
        """
        if not self._prepared:
            await self._collection.create_index(_KEY, unique=True, name="ticker_ts_source")
            self._prepared = True
        operations = [_quote_write(one, history_source(one.quote)) for one in fetched]
        operations += [_bar_write(one.quote.source, bar) for one in fetched for bar in one.bars]
        if not operations:
            return
        try:
            await self._collection.bulk_write(operations, ordered=False)
        except BulkWriteError as error:
            # Two fetchers inserted the same key at once: the other one's document is the same.
            if any(failed.get("code") != DUPLICATE_KEY for failed in error.details.get("writeErrors", ())):
                raise


def history_source(quote: Quote) -> str:
    """Return a quote's source as the history names it."""
    return quote.source if quote.source in REAL_SOURCES else f"{quote.source}@{quote.session_key}"


def _quote_write(fetched: Fetched, source: str) -> UpdateOne:
    quote = fetched.quote
    return UpdateOne(
        {"ticker": quote.ticker, "ts": quote.updated_at, "source": source},
        {
            "$setOnInsert": {
                "interval": "quote",
                "price": quote.price,
                "open": quote.open,
                "high": quote.high,
                "low": quote.low,
                "previous_close": quote.previous_close,
                "volume": quote.volume,
                "name": quote.name,
                "requested_ticker": quote.requested_ticker,
                "session_key": quote.session_key,
                "slot": quote.slot,
                "received_at": quote.received_at,
                "raw": fetched.raw,
            }
        },
        upsert=True,
    )


def _bar_write(source: str, bar: Bar) -> UpdateOne:
    bar_fields: dict[str, Any] = {
        "interval": "1d",
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "adjusted_close": bar.adjusted_close,
        "volume": bar.volume,
    }
    return UpdateOne(
        {"ticker": bar.ticker, "ts": bar.day.isoformat(), "source": source}, {"$set": bar_fields}, upsert=True
    )
