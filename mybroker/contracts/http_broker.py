"""The broker's public JSON: prices and amounts as decimal text, quantities as integers, times as RFC 3339.

broker_orders and broker_wallet answer with these; gateway, terminal client and audit read them.
"""

from __future__ import annotations

import msgspec

from mybroker.domain.order import OrderType, Side, TimeInForce

CLIENT_ORDER_ID_LENGTH_MAX = 48
PAGE_ITEMS_MAX = 500
PAGE_ITEMS = 100


class NewOrderBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /orders. `session` is needed only while several sessions are open."""

    ticker: str
    side: Side
    quantity: int
    type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.DAY
    price: str | None = None
    stop_price: str | None = None
    client_order_id: str | None = None
    session: str | None = None


class ReplaceBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /orders/{id}: the new total quantity, the new price, or both."""

    quantity: int | None = None
    price: str | None = None


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One trade of an order."""

    trade_id: str
    price: str
    quantity: int
    at: str
    busted: bool = False


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it is now.

    `status`: received, pending_new, new, partially_filled, filled, pending_cancel, canceled, pending_replace,
    rejected, expired. `reason` says why it was rejected or canceled. `fills` only where one order is read.
    """

    id: str
    client_order_id: str
    account: str
    session: str
    ticker: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: str | None
    stop_price: str | None
    protection_price: str | None
    status: str
    reason: str | None
    revision: int
    filled_quantity: int
    remaining_quantity: int
    average_price: str | None
    created_at: str
    updated_at: str
    fills: tuple[Fill, ...] | None = None


class OrderList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /orders, newest first; `next` is the cursor of the next page, None on the last."""

    orders: tuple[Order, ...]
    next: str | None


class Cash(msgspec.Struct, frozen=True, kw_only=True):
    """Reais of an account. `to_settle` is what trades still owe it (settlement comes at D+2, later)."""

    available: str
    held: str
    total: str
    to_settle: str
    debt: str


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one asset of an account."""

    asset: str
    available: int
    held: int
    total: int


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """GET /wallet."""

    account: str
    cash: Cash
    shares: tuple[Shares, ...]


class StatementEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One movement. `amount` (reais) or `quantity` (shares) is signed: what the account got or gave.

    `kind`: deposit, hold, release, fill, debt or reversal. Holds and releases move between available and held.
    """

    number: int
    at: str
    kind: str
    asset: str
    amount: str | None
    quantity: int | None
    order_id: str | None
    trade_id: str | None


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """GET /wallet/statement, oldest first; `next` continues after the last entry, None at the end."""

    account: str
    entries: tuple[StatementEntry, ...]
    next: str | None


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one asset with what they cost on average and what was realised so far."""

    asset: str
    quantity: int
    average_price: str | None
    cost: str
    realised: str


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """GET /positions."""

    account: str
    positions: tuple[Position, ...]


class EventTrade(msgspec.Struct, frozen=True, kw_only=True):
    """The fill an event speaks of."""

    trade_id: str
    price: str
    quantity: int
    aggressor: bool | None = None


class EventBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One asset of the wallet after an event: reais as text for BRL, shares as integers in text otherwise."""

    asset: str
    available: str
    held: str


class EventWallet(msgspec.Struct, frozen=True, kw_only=True):
    """What the wallet did: held, released, filled, deposited or reversed."""

    kind: str
    asset: str
    amount: str
    debt: str
    order_id: str | None
    trade_id: str | None
    balances: tuple[EventBalance, ...]


class PrivateEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of an account's gap-free private sequence: 1, 2, 3 …

    `kind`: routed, acknowledged, trade, rested, pending_cancel, pending_replace, replaced, cancel_rejected,
    replace_rejected, canceled, expired, rejected, restated, triggered, busted, or wallet. Order events carry the
    whole order.
    """

    seq: int
    kind: str
    at: str
    order: Order | None = None
    trade: EventTrade | None = None
    wallet: EventWallet | None = None
    reason: str | None = None


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /events?after=SEQ: events after SEQ in order; `last` is the account's newest number."""

    events: tuple[PrivateEvent, ...]
    last: int
