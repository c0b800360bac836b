"""The quote: what every source of prices gives, on `trading-assets-market-data-v1`, keyed by ticker.

The fields of the published series (ticker, name, short_name, price, volume, updated_at) stay; price is decimal
text, never a float. `source` says where the quote came from, `stale` that its source could not be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mybroker.contracts.codec import Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One quote of one ticker. Times are RFC 3339; `slot` numbers the fetch it answers, unique per (ticker, source)."""

    ticker: str
    price: str
    source: str
    """brapi, cotahist, recording or simulated."""
    updated_at: str
    """The market's time of the price: with ticker and source, the quote's identity."""
    received_at: str
    session_key: str
    slot: int = 0
    name: str | None = None
    short_name: str | None = None
    volume: int | None = None
    open: str | None = None
    high: str | None = None
    low: str | None = None
    previous_close: str | None = None
    stale: bool = False
    requested_ticker: str | None = None
    """Where the source renamed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTask:
    """Fetch one ticker for one slot; dropped when `expires_wall_ns` has passed.

    `slot` counts seconds of the source's own time: the wall's for Brapi, the session's for what is computed.
    `source` names the source that is asked; empty means the session's first.
    """

    session_key: str
    ticker: str
    slot: int
    due_wall_ns: int
    due_session_ns: int
    expires_wall_ns: int
    source: str = ""


_QUOTE = msgspec.json.Decoder(Quote)
_TASK = msgspec.json.Decoder(FetchTask)


def encode_quote(quote: Quote) -> bytes:
    """Encode a quote."""
    return msgspec.json.encode(quote)


def decode_quote(data: bytes) -> Quote:
    """Decode a quote; raises Malformed."""
    try:
        return _QUOTE.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"quote: {error}, was {data[:120]!r}") from error


def encode_task(task: FetchTask) -> bytes:
    """Encode a fetch task."""
    return msgspec.json.encode(task)


def decode_task(data: bytes) -> FetchTask:
    """Decode a fetch task; raises Malformed."""
    try:
        return _TASK.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"fetch task: {error}, was {data[:120]!r}") from error
