"""The rules of a market as data: every number is a field with the default of the exchange's page.

A `Rules` value reaches the engine only through the command log (ConfigureSession), so a replay uses the
rules of its day. Ratios are in basis points (1 bp = 0.01 %), never floats. Sources: shared design
"exchange-rules.md" and facts "matching.md" 1.3 (B3's table of 2026-03-18).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mybroker.domain.order import SelfTradePrevention


class AuctionCandidates(StrEnum):
    """Which prices an auction may choose among before the reference is clamped."""

    LIMITS = "limits"
    TICKS = "ticks"


class AuctionInterval(StrEnum):
    """Which tied prices span the interval into which the reference is clamped."""

    WIDE = "wide"
    NARROW = "narrow"


class AuctionBandCentre(StrEnum):
    """Around which trade the auction bands of an aggressor's fills lie; the page is silent."""

    TRADE = "trade"
    """The last trade, the aggressor's own fills included."""
    COMMAND = "command"
    """The last trade before the aggressor came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Price bands of one group, in basis points of their centre."""

    rejection_bp: int = 2000
    auction_last_bp: int = 850
    auction_mean_bp: int = 1000
    static_bp: int = 1000
    protection_auction_bp: int = 1500
    protection_call_bp: int = 300


DEFAULT_BANDS: tuple[tuple[str, Bands], ...] = (
    (
        "index",
        Bands(
            auction_last_bp=150,
            auction_mean_bp=200,
            protection_auction_bp=500,
            protection_call_bp=150,
        ),
    ),
    (
        "other_index",
        Bands(
            auction_last_bp=300,
            auction_mean_bp=400,
            protection_auction_bp=500,
            protection_call_bp=300,
        ),
    ),
    ("other", Bands()),
    (
        "etf",
        Bands(
            auction_last_bp=400,
            auction_mean_bp=500,
            protection_auction_bp=500,
            protection_call_bp=300,
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules profile of one market; the defaults are `b3-equities`."""

    profile: str = "b3-equities"
    lot: int | None = None
    """Overrides every instrument's lot (shares) where given."""
    bands: bool = True
    auction_bands: bool = True
    """Where `bands` is on: the bands around each trade and the protection of a call, beside the rejection band."""
    bands_by_group: tuple[tuple[str, Bands], ...] = field(default=DEFAULT_BANDS)
    stp: SelfTradePrevention = SelfTradePrevention.CANCEL_AGGRESSOR
    """Used where an order names none."""
    auction_candidates: AuctionCandidates = AuctionCandidates.LIMITS
    auction_interval: AuctionInterval = AuctionInterval.WIDE
    auction_band_centre: AuctionBandCentre = AuctionBandCentre.TRADE
    auction_band_minimum_ticks: int = 10
    """An auction band is never narrower than this on a side: R$ 0.10."""
    mean_window_seconds: int = 60
    static_steps_bp: tuple[int, ...] = (2000, 3000)
    """Where the static band steps to after an auction printed beyond it."""
    static_steps_more_bp: int = 1000
    """How much wider each step after the last of those is; the page is silent."""
    auction_durations: tuple[tuple[int, int], ...] = ((0, 180), (900, 300), (5000, 600), (10_000, 900))
    """(from this day's move in basis points, seconds), rising."""
    extensions: bool = True
    """A late change extends a call."""
    extension_seconds: int = 60
    extension_windows_seconds: tuple[int, ...] = (60, 30, 15)
    """How late a change must come to extend a call that was extended 0, 1, 2 … times."""
    extensions_max: int = 2
    protection_extensions_max: int = 3
    circuit_breaker: bool = True
    circuit_breaker_levels: tuple[tuple[int, int], ...] = ((1000, 1800), (1500, 3600), (2000, 0))
    """(fall of the index in basis points, seconds of the halt; 0 halts until commanded), rising."""
    circuit_breaker_quiet_seconds: int = 1800
    """The breaker does not trip in this last part of the day."""
    circuit_breaker_call_seconds: int = 300
    stop_beyond_last: bool = True
    """A stop must lie beyond the last trade on entry (B3's order types page); else it triggers at the next trade."""
    stop_triggers_max: int = 1000
    """How many stops one command may set off; the others follow with the next tick."""
    display_lots_min: int = 1
    """The least an iceberg may show; B3's figure is unverified."""
    quantity_max_shares: int = 1_000_000_000
    hash_every_commands: int = 1_000
    book_every_commands: int = 2_000
    orders_live_max: int = 1_000_000

    @property
    def trades_have_bands(self) -> bool:
        """Say whether a trade, not only an order's price, is held to a band."""
        return self.bands and self.auction_bands
