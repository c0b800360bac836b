"""What can be asked of the blotter, and what it can hear."""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts import broker_events as ev
from mybroker.contracts.door import ExecutionReport
from mybroker.domain.refusal import RejectReason
from services.broker_orders.lifecycle import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What it needs is held: send it to the exchange."""

    order_id: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It was never sent, and shall not be."""

    order_id: str
    reason: RejectReason
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskCancel:
    """Cancel what is left; by its owner, or by the reconciler (`account` None)."""

    order_id: str
    at_ns: int
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskReplace:
    """Reserve a revision for other terms; it is routed once they are held for."""

    order_id: str
    account: str
    quantity_shares: int | None
    price_ticks: int | None
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReplace:
    """The new terms are held for: send the replace."""

    order_id: str
    revision: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropReplace:
    """The replace was never sent, and shall not be."""

    order_id: str
    revision: int
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An execution report, in the order of its numbers."""

    report: ExecutionReport

    @property
    def order_id(self) -> str:
        """Return whose report it is."""
        return self.report.order_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """The door refused a command. It may still be delivered again, so a new order is settled by a cancel."""

    order_id: str
    revision: int
    reason: RejectReason
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """It has waited too long; `waiting_since_ns` says for what (a later wait is another matter)."""

    order_id: str
    waiting_since_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletHeard:
    """The wallet moved for an account."""

    event: ev.WalletEvent

    @property
    def order_id(self) -> str:
        """Return no order: only the account's sequence moves."""
        return ""


Operation = (
    Route | Refuse | AskCancel | AskReplace | RouteReplace | DropReplace | Heard | TurnedAway | Overdue | WalletHeard
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The order after an operation, or why it was refused. `changed`: something was done."""

    order: Order | None
    refusal: RejectReason | None = None
    changed: bool = False
