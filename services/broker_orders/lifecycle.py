"""The states of an order, built from what is known for sure. Pure.

An order is a set of facts that only grow: it was routed, the exchange accepted it, so much of it is filled, revision
n of its terms is in force, revision m was answered, it ended. The status is read off the facts, so reports heard
twice, or in another order, end in the same state. A cancel of an id the exchange never saw bars that id: then the
order has ended too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from mybroker.contracts.door import ExecutionReport
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.refusal import RejectReason


class Status(StrEnum):
    """Where an order is in its life."""

    RECEIVED = "received"
    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    PENDING_REPLACE = "pending_replace"
    REJECTED = "rejected"
    EXPIRED = "expired"


DONE = frozenset({Status.FILLED, Status.CANCELED, Status.REJECTED, Status.EXPIRED})
WAITING = frozenset({Status.RECEIVED, Status.PENDING_NEW, Status.PENDING_CANCEL, Status.PENDING_REPLACE})
"""States that somebody must end: what stays in one for long is in doubt."""

_ENDS = {"cancelled": Status.CANCELED, "expired": Status.EXPIRED, "rejected": Status.REJECTED}
_ANSWERS = frozenset({"cancelled", "replaced", "cancel_rejected", "replace_rejected", "expired", "rejected"})
_NEVER_THERE = frozenset({RejectReason.UNKNOWN_ORDER.value, RejectReason.ID_BARRED.value})
_KNOWN_TO_EXCHANGE = frozenset(
    {"accepted", "trade", "rested", "cancelled", "replaced", "expired", "restated", "triggered"}
)


class Pending(StrEnum):
    """What was asked last and is not answered."""

    CANCEL = "cancel"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order with everything the broker knows of it; the columns of its row.

    `terms_revision` is the revision whose quantity and price are in force, `last_revision` the highest one used.
    A replace waits with its terms in `pending_*`; `pending_routed` says whether it went out. `hold_price_ticks` is
    the worst price of a buy. `waiting_since_ns` is wall time, everything else session time.
    """

    order_id: str
    account: str
    client_order_id: str
    content: str
    session_key: str
    ticker: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity_shares: int
    price_ticks: int | None
    protection_price_ticks: int | None
    hold_price_ticks: int | None
    created_at_ns: int
    updated_at_ns: int
    status: Status = Status.RECEIVED
    reason: str | None = None
    routed: bool = False
    accepted: bool = False
    ended: Status | None = None
    cum_shares: int = 0
    filled_cents: int = 0
    terms_revision: int = 1
    last_revision: int = 1
    answered_revision: int = 0
    pending: Pending | None = None
    pending_revision: int = 0
    pending_routed: bool = False
    pending_quantity_shares: int | None = None
    pending_price_ticks: int | None = None
    waiting_since_ns: int | None = None

    @property
    def done(self) -> bool:
        """Say whether nothing more will happen to it."""
        return self.status in DONE

    @property
    def leaves_shares(self) -> int:
        """Return what is still open."""
        return 0 if self.done else self.quantity_shares - self.cum_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a report did: the order after it, and whether it is a fill that was not known."""

    order: Order
    filled: bool = False
    closed: bool = False
    """It is done now and was not before."""


def status_of(order: Order) -> Status:
    """Read the status off the facts."""
    if order.ended is not None:
        return order.ended
    if order.accepted and order.cum_shares >= order.quantity_shares:
        return Status.FILLED
    if order.pending is not None:
        return Status.PENDING_CANCEL if order.pending is Pending.CANCEL else Status.PENDING_REPLACE
    if order.cum_shares:
        return Status.PARTIALLY_FILLED
    if order.accepted:
        return Status.NEW
    return Status.PENDING_NEW if order.routed else Status.RECEIVED


def settled(order: Order, *, wall_ns: int) -> Order:
    """Return the order with the status its facts say, waiting from now where it began to wait."""
    status = status_of(order)
    if status not in WAITING:
        return replace(order, status=status, waiting_since_ns=None)
    if status is order.status and order.waiting_since_ns is not None:
        return order
    return replace(order, status=status, waiting_since_ns=wall_ns)


def after_report(order: Order, report: ExecutionReport, *, trade_known: bool, wall_ns: int) -> Step:
    """Return the order after a report. `trade_known`: its trade was counted before."""
    filled = report.kind == "trade" and not trade_known
    facts = replace(
        order,
        routed=True,
        accepted=order.accepted or report.kind in _KNOWN_TO_EXCHANGE,
        cum_shares=max(order.cum_shares, report.cum_shares or 0),
        updated_at_ns=max(order.updated_at_ns, report.at_ns),
    )
    if filled:
        facts = replace(
            facts, filled_cents=facts.filled_cents + (report.price_ticks or 0) * (report.quantity_shares or 0)
        )
    facts = _with_terms(facts, report)
    facts = _with_answer(facts, report)
    facts = _with_end(facts, report)
    after = settled(facts, wall_ns=wall_ns)
    return Step(order=after, filled=filled, closed=after.done and not order.done)


def _with_terms(order: Order, report: ExecutionReport) -> Order:
    if report.kind == "rested" and order.type is OrderType.MARKET and order.terms_revision == 1:
        return order if order.price_ticks is not None else replace(order, price_ticks=report.price_ticks)
    if report.kind != "replaced" or report.revision <= order.terms_revision or report.quantity_shares is None:
        return order
    hold_price_ticks = order.hold_price_ticks if report.price_ticks is None else report.price_ticks
    return replace(
        order,
        terms_revision=report.revision,
        quantity_shares=report.quantity_shares,
        price_ticks=report.price_ticks,
        hold_price_ticks=hold_price_ticks if order.side is Side.BUY else None,
    )


def _with_answer(order: Order, report: ExecutionReport) -> Order:
    if report.kind not in _ANSWERS:
        return order
    answered = max(order.answered_revision, report.revision)
    order = replace(order, answered_revision=answered)
    return without_pending(order) if order.pending is not None and answered >= order.pending_revision else order


def without_pending(order: Order) -> Order:
    """Return the order with nothing asked."""
    return replace(order, pending=None, pending_routed=False, pending_quantity_shares=None, pending_price_ticks=None)


def _with_end(order: Order, report: ExecutionReport) -> Order:
    end = _ENDS.get(report.kind)
    reason = report.reason
    if report.kind == "rejected" and reason == RejectReason.ID_BARRED.value:
        reason = order.reason or RejectReason.IN_DOUBT_CANCELLED.value
    if report.kind in ("cancel_rejected", "replace_rejected") and report.reason in _NEVER_THERE and not order.accepted:
        # The exchange never saw the order, and now never will: the id is barred. A reason known before stands.
        end, reason = Status.REJECTED, order.reason or RejectReason.IN_DOUBT_CANCELLED.value
    if end is None or order.ended is not None:
        return order
    return without_pending(replace(order, ended=end, reason=reason))
