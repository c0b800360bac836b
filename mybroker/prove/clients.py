"""Checks that compare what trading programs were told with what broker and exchange have. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mybroker.contracts.client_journal import JournalEntry
from mybroker.prove.checks import Check
from mybroker.prove.exchange import ExchangeView
from mybroker.prove.rows import BrokerOrder, OrdersBook

REFUSED = frozenset({"rejected", "canceled"})


@dataclass(slots=True, kw_only=True)
class Told:
    """Everything a client was told of one order it placed."""

    account: str
    client_order_id: str
    ticker: str | None = None
    side: str | None = None
    quantity_shares: int | None = None
    order_ids: list[str] = field(default_factory=list)
    refused: str | None = None

    @property
    def outcome(self) -> str:
        """Return acknowledged, refused or unknown. An acknowledgement outweighs what other tries heard."""
        if self.order_ids:
            return "acknowledged"
        return "refused" if self.refused is not None else "unknown"


def fold_journal(entries: Iterable[JournalEntry]) -> dict[tuple[str, str], Told]:
    """Return what clients were told of each order they placed, by account and client_order_id."""
    told: dict[tuple[str, str], Told] = {}
    for entry in entries:
        if entry.action != "place" or entry.client_order_id is None:
            continue
        key = (entry.account, entry.client_order_id)
        one = told.setdefault(key, Told(account=entry.account, client_order_id=entry.client_order_id))
        if entry.outcome == "asked":
            one.ticker, one.side, one.quantity_shares = entry.ticker, entry.side, entry.quantity_shares
        elif entry.outcome == "acknowledged" and entry.order_id is not None:
            if entry.order_id not in one.order_ids:
                one.order_ids.append(entry.order_id)
        elif entry.outcome == "refused":
            one.refused = entry.code or str(entry.status)
    return told


def check_acknowledged(told: dict[tuple[str, str], Told], book: OrdersBook, exchange: ExchangeView) -> Check:
    """Every order that was acknowledged is at the broker under its first id, and at the exchange if it was routed."""
    check = Check(name="every acknowledged order is there", unit="acknowledged orders")
    rows = _by_client_id(book)
    for key, one in told.items():
        if one.outcome != "acknowledged":
            continue
        check.compared += 1
        what = f"order {one.client_order_id} of {one.account}"
        if len(one.order_ids) > 1:
            check.differ(f"{what}: the same client_order_id gave {' and '.join(one.order_ids)}")
        row = rows.get(key)
        if row is None:
            check.differ(f"{what}: was acknowledged as {one.order_ids[0]}, the broker has no such order")
            continue
        check.expect(f"{what}, order id", one.order_ids[0], row.order_id)
        check.expect(f"{what}, ticker and side", f"{one.ticker} {one.side}", f"{row.ticker} {row.side}")
        if row.order_id in exchange.orders:
            continue
        if row.status not in REFUSED:
            check.in_flight += 1
        elif row.order_id not in exchange.barred:
            check.differ(f"{what} ({row.order_id}): was acknowledged, is {row.status}, the exchange never heard of it")
    return check


def check_unknown(told: dict[tuple[str, str], Told], book: OrdersBook, exchange: ExchangeView) -> Check:
    """An order whose outcome stayed unknown is there once or not at all; one that was refused did nothing."""
    check = Check(name="unknown and refused orders are there once or not at all", unit="orders")
    rows = _by_client_id(book)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for order in book.orders:
        counts[order.account, order.client_order_id] += 1
    for key, one in told.items():
        check.compared += 1
        what = f"order {one.client_order_id} of {one.account}"
        if counts[key] > 1:
            check.differ(f"{what}: {counts[key]} orders have its client_order_id")
        row = rows.get(key)
        if row is None or one.outcome != "refused":
            continue
        if row.cum_shares or row.status not in REFUSED:
            check.differ(f"{what}: was refused ({one.refused}), is {row.status} with {row.cum_shares} shares filled")
        elif row.order_id in exchange.orders and exchange.orders[row.order_id].state == "live":
            check.differ(f"{what}: was refused ({one.refused}), is live at the exchange")
    return check


def check_client_events(entries: Iterable[JournalEntry]) -> Check:
    """Clients heard their private events one after the other, over every reconnection."""
    check = Check(name="clients heard their private events without a gap", unit="private events heard")
    for entry in entries:
        if entry.action != "events":
            continue
        if entry.outcome == "next":
            check.compared += 1
        else:
            expected = f"expected private event {entry.expected_seq}, heard {entry.seq}"
            check.differ(f"account {entry.account}: {entry.outcome}, {expected}")
    return check


def _by_client_id(book: OrdersBook) -> dict[tuple[str, str], BrokerOrder]:
    return {(order.account, order.client_order_id): order for order in book.orders}
