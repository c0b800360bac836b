"""`mybroker buy`, `sell`, `cancel`, `replace`, `orders`: an order from the terminal.

Every order gets a client order id of its own, so that one whose answer was lost can be sent again without harm:
the error says how. A price that is none is refused here; everything else is the broker's to judge.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import click

from mybroker.cli.client import Client, Unreachable
from mybroker.cli.failure import BAD_INPUT, Failure
from mybroker.cli.output import answer_json, show
from mybroker.cli.sessions import chosen_session, json_option, session_option
from mybroker.cli.signin import my_api
from mybroker.contracts.http_broker import (
    CLIENT_ORDER_ID_LENGTH_MAX,
    PAGE_ITEMS,
    PAGE_ITEMS_MAX,
    NewOrderBody,
    Order,
    OrderList,
    ReplaceBody,
)
from mybroker.contracts.problems import title_of
from mybroker.domain.money import parse_price_ticks
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.refusal import RejectReason

ANSWERED_WITHIN_S = 2.0
LOOK_EVERY_S = 0.05
ON_ITS_WAY = frozenset({"received", "pending_new", "pending_cancel", "pending_replace"})
REFUSED_STATUSES = frozenset({"rejected"})


def _order_options(function: Callable[..., int]) -> Callable[..., int]:
    decorators = (
        click.argument("ticker"),
        click.argument("quantity", type=click.IntRange(min=1)),
        click.argument("price", required=False),
        click.option("--market", is_flag=True, help="At the best price there is, instead of PRICE."),
        click.option("--tif", type=click.Choice([one.value for one in TimeInForce]), default="day", help="How long."),
        click.option("--client-order-id", metavar="ID", help="Your own id; sent again, it gives the first order back."),
        click.option("--no-wait", is_flag=True, help="Do not wait for the exchange's answer."),
        session_option,
        json_option,
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@click.command()
@_order_options
def buy(**given: Any) -> int:
    """Buy QUANTITY shares of TICKER at PRICE or better, or at the market."""
    return _place(Side.BUY, **given)


@click.command()
@_order_options
def sell(**given: Any) -> int:
    """Sell QUANTITY shares of TICKER at PRICE or better, or at the market."""
    return _place(Side.SELL, **given)


@click.command()
@click.argument("order_id", metavar="ID")
@session_option
@json_option
def cancel(order_id: str, session: str | None, as_json: bool) -> int:
    """Cancel what is left of an order."""
    api = my_api(chosen_session(session))
    return _tell(_settled(api, api.delete(f"/orders/{order_id}", Order)), as_json=as_json)


@click.command()
@click.argument("order_id", metavar="ID")
@click.option("--quantity", type=click.IntRange(min=1), help="The new total quantity, what is filled included.")
@click.option("--price", help="The new price.")
@session_option
@json_option
def replace(order_id: str, quantity: int | None, price: str | None, session: str | None, as_json: bool) -> int:
    """Change price or total quantity of an order."""
    if quantity is None and price is None:
        raise Failure("replace: expected --quantity, --price or both", code=BAD_INPUT)
    _check_price(price)
    api = my_api(chosen_session(session))
    changed = api.put(f"/orders/{order_id}", Order, ReplaceBody(quantity=quantity, price=price))
    return _tell(_settled(api, changed), as_json=as_json)


@click.command()
@click.argument("order_id", metavar="[ID]", required=False)
@click.option("--status", help="Only orders of this status: new, filled, canceled, rejected …")
@click.option("--limit", type=click.IntRange(1, PAGE_ITEMS_MAX), default=PAGE_ITEMS, show_default=True)
@session_option
@json_option
def orders(order_id: str | None, status: str | None, limit: int, session: str | None, as_json: bool) -> int:
    """Show your orders, newest first, or one of them with its trades."""
    api = my_api(chosen_session(session))
    if order_id is not None:
        return _show_one(api.get(f"/orders/{order_id}", Order), as_json=as_json)
    found = api.get("/orders", OrderList, {"limit": limit, "status": status})
    if as_json:
        answer_json(found)
        return 0
    from mybroker.cli.tables import orders_table

    show(orders_table(found.orders) if found.orders else "no orders")
    return 0


def new_order(
    side: Side, ticker: str, quantity: int, price: str | None, *, market: bool, tif: str, client_order_id: str | None
) -> NewOrderBody:
    """Return the order that was asked for; raises Failure for what can be no order."""
    if (price is None) != market:
        raise Failure(f"{side.value}: expected either a PRICE or --market", code=BAD_INPUT)
    _check_price(price)
    own_id = client_order_id or f"cli-{secrets.token_hex(8)}"
    if len(own_id) > CLIENT_ORDER_ID_LENGTH_MAX:
        raise Failure(f"--client-order-id: expected at most {CLIENT_ORDER_ID_LENGTH_MAX} characters", code=BAD_INPUT)
    return NewOrderBody(
        ticker=ticker.upper(),
        side=side,
        quantity=quantity,
        type=OrderType.MARKET if market else OrderType.LIMIT,
        time_in_force=TimeInForce(tif),
        price=price,
        client_order_id=own_id,
    )


def _place(side: Side, *, session: str | None, as_json: bool, no_wait: bool, **given: Any) -> int:
    body = new_order(side, **given)
    chosen = chosen_session(session)
    api = my_api(chosen)
    try:
        placed = api.post("/orders", Order, body)
    except Unreachable as lost:
        again = f"send it again with --client-order-id {body.client_order_id}: it is never done twice"
        raise Failure(f"{lost.format_message()}; whether the order was taken is not known: {again}") from lost
    return _tell(placed if no_wait else _settled(api, placed), as_json=as_json)


def _settled(api: Client, order: Order) -> Order:
    """Look at an order until the exchange has answered, or for a moment only."""
    give_up_s = time.monotonic() + ANSWERED_WITHIN_S
    while order.status in ON_ITS_WAY and time.monotonic() < give_up_s:
        time.sleep(LOOK_EVERY_S)
        order = api.get(f"/orders/{order.id}", Order)
    return order


def _tell(order: Order, *, as_json: bool) -> int:
    if as_json:
        answer_json(order)
    else:
        from mybroker.cli.tables import order_line

        click.echo(order_line(order))
    return 1 if order.status in REFUSED_STATUSES else 0


def _show_one(order: Order, *, as_json: bool) -> int:
    if as_json:
        answer_json(order)
        return 0
    from mybroker.cli.tables import order_line

    click.echo(order_line(order))
    for fill in order.fills or ():
        click.echo(f"  {fill.at[11:19]}  {fill.quantity:,} at {fill.price}{'  undone' if fill.busted else ''}")
    return 0


def _check_price(price: str | None) -> None:
    if price is None:
        return
    ticks = parse_price_ticks(price)
    if isinstance(ticks, RejectReason):
        expected = 'decimal text as "30.05"'
        raise Failure(f"price: expected {expected}, was {price!r}: {title_of(ticks)}", code=BAD_INPUT, reason=ticks)
