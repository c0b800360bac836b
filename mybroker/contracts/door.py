"""The exchange's door: what participants ask, and what the exchange answers, on either route.

RabbitMQ queues or Kafka topics carry the same bytes. A request is delivered at least once; commands carry
id and revision, so hearing one again changes nothing. Execution reports are numbered by the engine per
(market, shard, participant): the participant drops a number it has seen and asks `Resend` at a gap;
heartbeats carry each shard's last number, so a lost last report shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.codec import Codec
from mybroker.contracts.commands import CancelOrder, MassCancel, PlaceOrder, ReplaceOrder
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLogon:
    """The participant is here; the door appends a Logon to every shard of the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Send the reports of one shard again, from a number on (inclusive)."""

    market: str
    shard: int
    log_id: str
    from_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MassStatusRequest:
    """Tell the state of my live orders (all, or of one ticker)."""

    ticker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTradesRequest:
    """Give me my trades of the day, to reconcile."""

    business_date: str


DoorBody = (
    PlaceOrder | CancelOrder | ReplaceOrder | MassCancel | SessionLogon | Resend | MassStatusRequest | DayTradesRequest
)

DOOR_BODIES = Codec(
    "door request",
    {
        "new": PlaceOrder,
        "cancel": CancelOrder,
        "replace": ReplaceOrder,
        "mass_cancel": MassCancel,
        "logon": SessionLogon,
        "resend": Resend,
        "mass_status": MassStatusRequest,
        "day_trades": DayTradesRequest,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorRequest:
    """One request: who, to which session ("namespace.session"), under which message id, with what."""

    participant: str
    session_key: str
    message_id: str
    body: DoorBody
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """The command is in the market's log, at this offset; it will be answered by reports."""

    message_id: str
    order_id: str | None
    revision: int | None
    market: str
    shard: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAtDoor:
    """The door did not take it: nothing entered the log for this delivery (another may have: see broker.md 4)."""

    message_id: str
    order_id: str | None
    revision: int | None
    reason: RejectReason
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionReport:
    """What became of an order, with its totals after it. `kind` is an event kind of `contracts.events`:

    accepted, rejected, trade, rested, cancelled, replaced, cancel_rejected, replace_rejected, expired,
    restated, triggered, busted, mass_cancelled.
    """

    session_key: str
    market: str
    shard: int
    log_id: str
    number: int
    seq: int
    offset: int
    at_ns: int
    kind: str
    participant: str
    account: str
    order_id: str
    revision: int
    ticker: str | None = None
    side: Side | None = None
    price_ticks: int | None = None
    quantity_shares: int | None = None
    """Of a trade: this fill; of a cancel or expiry: what left; else the order's total."""
    cum_shares: int | None = None
    leaves_shares: int | None = None
    trade_id: str | None = None
    aggressor: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastNumber:
    """The last report number of one shard for this participant."""

    market: str
    shard: int
    log_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorHeartbeat:
    """The door is alive; compare the numbers with what was heard."""

    session_key: str
    at_wall_ns: int
    last_numbers: tuple[LastNumber, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """One live order, in a mass status."""

    order_id: str
    account: str
    ticker: str
    side: Side
    price_ticks: int | None
    cum_shares: int
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MassStatus:
    """The participant's live orders as of the report numbers given."""

    message_id: str
    session_key: str
    orders: tuple[OrderState, ...]
    last_numbers: tuple[LastNumber, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTrade:
    """One side of one trade, for reconciliation."""

    trade_id: str
    market: str
    ticker: str
    order_id: str
    account: str
    side: Side
    price_ticks: int
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTrades:
    """The participant's trades of a day, in order; `last` on the final piece."""

    message_id: str
    session_key: str
    business_date: str
    trades: tuple[DayTrade, ...]
    piece: int = 1
    last: bool = True


DoorReply = Sequenced | RefusedAtDoor | ExecutionReport | DoorHeartbeat | MassStatus | DayTrades

DOOR_REPLIES = Codec(
    "door reply",
    {
        "sequenced": Sequenced,
        "refused": RefusedAtDoor,
        "report": ExecutionReport,
        "heartbeat": DoorHeartbeat,
        "mass_status": MassStatus,
        "day_trades": DayTrades,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RequestWire:
    participant: str
    session_key: str
    message_id: str
    body: str
    traceparent: str | None = None


_REQUESTS = Codec("door envelope", {"request": _RequestWire})


def encode_request(request: DoorRequest) -> bytes:
    """Encode a request: `["request", {participant, session_key, message_id, traceparent, body}]`."""
    return _REQUESTS.encode(
        _RequestWire(
            participant=request.participant,
            session_key=request.session_key,
            message_id=request.message_id,
            body=DOOR_BODIES.encode(request.body).decode(),
            traceparent=request.traceparent,
        )
    )


def decode_request(data: bytes) -> DoorRequest:
    """Decode a request; raises Malformed with what was expected and what came."""
    wire: _RequestWire = _REQUESTS.decode(data)
    return DoorRequest(
        participant=wire.participant,
        session_key=wire.session_key,
        message_id=wire.message_id,
        body=DOOR_BODIES.decode(wire.body.encode()),
        traceparent=wire.traceparent,
    )
