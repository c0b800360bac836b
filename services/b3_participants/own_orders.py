"""A participant's own orders as the door's replies tell them: pure bookkeeping.

Reports are numbered per (market, shard): one heard before is dropped. A gap, a heartbeat that stays ahead of what was
heard, or a question that stays long without an answer asks for a fresh start (`lost`), which is a mass cancel: what a
participant does not know it need not find out. Reports of orders of an earlier life are ignored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mybroker.contracts.door import DoorHeartbeat, DoorReply, ExecutionReport, RefusedAtDoor, Sequenced
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from services.b3_participants.decision import Holding, Own

ANSWER_NS = 60_000_000_000
"""A last resort: gaps and heartbeats tell of a loss sooner, and a slow exchange is no loss."""
BEATS_AHEAD_MAX = 3
_ENDS = frozenset({"rejected", "cancelled", "expired"})
_GONE_REASONS = frozenset({RejectReason.TOO_LATE, RejectReason.UNKNOWN_ORDER, RejectReason.ID_BARRED})


@dataclass(slots=True, kw_only=True)
class Order:
    """One live order. `asked_at_ns` is set while an answer is awaited."""

    order_id: str
    ticker: str
    side: Side
    price_ticks: int | None
    quantity_shares: int
    cum_shares: int = 0
    revision: int = 1
    asked_at_ns: int | None = None

    @property
    def leaves_shares(self) -> int:
        return self.quantity_shares - self.cum_shares


class OwnOrders:
    """What a participant has in the market, and what it traded."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.positions_shares: Counter[str] = Counter()
        self.trades = 0
        self.refusals: Counter[str] = Counter()
        self.lost = False
        self.logged_off = False
        self._numbers: dict[tuple[str, int], tuple[str, int]] = {}
        self._beats_ahead = 0

    def holding(self, ticker: str) -> Holding:
        """Return one ticker's side, fit for a decision."""
        mine = [order for order in self.orders.values() if order.ticker == ticker]
        return Holding(
            orders=tuple(
                Own(
                    order_id=order.order_id,
                    side=order.side,
                    price_ticks=order.price_ticks,
                    cum_shares=order.cum_shares,
                    leaves_shares=order.leaves_shares,
                )
                for order in mine
                if order.asked_at_ns is None
            ),
            underway=sum(order.asked_at_ns is not None for order in mine),
            position_shares=self.positions_shares[ticker],
        )

    def underway(self, now_ns: int) -> int:
        """Return how many answers are awaited; one that stays away too long means that something was lost."""
        asked = [order.asked_at_ns for order in self.orders.values() if order.asked_at_ns is not None]
        if asked and now_ns - min(asked) > ANSWER_NS:
            self.lost = True
        return len(asked)

    def forget(self) -> None:
        """Begin again: everything was cancelled."""
        self.orders.clear()
        self._numbers.clear()
        self._beats_ahead = 0
        self.lost = False

    def hear(self, reply: DoorReply) -> None:
        """Take one reply in."""
        match reply:
            case ExecutionReport():
                if self._is_next(reply):
                    self._report(reply)
            case RefusedAtDoor():
                self._refused(reply)
            case DoorHeartbeat():
                self._beat(reply)
            case Sequenced():
                return
            case _:
                return

    def _is_next(self, report: ExecutionReport) -> bool:
        key = (report.market, report.shard)
        log_id, number = self._numbers.get(key, (report.log_id, report.number - 1))
        if log_id == report.log_id and report.number <= number:
            return False
        if log_id == report.log_id and report.number > number + 1:
            self.lost = True
        self._numbers[key] = (report.log_id, report.number)
        self._beats_ahead = 0  # reports flow: what the heartbeat spoke of is on its way
        return True

    def _beat(self, beat: DoorHeartbeat) -> None:
        ahead = False
        for last in beat.last_numbers:
            heard = self._numbers.get((last.market, last.shard))
            ahead = ahead or (heard is not None and heard[0] == last.log_id and last.number > heard[1])
        self._beats_ahead = self._beats_ahead + 1 if ahead else 0
        if self._beats_ahead >= BEATS_AHEAD_MAX:
            self.lost = True

    def _refused(self, refused: RefusedAtDoor) -> None:
        self.refusals[refused.reason.value] += 1
        if refused.reason is RejectReason.NOT_LOGGED_ON:
            self.logged_off = True
        order = self.orders.get(refused.order_id or "")
        if order is None:
            return
        if refused.revision == 1:
            del self.orders[order.order_id]
        else:
            order.asked_at_ns = None

    def _report(self, report: ExecutionReport) -> None:
        order = self.orders.get(report.order_id)
        if report.kind == "trade":
            self._traded(report)
        if report.kind in {"rejected", "cancel_rejected", "replace_rejected"}:
            self.refusals[report.reason or ""] += 1
            if report.reason == RejectReason.NOT_LOGGED_ON:
                self.logged_off = True
        if order is None:
            return
        match report.kind:
            case kind if kind in _ENDS:
                del self.orders[order.order_id]
            case "accepted":
                if order.revision == 1:
                    order.asked_at_ns = None
            case "rested" if report.price_ticks is not None:
                order.price_ticks = report.price_ticks
            case "replaced":
                order.price_ticks = report.price_ticks
                order.quantity_shares = report.quantity_shares or order.quantity_shares
                order.cum_shares = order.cum_shares if report.cum_shares is None else report.cum_shares
                order.asked_at_ns = None
            case "cancel_rejected" | "replace_rejected":
                order.asked_at_ns = None
                if report.reason in _GONE_REASONS:
                    del self.orders[order.order_id]
            case "trade":
                order.cum_shares = order.cum_shares if report.cum_shares is None else report.cum_shares
                if report.leaves_shares == 0:
                    del self.orders[order.order_id]
            case _:
                return

    def _traded(self, report: ExecutionReport) -> None:
        assert report.ticker is not None and report.quantity_shares is not None, f"a trade says what, was {report}"
        self.trades += 1
        signed = report.quantity_shares if report.side is Side.BUY else -report.quantity_shares
        self.positions_shares[report.ticker] += signed
