"""What the ledger can be asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    """Hold for an order's revision; idempotent by (order_id, revision). `price_ticks` is 0 for a sell."""

    order_id: str
    revision: int
    account: str
    asset: str
    side: Side
    quantity_shares: int
    price_ticks: int
    at_ns: int

    @property
    def key(self) -> str:
        """Return the id under which this is asked once."""
        return f"hold:{self.order_id}:{self.revision}"

    @property
    def content(self) -> str:
        """Return what must be the same when it is asked again; the time may differ."""
        return f"{self.account} {self.side.value} {self.quantity_shares} {self.asset} @ {self.price_ticks}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostFill:
    """A trade happened: post it, whatever is held."""

    order_id: str
    account: str
    asset: str
    side: Side
    trade_id: str
    price_ticks: int
    quantity_shares: int
    at_ns: int

    @property
    def key(self) -> str:
        """Return the link of the transfers it makes."""
        return f"fill:{self.order_id}:{self.trade_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseFill:
    """A trade was busted: give back both sides of it."""

    order_id: str
    account: str
    asset: str
    side: Side
    trade_id: str
    price_ticks: int
    quantity_shares: int
    at_ns: int

    @property
    def key(self) -> str:
        """Return the link of the transfers it makes."""
        return f"reversal:{self.order_id}:{self.trade_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmReplace:
    """A replace is in force: hold for its terms only."""

    order_id: str
    account: str
    asset: str
    side: Side
    revision: int
    quantity_shares: int
    price_ticks: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseReplace:
    """A replace changed nothing: hold for the terms before it."""

    order_id: str
    account: str
    asset: str
    side: Side
    revision: int
    at_ns: int

    @property
    def key(self) -> str:
        """Return the id of the hold that was asked for this revision."""
        return f"hold:{self.order_id}:{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseHold:
    """The order is done, or its id shall never be used: let go what is held, and hold nothing for it again."""

    order_id: str
    account: str
    asset: str
    side: Side
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositShares:
    """Shares that come in, and what they cost."""

    asset: str
    quantity_shares: int
    cost_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Cash and shares from outside, all of it or nothing; idempotent by deposit_id."""

    deposit_id: str
    account: str
    cash_cents: int
    shares: tuple[DepositShares, ...]
    at_ns: int

    @property
    def key(self) -> str:
        """Return the id under which this is asked once."""
        return f"deposit:{self.deposit_id}"

    @property
    def content(self) -> str:
        """Return what must be the same when it is asked again."""
        parts = [f"{s.quantity_shares} {s.asset} for {s.cost_cents}" for s in sorted(self.shares, key=_asset)]
        return f"{self.account} {self.cash_cents} {'; '.join(parts)}"


def _asset(shares: DepositShares) -> str:
    return shares.asset


Operation = PlaceHold | PostFill | ReverseFill | ConfirmReplace | RefuseReplace | CloseHold | Deposit


class OutcomeKind(StrEnum):
    """What became of an operation."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """There was nothing to do: nothing is held more or less than before."""
    REPEATED = "repeated"
    """It was asked before; this is the first answer again."""
    REFUSED = "refused"
    CONFLICT = "conflict"
    """The same id was used with other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The ledger's answer. `held` is what the order holds now, in cents or shares."""

    kind: OutcomeKind
    held: int = 0
    reason: RejectReason | None = None
    expected: str | None = None
    """At a conflict: the content that the id stands for."""

    @property
    def ok(self) -> bool:
        """Say whether what was asked is so, by this request or an earlier one."""
        return self.reason is None and self.kind in _KINDS_OK


_KINDS_OK = frozenset({OutcomeKind.DONE, OutcomeKind.UNCHANGED, OutcomeKind.REPEATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered under an id, kept so that asking again gives the same."""

    content: str
    held: int
    reason: RejectReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceAfter:
    """One asset of the customer after an effect."""

    asset: str
    available: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the customer is told. `kind`: held, released, filled, deposited or reversed."""

    id: str
    account: str
    kind: str
    asset: str
    amount: int
    at_ns: int
    balances: tuple[BalanceAfter, ...]
    debt: int = 0
    debt_asset: str | None = None
    order_id: str | None = None
    revision: int | None = None
    trade_id: str | None = None
