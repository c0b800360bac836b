"""What the broker's own services tell each other: `order-events-v1` and `wallet-events-v1`, keyed by account.

Order events come from broker_orders through its outbox, in order per account; each carries all its facts, with the
order's cumulative quantity. Wallet events come from broker_wallet the same way. `event_id` is unique: a reader that
hears one twice drops it. Amounts are cents or shares, prices ticks, times session nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.codec import Codec
from mybroker.domain.order import OrderType, Side, TimeInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderHead:
    """Whose order an event speaks of. `seq` is its number in the account's private sequence."""

    event_id: str
    account: str
    seq: int
    order_id: str
    client_order_id: str
    session_key: str
    ticker: str
    side: Side
    revision: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRouted:
    """The order is held for and on its way to the exchange (the series' PENDING)."""

    head: OrderHead
    type: OrderType
    time_in_force: TimeInForce
    quantity_shares: int
    price_ticks: int | None
    hold_price_ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAcknowledged:
    """The exchange has the order."""

    head: OrderHead
    quantity_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTraded:
    """One fill. `cum_shares` and `leaves_shares` are the order's totals after it."""

    head: OrderHead
    market: str
    trade_id: str
    price_ticks: int
    quantity_shares: int
    cum_shares: int
    leaves_shares: int
    aggressor: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReplaceConfirmed:
    """`head.revision` is in force, with this total and this worst price."""

    head: OrderHead
    quantity_shares: int
    hold_price_ticks: int | None
    cum_shares: int
    leaves_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReplaceRefused:
    """`head.revision` changed nothing; the terms before it stand."""

    head: OrderHead
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderClosed:
    """Nothing more will happen to the order. `status`: filled, canceled, expired or rejected."""

    head: OrderHead
    status: str
    reason: str | None
    cum_shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeUndone:
    """A fill was busted by the exchange."""

    head: OrderHead
    market: str
    trade_id: str
    price_ticks: int
    quantity_shares: int


OrderEvent = (
    OrderRouted
    | OrderAcknowledged
    | OrderTraded
    | OrderReplaceConfirmed
    | OrderReplaceRefused
    | OrderClosed
    | TradeUndone
)

ORDER_EVENTS = Codec(
    "order event",
    {
        "routed": OrderRouted,
        "acknowledged": OrderAcknowledged,
        "traded": OrderTraded,
        "replace_confirmed": OrderReplaceConfirmed,
        "replace_refused": OrderReplaceRefused,
        "closed": OrderClosed,
        "trade_undone": TradeUndone,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetBalance:
    """What an account has of one asset ("BRL" in cents, else shares) after an event."""

    asset: str
    available: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletEvent:
    """The ledger moved for an account. `kind`: held, released, filled, deposited or reversed.

    `amount` is what was held, released, paid, got or deposited of `asset`; `debt` is what was missing for a fill
    that had to be posted all the same, of `debt_asset`. `balances` are the assets that moved, as they are afterwards.
    """

    event_id: str
    account: str
    kind: str
    at_ns: int
    asset: str
    amount: int
    debt: int
    order_id: str | None
    revision: int | None
    trade_id: str | None
    balances: tuple[AssetBalance, ...]
    debt_asset: str | None = None


WALLET_EVENTS = Codec("wallet event", {"wallet": WalletEvent})
