"""The command log's records: everything that may change a market, and nothing else.

A record is `["kind", {fields}]` (see `codec`), its offset is its number. Commands ask; the engine's frame
says what became of it. Participants' commands carry the order's id and revision, so one heard twice changes
nothing. Owner's commands (Tick, ConfigureSession) carry the epoch of their TakeOver, and the engine ignores
those of an older one. Standard library only: the matching engine imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStart:
    """The first record of a log; gives the log its id. Void anywhere else."""

    log_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """A matcher claims the shard; its epoch is this record's offset. Void with another engine version."""

    owner: str
    engine_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The owner lets the next engine version in; only such a TakeOver counts afterwards."""

    epoch: int
    next_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Session time, by the owner. Times that do not grow are ignored."""

    epoch: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentConfig:
    """One instrument as the engine knows it; prices in ticks, quantities in shares."""

    ticker: str
    asset: str
    group: str = "other"
    lot_shares: int = 100
    quantity_max_shares: int | None = None
    reference_price_ticks: int | None = None
    """The adjusted previous close: centre of bands and tie-break of auctions until a first trade."""
    last_price_ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChange:
    """At this session instant the market enters this phase."""

    at_ns: int
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What a market trades, when and by which rules, for one business date ("2026-11-23")."""

    session: str
    market: str
    shard: int
    business_date: str
    instruments: tuple[InstrumentConfig, ...]
    schedule: tuple[PhaseChange, ...]
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureSession:
    """The owner's configuration; revision grows by one, older revisions and epochs are ignored."""

    epoch: int
    revision: int
    config: SessionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Logon:
    """A participant's door is up; its offset names the logon."""

    participant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """A participant is gone; void after a Logon later than the one it names."""

    participant: str
    logon_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """Ask for a new order. `revision` is 1 where it is numbered; None (the tape) means "not numbered"."""

    participant: str
    account: str
    order_id: str
    ticker: str
    side: Side
    quantity_shares: int
    type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.DAY
    revision: int | None = 1
    price_ticks: int | None = None
    stop_price_ticks: int | None = None
    protection_price_ticks: int | None = None
    display_quantity_shares: int | None = None
    min_quantity_shares: int | None = None
    expires: str | None = None
    """ISO date, with gtd."""
    self_trade_prevention: SelfTradePrevention | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Ask to cancel what is left of an order. Of an unknown id: refused, and the id is barred for ever."""

    participant: str
    order_id: str
    revision: int | None = None
    ticker: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceOrder:
    """Ask for another price or total quantity; None keeps what is there. Quantity is the new total."""

    participant: str
    order_id: str
    revision: int | None = None
    ticker: str | None = None
    price_ticks: int | None = None
    quantity_shares: int | None = None
    time_in_force: TimeInForce | None = None
    protection_price_ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MassCancel:
    """Cancel a participant's orders, all or of one ticker or account."""

    participant: str
    mass_id: str | None = None
    ticker: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPhase:
    """The supervisor (or a tape) moves the market, or one instrument, to a phase now."""

    phase: Phase
    ticker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncross:
    """End the auction of one instrument now."""

    ticker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Halt one instrument, or the market."""

    ticker: str | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """End a halt: the instrument rejoins its market's phase."""

    ticker: str | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLevel:
    """The index, numbered by surveillance; values in hundredths of a point."""

    number: int
    value_hundredths: int
    previous_close_hundredths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Another shard's circuit breaker tripped; idempotent by (day, level)."""

    day: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BustTrade:
    """Undo a trade by a new event; never an edit."""

    trade_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """Lift an instrument's quarantine: it stays halted until a Resume."""

    ticker: str


Command = (
    LogStart
    | TakeOver
    | HandOver
    | Tick
    | ConfigureSession
    | Logon
    | Disconnect
    | PlaceOrder
    | CancelOrder
    | ReplaceOrder
    | MassCancel
    | SetPhase
    | Uncross
    | Halt
    | Resume
    | IndexLevel
    | Trip
    | BustTrade
    | Redrive
)

COMMAND_KINDS: dict[str, type] = {
    "log_start": LogStart,
    "take_over": TakeOver,
    "hand_over": HandOver,
    "tick": Tick,
    "configure": ConfigureSession,
    "logon": Logon,
    "disconnect": Disconnect,
    "new": PlaceOrder,
    "cancel": CancelOrder,
    "replace": ReplaceOrder,
    "mass_cancel": MassCancel,
    "phase": SetPhase,
    "uncross": Uncross,
    "halt": Halt,
    "resume": Resume,
    "index": IndexLevel,
    "trip": Trip,
    "bust": BustTrade,
    "redrive": Redrive,
}
