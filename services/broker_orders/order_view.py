"""Orders and events as the public sees them. Pure."""

from collections.abc import Sequence

from mybroker.contracts import http_broker as http
from mybroker.contracts.broker_events import WalletEvent
from mybroker.domain.money import floor_div, format_cents, format_ticks
from mybroker.domain.schedule import format_instant
from services.broker_orders.blotter import Notice
from services.broker_orders.lifecycle import Order
from services.broker_orders.messages import FillRow

CASH = "BRL"


def order_view(order: Order, fills: Sequence[FillRow] | None = None) -> http.Order:
    """Return an order in its public shape; with its fills where they are given."""
    return http.Order(
        id=order.order_id,
        client_order_id=order.client_order_id,
        account=order.account,
        session=order.session_key,
        ticker=order.ticker,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        quantity=order.quantity_shares,
        price=_price(order.price_ticks),
        stop_price=None,
        protection_price=_price(order.protection_price_ticks),
        status=order.status.value,
        reason=order.reason,
        revision=order.terms_revision,
        filled_quantity=order.cum_shares,
        remaining_quantity=order.leaves_shares,
        average_price=average_price(order.filled_cents, order.cum_shares),
        created_at=format_instant(order.created_at_ns),
        updated_at=format_instant(order.updated_at_ns),
        fills=None if fills is None else tuple(_fill(fill) for fill in fills),
    )


def average_price(filled_cents: int, filled_shares: int) -> str | None:
    """Write what was paid for each share on average, with four places, rounded down."""
    if filled_shares == 0:
        return None
    whole, rest = divmod(floor_div(filled_cents * 100, filled_shares), 10_000)
    return f"{whole}.{rest:04d}"


def event_view(notice: Notice) -> http.PrivateEvent:
    """Return a private event in its public shape."""
    trade = None
    report = notice.report
    if report is not None and report.trade_id is not None:
        trade = http.EventTrade(
            trade_id=report.trade_id,
            price=format_ticks(report.price_ticks or 0),
            quantity=report.quantity_shares or 0,
            aggressor=report.aggressor,
        )
    return http.PrivateEvent(
        seq=notice.seq,
        kind=notice.kind,
        at=format_instant(notice.at_ns),
        order=None if notice.order is None else order_view(notice.order),
        trade=trade,
        wallet=None if notice.wallet is None else _wallet(notice.wallet),
        reason=notice.reason,
    )


def _wallet(event: WalletEvent) -> http.EventWallet:
    return http.EventWallet(
        kind=event.kind,
        asset=event.asset,
        amount=_amount(event.asset, event.amount),
        debt=_amount(event.debt_asset or CASH, event.debt),
        order_id=event.order_id,
        trade_id=event.trade_id,
        balances=tuple(
            http.EventBalance(
                asset=balance.asset,
                available=_amount(balance.asset, balance.available),
                held=_amount(balance.asset, balance.held),
            )
            for balance in event.balances
        ),
    )


def _amount(asset: str, amount: int) -> str:
    return format_cents(amount) if asset == CASH else str(amount)


def _price(price_ticks: int | None) -> str | None:
    return None if price_ticks is None else format_ticks(price_ticks)


def _fill(fill: FillRow) -> http.Fill:
    return http.Fill(
        trade_id=fill.trade_id,
        price=format_ticks(fill.price_ticks),
        quantity=fill.quantity_shares,
        at=format_instant(fill.at_ns),
        busted=fill.busted,
    )
