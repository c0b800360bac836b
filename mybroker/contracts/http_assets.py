"""Bodies of broker_assets' HTTP answers, as clients see them at the gateway."""

from __future__ import annotations

import msgspec

from mybroker.domain.instrument import InstrumentGroup, InstrumentKind


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument. `tradable`: the running session lists it; `aliases` are names it had before."""

    ticker: str
    name: str
    kind: InstrumentKind
    group: InstrumentGroup
    lot: int
    tick: str
    reference_price: str
    index_weight_ppm: int
    fractional_ticker: str | None
    tradable: bool
    aliases: tuple[str, ...]


class AssetList(msgspec.Struct, frozen=True, kw_only=True):
    """All instruments, by ticker."""

    assets: tuple[Asset, ...]


class LastQuote(msgspec.Struct, frozen=True, kw_only=True):
    """The last quote of a ticker from its source outside the market; the market's own prices are at /book and /state.

    `stale`: the source said so, or nothing newer came for too long. `age_ms` is wall time since it was received.
    """

    ticker: str
    price: str
    source: str
    updated_at: str
    received_at: str
    age_ms: int
    stale: bool
    name: str | None = None
    open: str | None = None
    high: str | None = None
    low: str | None = None
    previous_close: str | None = None
    volume: int | None = None


class QuoteList(msgspec.Struct, frozen=True, kw_only=True):
    """The last quotes of all tickers that have one."""

    quotes: tuple[LastQuote, ...]
