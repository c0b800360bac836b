"""The blotter's decisions: what each thing asked or heard does to orders, and what follows from it. Pure.

`Blotter` is a working copy of the orders and accounts that a batch may touch; the caller gathers them under the
accounts' row locks, asks for decisions one after the other, then writes everything in one transaction: orders,
fills, private events numbered without a gap per account, commands for the exchange and order events for the wallet.

An order is ended only on the exchange's word, or while it was certainly never sent. Everything else that is in doubt
is settled by a cancel, which cancels, finds the order done, or bars its id for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mybroker.contracts import broker_events as ev
from mybroker.contracts.door import ExecutionReport
from mybroker.domain.refusal import RejectReason
from services.broker_orders.lifecycle import Order, Pending, Status, after_report, settled, without_pending
from services.broker_orders.messages import (
    Command,
    FillRow,
    cancel_command,
    event_of,
    fill_of,
    place_command,
    replace_command,
)
from services.broker_orders.operations import (
    AskCancel,
    AskReplace,
    DropReplace,
    Heard,
    Operation,
    Overdue,
    Refuse,
    Result,
    Route,
    RouteReplace,
    TurnedAway,
    WalletHeard,
)


@dataclass(slots=True, kw_only=True)
class AccountRow:
    """An account's counters."""

    last_seq: int = 0
    orders_open: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One private event: the order or the wallet as it was then."""

    account: str
    seq: int
    kind: str
    at_ns: int
    order: Order | None = None
    report: ExecutionReport | None = None
    wallet: ev.WalletEvent | None = None
    reason: str | None = None


_NOTICE_KINDS = {"accepted": "acknowledged", "cancelled": "canceled"}


class Blotter:
    """A working copy of the orders and accounts a batch may touch."""

    def __init__(
        self,
        *,
        orders: dict[str, Order],
        accounts: dict[str, AccountRow],
        known_trades: Iterable[tuple[str, str]] = (),
        known_sources: Iterable[str] = (),
        wall_ns: int,
    ) -> None:
        """Take orders by id, accounts by name, trades counted before, wallet events heard before."""
        self.orders = orders
        self.accounts = accounts
        self.known_trades = set(known_trades)
        self.known_sources = set(known_sources)
        self.wall_ns = wall_ns
        self.changed: set[str] = set()
        self.accounts_changed: set[str] = set()
        self.notices: list[Notice] = []
        self.events: list[ev.OrderEvent] = []
        self.commands: list[tuple[Order, Command]] = []
        self.fills: list[FillRow] = []

    def decide(self, operation: Operation) -> Result:
        """Do one operation on the copy."""
        if isinstance(operation, WalletHeard):
            return self._wallet(operation.event)
        order = self.orders.get(operation.order_id)
        if order is None:
            return Result(order=None, refusal=RejectReason.UNKNOWN_ORDER)
        match operation:
            case Route():
                return self._route(order, operation)
            case Refuse():
                return self._refuse(order, operation)
            case AskCancel():
                return self._ask_cancel(order, operation)
            case AskReplace():
                return self._ask_replace(order, operation)
            case RouteReplace():
                return self._route_replace(order, operation)
            case DropReplace():
                return self._drop_replace(order, operation)
            case Heard():
                return self._hear(order, operation.report)
            case TurnedAway():
                return self._turned_away(order, operation)
            case Overdue():
                return self._overdue(order, operation)

    # ------------------------------------------------------------ new

    def _route(self, order: Order, asked: Route) -> Result:
        if order.status is not Status.RECEIVED:
            return Result(order=order)
        routed = self._keep(replace(order, routed=True, updated_at_ns=asked.at_ns))
        self._account(order.account).orders_open += 1
        self.commands.append((routed, place_command(routed)))
        head = self._note(routed, "routed", asked.at_ns)
        self.events.append(
            ev.OrderRouted(
                head=head,
                type=routed.type,
                time_in_force=routed.time_in_force,
                quantity_shares=routed.quantity_shares,
                price_ticks=routed.price_ticks,
                hold_price_ticks=routed.hold_price_ticks,
            )
        )
        return Result(order=routed, changed=True)

    def _refuse(self, order: Order, asked: Refuse) -> Result:
        if order.status is not Status.RECEIVED:
            return Result(order=order)
        ended = replace(order, ended=Status.REJECTED, reason=asked.reason.value, updated_at_ns=asked.at_ns)
        refused = self._keep(ended)
        self._close(refused, "rejected", asked.at_ns)
        return Result(order=refused, changed=True)

    # ------------------------------------------------------------ cancel and replace

    def _ask_cancel(self, order: Order, asked: AskCancel) -> Result:
        if asked.account is not None and asked.account != order.account:
            return Result(order=None, refusal=RejectReason.UNKNOWN_ORDER)
        if order.pending is Pending.CANCEL:
            return Result(order=order)
        if order.done:
            return Result(order=order, refusal=RejectReason.TOO_LATE)
        if order.pending is Pending.REPLACE and not order.pending_routed:
            order = self._give_up_replace(order, RejectReason.IN_DOUBT_CANCELLED.value, asked.at_ns)
        return Result(order=self._send_cancel(order, asked.at_ns), changed=True)

    def _send_cancel(self, order: Order, at_ns: int) -> Order:
        revision = order.last_revision + 1
        asked = self._keep(
            replace(
                without_pending(order),
                last_revision=revision,
                pending=Pending.CANCEL,
                pending_revision=revision,
                pending_routed=True,
                updated_at_ns=at_ns,
            )
        )
        self.commands.append((asked, cancel_command(asked)))
        self._note(asked, "pending_cancel", at_ns)
        return asked

    def _ask_replace(self, order: Order, asked: AskReplace) -> Result:
        if asked.account != order.account:
            return Result(order=None, refusal=RejectReason.UNKNOWN_ORDER)
        if order.done:
            return Result(order=order, refusal=RejectReason.TOO_LATE)
        if self._asked_before(order, asked):
            return Result(order=order)
        if order.pending is not None or not order.accepted:
            return Result(order=order, refusal=RejectReason.REPLACE_PENDING)
        if asked.price_ticks is not None and order.price_ticks is None:
            return Result(order=order, refusal=RejectReason.PRICE_NOT_ALLOWED)
        revision = order.last_revision + 1
        reserved = self._keep(
            replace(
                order,
                last_revision=revision,
                pending=Pending.REPLACE,
                pending_revision=revision,
                pending_routed=False,
                pending_quantity_shares=asked.quantity_shares,
                pending_price_ticks=asked.price_ticks,
                updated_at_ns=asked.at_ns,
            )
        )
        return Result(order=reserved, changed=True)

    def _route_replace(self, order: Order, asked: RouteReplace) -> Result:
        if not self._reserved(order, asked.revision):
            return Result(order=order, refusal=RejectReason.TOO_LATE if order.done else None)
        routed = self._keep(replace(order, pending_routed=True, updated_at_ns=asked.at_ns))
        self.commands.append((routed, replace_command(routed)))
        self._note(routed, "pending_replace", asked.at_ns)
        return Result(order=routed, changed=True)

    def _drop_replace(self, order: Order, asked: DropReplace) -> Result:
        if not self._reserved(order, asked.revision):
            return Result(order=order)
        return Result(order=self._give_up_replace(order, asked.reason, asked.at_ns), changed=True)

    def _asked_before(self, order: Order, asked: AskReplace) -> bool:
        """Say whether the same terms are reserved and not sent: a repeat goes on from there."""
        terms = (order.pending_quantity_shares, order.pending_price_ticks)
        reserved = order.pending is Pending.REPLACE and not order.pending_routed
        return reserved and terms == (asked.quantity_shares, asked.price_ticks)

    def _reserved(self, order: Order, revision: int) -> bool:
        return order.pending is Pending.REPLACE and not order.pending_routed and order.pending_revision == revision

    def _give_up_replace(self, order: Order, reason: str, at_ns: int) -> Order:
        revision = order.pending_revision
        kept = self._keep(replace(without_pending(order), updated_at_ns=at_ns))
        head = replace(self._note(kept, "replace_rejected", at_ns, reason=reason), revision=revision)
        self.events.append(ev.OrderReplaceRefused(head=head, reason=reason))
        return kept

    # ------------------------------------------------------------ what the exchange says

    def _hear(self, order: Order, report: ExecutionReport) -> Result:
        trade = (order.order_id, report.trade_id or "")
        step = after_report(order, report, trade_known=trade in self.known_trades, wall_ns=self.wall_ns)
        after = self._keep(step.order)
        if report.kind == "trade" and not step.filled:
            return Result(order=after)
        kind = _NOTICE_KINDS.get(report.kind, report.kind)
        head = self._note(after, kind, report.at_ns, report=report, reason=report.reason)
        if step.filled:
            self.known_trades.add(trade)
            self.fills.append(fill_of(order.order_id, report))
        event = event_of(report, after, head)
        if event is not None:
            self.events.append(event)
        if isinstance(event, ev.TradeUndone):
            self.fills.append(replace(fill_of(order.order_id, report), busted=True))
        if step.closed:
            self._closed(after, head)
        return Result(order=after, changed=True)

    def _turned_away(self, order: Order, said: TurnedAway) -> Result:
        if order.done or order.accepted or said.revision != 1 or order.pending is Pending.CANCEL:
            # A cancel or replace that the door refused is sent again when it is overdue.
            return Result(order=order)
        named = replace(order, reason=order.reason or said.reason.value)
        return Result(order=self._send_cancel(named, said.at_ns), changed=True)

    def _overdue(self, order: Order, said: Overdue) -> Result:
        if order.waiting_since_ns != said.waiting_since_ns or order.done:
            return Result(order=order)
        if order.status is Status.RECEIVED:
            refuse = Refuse(order_id=order.order_id, reason=RejectReason.IN_DOUBT_CANCELLED, at_ns=said.at_ns)
            return self._refuse(order, refuse)
        if order.status is Status.PENDING_NEW:
            return Result(order=self._send_cancel(order, said.at_ns), changed=True)
        if order.pending is Pending.REPLACE and not order.pending_routed:
            reason = RejectReason.IN_DOUBT_CANCELLED.value
            return Result(order=self._give_up_replace(order, reason, said.at_ns), changed=True)
        again = self._keep(replace(order, waiting_since_ns=self.wall_ns))
        command = cancel_command(again) if again.pending is Pending.CANCEL else replace_command(again)
        self.commands.append((again, command))
        return Result(order=again, changed=True)

    # ------------------------------------------------------------ pieces

    def _wallet(self, event: ev.WalletEvent) -> Result:
        if event.event_id in self.known_sources:
            return Result(order=None)
        self.known_sources.add(event.event_id)
        seq = self._next_seq(event.account)
        self.notices.append(Notice(account=event.account, seq=seq, kind="wallet", at_ns=event.at_ns, wallet=event))
        return Result(order=None, changed=True)

    def _keep(self, order: Order) -> Order:
        kept = settled(order, wall_ns=self.wall_ns)
        self.orders[order.order_id] = kept
        self.changed.add(order.order_id)
        return kept

    def _close(self, order: Order, kind: str, at_ns: int) -> None:
        head = self._note(order, kind, at_ns, reason=order.reason)
        self._closed(order, head)

    def _closed(self, order: Order, head: ev.OrderHead) -> None:
        if order.routed:
            self._account(order.account).orders_open -= 1
        closed_head = replace(head, event_id=f"{order.order_id}:closed")
        self.events.append(
            ev.OrderClosed(
                head=closed_head, status=order.status.value, reason=order.reason, cum_shares=order.cum_shares
            )
        )

    def _account(self, account: str) -> AccountRow:
        self.accounts_changed.add(account)
        return self.accounts.setdefault(account, AccountRow())

    def _next_seq(self, account: str) -> int:
        row = self._account(account)
        row.last_seq += 1
        return row.last_seq

    def _note(
        self, order: Order, kind: str, at_ns: int, *, report: ExecutionReport | None = None, reason: str | None = None
    ) -> ev.OrderHead:
        seq = self._next_seq(order.account)
        self.notices.append(
            Notice(account=order.account, seq=seq, kind=kind, at_ns=at_ns, order=order, report=report, reason=reason)
        )
        return ev.OrderHead(
            event_id=f"{order.account}:{seq}",
            account=order.account,
            seq=seq,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            session_key=order.session_key,
            ticker=order.ticker,
            side=order.side,
            revision=order.terms_revision,
            at_ns=at_ns,
        )
