"""Checks that compare broker_orders with the exchange: orders, fills, report numbers, private events. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mybroker.prove.checks import Check
from mybroker.prove.exchange import ExchangeOrder, ExchangeView
from mybroker.prove.rows import BrokerFill, BrokerOrder, OrdersBook, ShardName

DONE = frozenset({"filled", "canceled", "rejected", "expired"})
_STATUSES: Mapping[str, frozenset[str]] = {
    "filled": frozenset({"filled"}),
    "cancelled": frozenset({"canceled"}),
    "expired": frozenset({"expired"}),
    "rejected": frozenset({"rejected"}),
}
_WAITING = frozenset({"pending_cancel", "pending_replace"})


def check_orders(book: OrdersBook, exchange: ExchangeView) -> Check:
    """Every order row says what the exchange says: terms, cumulative, leaves, status; and none is only at one side."""
    check = Check(name="every order is what the exchange says it is", unit="orders")
    known = set()
    for order in book.orders:
        known.add(order.order_id)
        check.compared += 1
        at_exchange = exchange.orders.get(order.order_id)
        if at_exchange is None:
            _check_unseen(check, order)
        else:
            _check_seen(check, order, at_exchange)
    for order_id, only in exchange.orders.items():
        if order_id not in known:
            check.differ(f"order {order_id} of {only.account} is at the exchange ({only.state}), not at the broker")
    return check


def _check_unseen(check: Check, order: BrokerOrder) -> None:
    """An order that the exchange never took has no fills; until it has ended it is on its way."""
    what = f"order {order.order_id}, unknown to the exchange"
    check.expect(f"{what}, cumulative shares", 0, order.cum_shares)
    if order.status in DONE:
        if order.status not in ("rejected", "canceled"):
            check.differ(f"{what}: expected rejected or canceled, was {order.status}")
    else:
        check.in_flight += 1


def _check_seen(check: Check, order: BrokerOrder, at_exchange: ExchangeOrder) -> None:
    what = f"order {order.order_id}"
    if not order.routed:
        check.differ(f"{what}: the exchange has it ({at_exchange.state}), the broker never routed it")
    check.expect(f"{what}, account", at_exchange.account, order.account)
    check.expect(f"{what}, ticker", at_exchange.ticker, order.ticker)
    if at_exchange.state != "rejected":
        assert at_exchange.side is not None, "an accepted order has a side"
        check.expect(f"{what}, side", at_exchange.side.value, order.side)
        check.expect(f"{what}, quantity", at_exchange.quantity_shares, order.quantity_shares)
    check.expect(f"{what}, cumulative shares", at_exchange.cum_shares, order.cum_shares)
    check.expect(f"{what}, leaves", at_exchange.leaves_shares, order.leaves_shares)
    expected = _STATUSES.get(at_exchange.state)
    if expected is None:
        expected = _WAITING | {"partially_filled" if at_exchange.cum_shares else "new"}
    if order.status not in expected:
        check.differ(f"{what}, status: expected {' or '.join(sorted(expected))}, was {order.status}")


def check_fills(book: OrdersBook, exchange: ExchangeView) -> Check:
    """Every side of the broker's trades at the exchange is exactly once in the broker's fills, and nothing else."""
    check = Check(name="every trade is once in the broker's fills", unit="trade sides")
    fills: dict[tuple[str, str], BrokerFill] = {}
    for fill in book.fills:
        key = (fill.order_id, fill.trade_id)
        if key in fills:
            check.differ(f"order {fill.order_id}: trade {fill.trade_id} is twice in the broker's fills")
        fills[key] = fill
    for key, side in exchange.sides.items():
        check.compared += 1
        what = f"order {side.order_id}, trade {side.trade_id}"
        found = fills.pop(key, None)
        if found is None:
            size = f"{side.side.value} {side.quantity_shares} {side.ticker}"
            check.differ(f"{what} ({size}): is at the exchange, not in the broker's fills")
            continue
        check.expect(f"{what}, price in ticks", side.price_ticks, found.price_ticks)
        check.expect(f"{what}, shares", side.quantity_shares, found.quantity_shares)
        check.expect(f"{what}, busted", side.trade_id in exchange.busted, found.busted)
    for order_id, trade_id in fills:
        check.differ(f"order {order_id}, trade {trade_id}: is in the broker's fills, not at the exchange")
    _check_sums(check, book)
    return check


def _check_sums(check: Check, book: OrdersBook) -> None:
    """An order's cumulative shares and cents are the sums of its own fills."""
    sums: dict[str, tuple[int, int]] = {}
    for fill in book.fills:
        shares, cents = sums.get(fill.order_id, (0, 0))
        cents += fill.price_ticks * fill.quantity_shares
        sums[fill.order_id] = (shares + fill.quantity_shares, cents)
    for order in book.orders:
        shares, cents = sums.pop(order.order_id, (0, 0))
        check.expect(f"order {order.order_id}, sum of its fills in shares", shares, order.cum_shares)
        check.expect(f"order {order.order_id}, sum of its fills in cents", cents, order.filled_cents)
    for order_id in sums:
        check.differ(f"order {order_id}: has fills, and no row")


def check_applied(book: OrdersBook, last_numbers: Mapping[ShardName, int]) -> Check:
    """The broker stored the effect of every report up to the exchange's last, shard by shard.

    A broker that is behind is `in_flight`, one that is ahead heard what the exchange never said.
    """
    check = Check(name="the broker heard every report", unit="execution reports")
    for shard, last in last_numbers.items():
        applied = book.applied.get(shard, 0)
        check.compared += applied
        check.in_flight += max(0, last - applied)
        if applied > last:
            check.differ(f"{shard}: the exchange's last report is {last}, the broker applied {applied}")
    for shard, applied in book.applied.items():
        if applied and shard not in last_numbers:
            check.differ(f"{shard}: the broker applied {applied} reports of a shard that is not there")
    return check


def check_private_events(book: OrdersBook) -> Check:
    """The private events of each account are numbered 1, 2, 3 …, each number once."""
    check = Check(name="private events are numbered without a gap", unit="private events")
    for account, numbers in book.private_seqs.items():
        for expected, was in enumerate(sorted(numbers), start=1):
            check.compared += 1
            if was != expected:
                check.differ(f"account {account}: expected private event {expected}, was {was}")
                break
    for account, last in book.private_last.items():
        check.expect(f"account {account}, its newest private event", last, len(book.private_seqs.get(account, ())))
    return check
