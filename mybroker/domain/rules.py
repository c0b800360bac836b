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
    bands_by_group: tuple[tuple[str, Bands], ...] = field(default=DEFAULT_BANDS)
    stp: SelfTradePrevention = SelfTradePrevention.CANCEL_AGGRESSOR
    """Used where an order names none."""
    auction_candidates: AuctionCandidates = AuctionCandidates.LIMITS
    auction_interval: AuctionInterval = AuctionInterval.WIDE
    quantity_max_shares: int = 1_000_000_000
    hash_every_commands: int = 1_000
    book_every_commands: int = 2_000
    orders_live_max: int = 1_000_000
