"""What the audit compares, as plain rows: the broker's and the ledger's tables without their database.

Amounts are cents of BRL or shares of their asset, prices ticks. A row of each kind is what one table row says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CASH = "BRL"
HOUSE = "house:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardName:
    """One shard of one market of the session."""

    market: str
    shard: int

    def __str__(self) -> str:
        """Return it as people write it: equities-0."""
        return f"{self.market}-{self.shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """An order as broker_orders has it. `routed`: it left, or may have left, for the exchange."""

    order_id: str
    account: str
    client_order_id: str
    ticker: str
    side: str
    quantity_shares: int
    hold_price_ticks: int | None
    cum_shares: int
    filled_cents: int
    leaves_shares: int
    status: str
    revision: int
    routed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFill:
    """One fill as broker_orders has it."""

    order_id: str
    trade_id: str
    price_ticks: int
    quantity_shares: int
    busted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersBook:
    """Everything of broker_orders, in one snapshot.

    `applied` is the last report number whose effect is stored, by shard; `private_seqs` the numbers of each
    account's private events and `private_last` the account's own counter; `unsent` counts outbox rows not yet
    published, `positions` is the next offset read by partition of wallet events.
    """

    orders: tuple[BrokerOrder, ...] = ()
    fills: tuple[BrokerFill, ...] = ()
    applied: Mapping[ShardName, int]
    private_seqs: Mapping[str, tuple[int, ...]]
    private_last: Mapping[str, int]
    positions: Mapping[int, int]
    unsent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTransfer:
    """One transfer. Owners that begin with `house:` are the house's."""

    id: str
    kind: str
    purpose: str
    debit_owner: str
    credit_owner: str
    asset: str
    amount: int
    released: int = 0
    pending_id: str | None = None
    link: str = ""
    order_id: str | None = None
    trade_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAccount:
    """A customer's stored balance of one asset."""

    owner: str
    asset: str
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0

    @property
    def total(self) -> int:
        """Return what the owner has, held or not."""
        return self.credits_posted - self.debits_posted


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHold:
    """What is held for one order; `asset` is the share's, a buy holds cash."""

    order_id: str
    owner: str
    asset: str
    side: str
    quantity_shares: int
    price_ticks: int
    next_quantity_shares: int | None
    next_price_ticks: int | None
    filled_shares: int
    amount: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBook:
    """Everything of broker_wallet, in one snapshot.

    `positions` is the next offset read by partition of order events, `newest` the number of the last transfer.
    """

    transfers: tuple[LedgerTransfer, ...] = ()
    accounts: tuple[LedgerAccount, ...] = ()
    holds: tuple[LedgerHold, ...] = ()
    positions: Mapping[int, int]
    unsent: int = 0
    newest: int = 0
