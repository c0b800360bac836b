"""What goes out because of an order: commands for the exchange, events for the wallet, rows of fills. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mybroker.contracts import broker_events as ev
from mybroker.contracts.commands import CancelOrder, PlaceOrder, ReplaceOrder
from mybroker.contracts.door import ExecutionReport
from mybroker.contracts.topics import BROKER_PARTICIPANT
from services.broker_orders.lifecycle import Order

Command = PlaceOrder | CancelOrder | ReplaceOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRow:
    """One fill, or the bust of one."""

    order_id: str
    trade_id: str
    market: str
    price_ticks: int
    quantity_shares: int
    at_ns: int
    busted: bool = False


def place_command(order: Order) -> PlaceOrder:
    """Return the command that puts an order to the exchange."""
    return PlaceOrder(
        participant=BROKER_PARTICIPANT,
        account=order.account,
        order_id=order.order_id,
        ticker=order.ticker,
        side=order.side,
        quantity_shares=order.quantity_shares,
        type=order.type,
        time_in_force=order.time_in_force,
        revision=1,
        price_ticks=order.price_ticks,
        protection_price_ticks=order.protection_price_ticks,
    )


def cancel_command(order: Order) -> CancelOrder:
    """Return the cancel that waits."""
    return CancelOrder(
        participant=BROKER_PARTICIPANT,
        order_id=order.order_id,
        revision=order.pending_revision,
        ticker=order.ticker,
        account=order.account,
    )


def replace_command(order: Order) -> ReplaceOrder:
    """Return the replace that waits."""
    return ReplaceOrder(
        participant=BROKER_PARTICIPANT,
        order_id=order.order_id,
        revision=order.pending_revision,
        ticker=order.ticker,
        price_ticks=order.pending_price_ticks,
        quantity_shares=order.pending_quantity_shares,
    )


def fill_of(order_id: str, report: ExecutionReport) -> FillRow:
    return FillRow(
        order_id=order_id,
        trade_id=report.trade_id or "",
        market=report.market,
        price_ticks=report.price_ticks or 0,
        quantity_shares=report.quantity_shares or 0,
        at_ns=report.at_ns,
    )


def event_of(report: ExecutionReport, order: Order, head: ev.OrderHead) -> ev.OrderEvent | None:
    """Return what a report means to the wallet and to whoever follows orders."""
    match report.kind:
        case "accepted":
            return ev.OrderAcknowledged(head=head, quantity_shares=order.quantity_shares)
        case "trade":
            return ev.OrderTraded(
                head=head,
                market=report.market,
                trade_id=report.trade_id or "",
                price_ticks=report.price_ticks or 0,
                quantity_shares=report.quantity_shares or 0,
                cum_shares=report.cum_shares or 0,
                leaves_shares=report.leaves_shares or 0,
                aggressor=report.aggressor,
            )
        case "replaced":
            return ev.OrderReplaceConfirmed(
                head=replace(head, revision=report.revision),
                quantity_shares=order.quantity_shares,
                hold_price_ticks=order.hold_price_ticks,
                cum_shares=order.cum_shares,
                leaves_shares=order.leaves_shares,
            )
        case "replace_rejected":
            return ev.OrderReplaceRefused(head=replace(head, revision=report.revision), reason=report.reason or "")
        case "busted":
            return ev.TradeUndone(
                head=head,
                market=report.market,
                trade_id=report.trade_id or "",
                price_ticks=report.price_ticks or 0,
                quantity_shares=report.quantity_shares or 0,
            )
        case _:
            return None
