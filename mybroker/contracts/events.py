"""What happened in a market: the events inside a frame, each with all its facts.

Tape lines, execution reports and the public feed are three projections of these events; none looks anything
up elsewhere. An event that is addressed to a participant carries that participant's report number: numbers
run 1, 2, 3 … per (market, shard, participant). Book events are absolute: `BookEntry` says what is now visible
of one resting order, 0 means gone. Standard library only: the matching engine imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.domain.order import Aggressor, CancelReason, OrderType, Side, TimeInForce
from mybroker.domain.phase import Phase, StatusReason
from mybroker.domain.refusal import RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRef:
    """Whose order an event speaks of, and the report number of that event."""

    participant: str
    account: str
    order_id: str
    revision: int
    report_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccepted:
    """The order is in the market (it may trade in the same frame)."""

    order: OrderRef
    ticker: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price_ticks: int | None
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected:
    """The order never was in the market."""

    order: OrderRef
    ticker: str
    reason: RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateIgnored:
    """A command heard before (or an older revision); nothing changed and no report is owed."""

    participant: str
    order_id: str
    revision: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeSide:
    """One side of a trade, with the order's running totals after it."""

    order: OrderRef
    cum_shares: int
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeExecuted:
    """Two orders traded, at the resting price or the auction's."""

    trade_id: str
    ticker: str
    price_ticks: int
    quantity_shares: int
    aggressor: Aggressor
    buy: TradeSide
    sell: TradeSide


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRested:
    """A market order's remainder rests as a limit at this price (market-to-limit)."""

    order: OrderRef
    ticker: str
    price_ticks: int
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """`quantity_shares` left the order without a trade; nothing is left of it."""

    order: OrderRef
    ticker: str
    side: Side
    quantity_shares: int
    cum_shares: int
    reason: CancelReason


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReplaced:
    """The order has a new price or total; `order.revision` is the replace's."""

    order: OrderRef
    ticker: str
    side: Side
    price_ticks: int | None
    quantity_shares: int
    cum_shares: int
    leaves_shares: int
    kept_priority: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRejected:
    """A cancel changed nothing."""

    order: OrderRef
    reason: RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceRejected:
    """A replace changed nothing."""

    order: OrderRef
    reason: RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderExpired:
    """The day ended (or the date came) with this much left."""

    order: OrderRef
    ticker: str
    side: Side
    quantity_shares: int
    cum_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRestated:
    """A surviving order opens a new day."""

    order: OrderRef
    ticker: str
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTriggered:
    """A stop fired."""

    order: OrderRef
    ticker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBusted:
    """A trade is void; both sides are told."""

    trade_id: str
    ticker: str
    price_ticks: int
    quantity_shares: int
    buy: OrderRef
    sell: OrderRef


@dataclass(frozen=True, slots=True, kw_only=True)
class MassCancelled:
    """A mass cancel ended; this many orders went."""

    participant: str
    report_number: int
    mass_id: str | None
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookEntry:
    """What is visible of one resting order now; `book_seq` counts the ticker's book events 1, 2, 3 …

    `entry` is the order's public number (its place in time within a price: lower is earlier);
    `quantity_shares` 0 takes it out. A new entry number is how an order loses its place.
    """

    ticker: str
    book_seq: int
    entry: int
    side: Side
    price_ticks: int | None
    """None: a market order waiting for an auction."""
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoreticalChanged:
    """What an auction would print now; price None where nothing crosses."""

    ticker: str
    price_ticks: int | None
    quantity_shares: int
    imbalance_shares: int
    imbalance_side: Side | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuctionUncrossed:
    """An auction printed; follows its trades. Price None where nothing crossed."""

    ticker: str
    price_ticks: int | None
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChanged:
    """The market (ticker None) or one instrument entered a phase."""

    ticker: str | None
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """Why an instrument is in this phase of its own, and until when as far as is known."""

    ticker: str
    phase: Phase
    reason: StatusReason
    until_ns: int | None
    """None: until a supervisor's command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandsChanged:
    """The bands that stand still between trades: order prices outside rejection are refused, trades outside static
    call an auction. Inclusive, in ticks; None without a price to be around."""

    ticker: str
    rejection_low_ticks: int | None
    rejection_high_ticks: int | None
    static_low_ticks: int | None
    static_high_ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerTripped:
    """The index fell to this level (1, 2, 3) of the circuit breaker: everything is halted.

    `by_index` False: another shard's trip was heard. `until_ns` None: until a supervisor's command.
    """

    day: str
    level: int
    by_index: bool
    until_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfigured:
    """A ConfigureSession took effect."""

    revision: int
    business_date: str
    tickers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayClosed:
    """The day of one instrument is over: closing price (the adjusted reference of the next day) and totals."""

    ticker: str
    business_date: str
    closing_price_ticks: int | None
    trades: int
    volume_shares: int
    turnover_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerChanged:
    """A TakeOver counted; its epoch is its offset."""

    owner: str
    epoch: int
    engine_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The owner let the next engine version in."""

    next_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOn:
    """A participant logged on; the frame's offset names the logon."""

    participant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """A participant was disconnected."""

    participant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHashed:
    """The state hash after this frame's command: 128 bits, hex."""

    state_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """The engine failed on this command: its effects are undone and the instrument is halted.

    `error` is the exception's type name only, so that every replay says the same.
    """

    ticker: str | None
    command: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandIgnored:
    """The command was void: an older epoch or revision, time that does not grow, an unknown ticker."""

    command: str
    why: str


Event = (
    OrderAccepted
    | OrderRejected
    | DuplicateIgnored
    | TradeExecuted
    | OrderRested
    | OrderCancelled
    | OrderReplaced
    | CancelRejected
    | ReplaceRejected
    | OrderExpired
    | OrderRestated
    | OrderTriggered
    | TradeBusted
    | MassCancelled
    | BookEntry
    | TheoreticalChanged
    | AuctionUncrossed
    | PhaseChanged
    | StatusChanged
    | BandsChanged
    | CircuitBreakerTripped
    | SessionConfigured
    | DayClosed
    | OwnerChanged
    | HandedOver
    | LoggedOn
    | Disconnected
    | StateHashed
    | Quarantined
    | CommandIgnored
)

EVENT_KINDS: dict[str, type] = {
    "accepted": OrderAccepted,
    "rejected": OrderRejected,
    "duplicate": DuplicateIgnored,
    "trade": TradeExecuted,
    "rested": OrderRested,
    "cancelled": OrderCancelled,
    "replaced": OrderReplaced,
    "cancel_rejected": CancelRejected,
    "replace_rejected": ReplaceRejected,
    "expired": OrderExpired,
    "restated": OrderRestated,
    "triggered": OrderTriggered,
    "busted": TradeBusted,
    "mass_cancelled": MassCancelled,
    "book": BookEntry,
    "theoretical": TheoreticalChanged,
    "auction": AuctionUncrossed,
    "phase": PhaseChanged,
    "status": StatusChanged,
    "bands": BandsChanged,
    "tripped": CircuitBreakerTripped,
    "configured": SessionConfigured,
    "day_closed": DayClosed,
    "owner": OwnerChanged,
    "handed_over": HandedOver,
    "logged_on": LoggedOn,
    "disconnected": Disconnected,
    "hash": StateHashed,
    "quarantined": Quarantined,
    "ignored": CommandIgnored,
}
