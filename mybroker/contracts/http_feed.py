"""Bodies of the feed's HTTP answers, as clients see them at the gateway."""

from __future__ import annotations

import msgspec

from mybroker.contracts.feed import Candle, MarketPhase, Ticker, Trade
from mybroker.domain.phase import Phase


class MarketSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One market of a session; `at` is its session time, `speed` how fast that runs (0: paused)."""

    session: str
    market: str
    business_date: str
    desired_state: str
    phase: Phase
    since: str
    at: str
    speed: int
    tickers: tuple[str, ...]


class MarketList(msgspec.Struct, frozen=True, kw_only=True):
    """All markets of the open sessions."""

    markets: tuple[MarketSummary, ...]


class ShardProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the feed has read one shard."""

    shard: int
    log_id: str
    seq: int
    at: str


class MarketStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A market with every instrument's phase and theoretical price."""

    market: MarketSummary
    instruments: tuple[MarketPhase, ...]
    shards: tuple[ShardProgress, ...]


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """A whole session: its markets and the summary of every ticker."""

    session: str
    at: str
    markets: tuple[MarketSummary, ...]
    tickers: tuple[Ticker, ...]


class TradeList(msgspec.Struct, frozen=True, kw_only=True):
    """Trades of a ticker, oldest first. Ask again with `after` = the last number for those that follow."""

    ticker: str
    trades: tuple[Trade, ...]


class CandleList(msgspec.Struct, frozen=True, kw_only=True):
    """One-minute candles of the running day, oldest first, in session time."""

    ticker: str
    candles: tuple[Candle, ...]
