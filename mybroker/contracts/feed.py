"""The public feed's WebSocket messages and the compacted book snapshot the matcher writes.

A client subscribes by ticker and channel and gets a snapshot, then deltas. Per ticker, `seq` is the engine's
own book sequence: a delta applies when its `prev` equals the last `seq`; quantities are absolute, 0 deletes
the level. A client that joins late, lags or reconnects ends with the same book as one that never left.
Slow clients get the newest book (conflated), never a missing trade. Prices are decimal text.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mybroker.domain.order import Aggressor, Side
from mybroker.domain.phase import Phase

Level = tuple[str, int, int]
"""(price, quantity_shares, orders); quantity 0 deletes. Market orders in a call stand under price "market"."""


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", frozen=True, kw_only=True):
    """Ask for channels of tickers: book, trades, phase, quotes, candles. Gateway adds `events` with `after`."""

    channels: tuple[str, ...]
    tickers: tuple[str, ...] = ()
    session: str | None = None
    after: int | None = None


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", frozen=True, kw_only=True):
    """Stop channels of tickers."""

    channels: tuple[str, ...]
    tickers: tuple[str, ...] = ()


class Authenticate(msgspec.Struct, tag_field="op", tag="authenticate", frozen=True, kw_only=True):
    """At the gateway: who I am, for my private events."""

    token: str


class Ping(msgspec.Struct, tag_field="op", tag="ping", frozen=True, kw_only=True):
    """Ask for a pong."""


ClientMessage = Subscribe | Unsubscribe | Authenticate | Ping


class BookSnapshot(msgspec.Struct, tag_field="type", tag="book_snapshot", frozen=True, kw_only=True):
    """The whole visible book by price level, best first, as of `seq`."""

    ticker: str
    seq: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BookDelta(msgspec.Struct, tag_field="type", tag="book", frozen=True, kw_only=True):
    """Levels that changed after `prev`, up to `seq`."""

    ticker: str
    prev: int
    seq: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Trade(msgspec.Struct, tag_field="type", tag="trade", frozen=True, kw_only=True):
    """A trade; `number` counts the ticker's trades 1, 2, 3 … of the log."""

    ticker: str
    number: int
    trade_id: str
    price: str
    quantity: int
    aggressor: Aggressor
    at: str


class TradeBust(msgspec.Struct, tag_field="type", tag="trade_bust", frozen=True, kw_only=True):
    """A trade was undone."""

    ticker: str
    trade_id: str


class MarketPhase(msgspec.Struct, tag_field="type", tag="phase", frozen=True, kw_only=True):
    """The phase a ticker is in now, with the theoretical price where it is in a call."""

    ticker: str
    market: str
    phase: Phase
    at: str
    theoretical_price: str | None = None
    theoretical_quantity: int = 0
    imbalance: int = 0
    imbalance_side: Side | None = None


class Ticker(msgspec.Struct, tag_field="type", tag="quote", frozen=True, kw_only=True):
    """The market's own summary of a ticker, from its book and trades."""

    ticker: str
    last: str | None
    bid: str | None
    ask: str | None
    open: str | None
    high: str | None
    low: str | None
    reference: str | None
    trades: int
    volume: int
    turnover: str
    phase: Phase
    at: str


class Candle(msgspec.Struct, tag_field="type", tag="candle", frozen=True, kw_only=True):
    """One minute of trades, in session time."""

    ticker: str
    start: str
    open: str
    high: str
    low: str
    close: str
    volume: int
    trades: int


class Heartbeat(msgspec.Struct, tag_field="type", tag="heartbeat", frozen=True, kw_only=True):
    """The feed is alive; session time now."""

    at: str


class Subscribed(msgspec.Struct, tag_field="type", tag="subscribed", frozen=True, kw_only=True):
    """What is subscribed now."""

    channels: tuple[str, ...]
    tickers: tuple[str, ...]


class Pong(msgspec.Struct, tag_field="type", tag="pong", frozen=True, kw_only=True):
    """Answer to ping."""


class FeedError(msgspec.Struct, tag_field="type", tag="error", frozen=True, kw_only=True):
    """A client message was refused: what was expected, what came."""

    code: str
    detail: str


ServerMessage = (
    BookSnapshot
    | BookDelta
    | Trade
    | TradeBust
    | MarketPhase
    | Ticker
    | Candle
    | Heartbeat
    | Subscribed
    | Pong
    | FeedError
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookOrder:
    """One visible resting order in a snapshot, best first, in queue order."""

    entry: int
    side: Side
    price_ticks: int | None
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRecord:
    """The compacted topic's record, keyed by ticker: the full book after frame `seq`, so a feed starts near the end.

    Also carries the running day of the ticker, so that a feed that starts here needs nothing earlier.
    """

    log_id: str
    seq: int
    at_ns: int
    ticker: str
    book_seq: int
    phase: Phase
    orders: tuple[BookOrder, ...]
    reference_price_ticks: int | None
    last_price_ticks: int | None
    open_price_ticks: int | None
    high_price_ticks: int | None
    low_price_ticks: int | None
    trades: int
    volume_shares: int
    turnover_cents: int
