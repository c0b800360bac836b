"""What is traded: one share, fund or receipt, and the fractional book that goes with a share.

Every instrument's tick is R$ 0.01, so a price of one tick is one cent per share. Shares and units trade in lots of
100; funds and receipts by the unit. "PETR4F" is the fractional market of PETR4: another book, lot 1, at most 99 an
order, and the same asset in the ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

TICK_CENTS = 1
"""A price of one tick is this many cents per share, for every instrument."""

LOT_SHARES_STANDARD = 100
LOT_SHARES_UNIT = 1
FRACTIONAL_SUFFIX = "F"
FRACTIONAL_QUANTITY_MAX_SHARES = 99
ORDER_QUANTITY_MAX_SHARES = 10_000_000
"""The most one order may ask for in a standard book; a fat finger is larger."""

TICKER_PATTERN = r"^[A-Z][A-Z0-9]{3}[0-9]{1,2}F?$"
TICKER_LENGTH_MAX = 7
_TICKER = re.compile(TICKER_PATTERN.rstrip("$") + r"\Z")


class InstrumentKind(StrEnum):
    """What a ticker is a title to."""

    SHARE = "share"
    UNIT = "unit"
    FII = "fii"
    ETF = "etf"
    BDR = "bdr"


class InstrumentGroup(StrEnum):
    """The row of the bands' table an instrument is read from."""

    INDEX = "index"
    OTHER_INDEX = "other_index"
    OTHER = "other"
    ETF = "etf"


KINDS_WITH_A_FRACTIONAL_MARKET = frozenset({InstrumentKind.SHARE, InstrumentKind.UNIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One book's instrument on one day.

    `asset` is what a trade moves in the ledger (a fractional ticker without its F). `reference_price_ticks` is the
    adjusted previous close. `index_weight_ppm` is its part of the index in millionths, 0 outside it and in every
    fractional book, so that a share is never counted twice.
    """

    ticker: str
    name: str
    asset: str
    kind: InstrumentKind
    group: InstrumentGroup
    lot_shares: int
    order_quantity_max_shares: int
    reference_price_ticks: int
    index_weight_ppm: int = 0

    def __post_init__(self) -> None:
        assert is_ticker(self.ticker), f"ticker: expected {TICKER_PATTERN}, was {self.ticker!r}"
        assert self.asset == asset_of(self.ticker), f"asset of {self.ticker}: was {self.asset!r}"
        assert self.lot_shares > 0, f"lot of {self.ticker}: expected 1 or more, was {self.lot_shares}"
        assert self.order_quantity_max_shares >= self.lot_shares, f"{self.ticker}: not one lot fits into an order"
        assert self.reference_price_ticks > 0, f"reference of {self.ticker}: was {self.reference_price_ticks} ticks"
        assert 0 <= self.index_weight_ppm <= 1_000_000, f"weight of {self.ticker}: was {self.index_weight_ppm} ppm"

    @property
    def is_fractional(self) -> bool:
        """Say whether this is the F book of a share."""
        return is_fractional_ticker(self.ticker)


def is_ticker(text: str) -> bool:
    """Say whether the text has the form of a B3 cash-market ticker, fractional ones included."""
    return _TICKER.match(text) is not None


def is_fractional_ticker(ticker: str) -> bool:
    """Say whether a ticker names a fractional book; only F ends a ticker in a letter."""
    return ticker.endswith(FRACTIONAL_SUFFIX)


def asset_of(ticker: str) -> str:
    """Return the ledger's asset of a ticker: PETR4F and PETR4 are both PETR4."""
    return ticker.removesuffix(FRACTIONAL_SUFFIX)


def lot_shares_of(kind: InstrumentKind) -> int:
    """Return the standard book's lot of a kind."""
    return LOT_SHARES_STANDARD if kind in KINDS_WITH_A_FRACTIONAL_MARKET else LOT_SHARES_UNIT


def fractional_of(instrument: Instrument) -> Instrument:
    """Return the F book of a share or unit."""
    assert not instrument.is_fractional, f"{instrument.ticker} is fractional already"
    assert instrument.kind in KINDS_WITH_A_FRACTIONAL_MARKET, f"a {instrument.kind} has no fractional market"
    return replace(
        instrument,
        ticker=instrument.ticker + FRACTIONAL_SUFFIX,
        lot_shares=LOT_SHARES_UNIT,
        order_quantity_max_shares=FRACTIONAL_QUANTITY_MAX_SHARES,
        index_weight_ppm=0,
    )
