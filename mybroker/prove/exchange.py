"""What the exchange's event log says of one participant's orders and trades, rebuilt frame by frame. Pure.

`ExchangeView` folds the frames of all shards. With `upto` it stops a shard at the report number the broker has
applied, so that a running market can be compared at one instant. While folding it checks what one look at the log
can show: report numbers 1, 2, 3 … per shard and participant, and that every order's totals add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mybroker.contracts import events as ev
from mybroker.contracts.frames import Frame
from mybroker.contracts.reports import reports_of
from mybroker.domain.order import Side
from mybroker.prove.checks import Check
from mybroker.prove.rows import ShardName


@dataclass(slots=True, kw_only=True)
class ExchangeOrder:
    """An order at the exchange. `state`: live, filled, cancelled, expired, rejected."""

    order_id: str
    account: str
    participant: str
    ticker: str
    side: Side | None
    quantity_shares: int
    revision: int
    state: str = "live"
    cum_shares: int = 0
    leaves_shares: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeSide:
    """One side of one trade."""

    trade_id: str
    market: str
    ticker: str
    participant: str
    account: str
    order_id: str
    side: Side
    price_ticks: int
    quantity_shares: int


@dataclass(slots=True, kw_only=True)
class TickerTotals:
    """What a ticker traded in the running day."""

    trades: int = 0
    volume_shares: int = 0
    turnover_cents: int = 0


@dataclass(slots=True, kw_only=True)
class ExchangeView:
    """Orders of `participant` and totals of everybody, from the frames of every shard of a session."""

    participant: str
    session_key: str
    upto: Mapping[ShardName, int] | None = None
    orders: dict[str, ExchangeOrder] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    sides: dict[tuple[str, str], TradeSide] = field(default_factory=dict)
    busted: set[str] = field(default_factory=set)
    last_numbers: dict[tuple[ShardName, str], int] = field(default_factory=dict)
    frames: int = 0
    trades: int = 0
    volume_shares: int = 0
    turnover_cents: int = 0
    in_flight_reports: int = 0
    day: dict[str, TickerTotals] = field(default_factory=dict)
    dates: dict[ShardName, str] = field(default_factory=dict)
    numbered: Check = field(
        default_factory=lambda: Check(name="reports are numbered without a gap", unit="execution reports")
    )
    added_up: Check = field(
        default_factory=lambda: Check(name="every order's totals add up at the exchange", unit="order events")
    )

    def take(self, shard: ShardName, frame: Frame) -> None:
        """Fold one frame of one shard, in order."""
        self.frames += 1
        for report in reports_of(frame, session_key=self.session_key, market=shard.market, shard=shard.shard):
            self.numbered.compared += 1
            key = (shard, report.participant)
            expected = self.last_numbers.get(key, 0) + 1
            if report.number != expected:
                where = f"{shard} frame {frame.seq}, {report.participant}"
                self.numbered.differ(f"{where}: expected report {expected}, was {report.number} ({report.kind})")
            self.last_numbers[key] = max(report.number, self.last_numbers.get(key, 0))
        for event in frame.events:
            self._take_event(shard, event)

    def of_participant(self) -> Iterator[TradeSide]:
        """Yield the participant's sides of trades that stand, in the order they happened."""
        return (side for side in self.sides.values() if side.trade_id not in self.busted)

    def last_number(self, shard: ShardName) -> int:
        """Return the newest report number of the participant in a shard; 0 where it has none."""
        return self.last_numbers.get((shard, self.participant), 0)

    def _take_event(self, shard: ShardName, event: ev.Event) -> None:
        match event:
            case ev.TradeExecuted():
                self.trades += 1
                self.volume_shares += event.quantity_shares
                self.turnover_cents += event.quantity_shares * event.price_ticks
                self._count(event.ticker, 1, event.quantity_shares, event.price_ticks)
                self._take_side(shard, event, event.buy, Side.BUY)
                self._take_side(shard, event, event.sell, Side.SELL)
            case ev.SessionConfigured():
                if self.dates.get(shard) not in (None, event.business_date):
                    self.day = {ticker: totals for ticker, totals in self.day.items() if ticker not in event.tickers}
                self.dates[shard] = event.business_date
            case ev.TradeBusted():
                self._count(event.ticker, -1, event.quantity_shares, event.price_ticks)
                for order in (event.buy, event.sell):
                    if self._counts(shard, order):
                        self.busted.add(event.trade_id)
            case (
                ev.OrderAccepted()
                | ev.OrderRejected()
                | ev.OrderRested()
                | ev.OrderCancelled()
                | ev.OrderExpired()
                | ev.OrderReplaced()
                | ev.OrderRestated()
                | ev.CancelRejected()
            ):
                if self._counts(shard, event.order):
                    self.added_up.compared += 1
                    self._take_order_event(event)
            case _:
                pass

    def _count(self, ticker: str, sign: int, quantity_shares: int, price_ticks: int) -> None:
        totals = self.day.setdefault(ticker, TickerTotals())
        totals.trades += sign
        totals.volume_shares += sign * quantity_shares
        totals.turnover_cents += sign * quantity_shares * price_ticks

    def _counts(self, shard: ShardName, order: ev.OrderRef) -> bool:
        if order.participant != self.participant:
            return False
        if self.upto is not None and order.report_number > self.upto.get(shard, 0):
            self.in_flight_reports += 1
            return False
        return True

    def _take_side(self, shard: ShardName, trade: ev.TradeExecuted, side: ev.TradeSide, which: Side) -> None:
        if not self._counts(shard, side.order):
            return
        self.added_up.compared += 1
        order_id = side.order.order_id
        key = (order_id, trade.trade_id)
        if key in self.sides:
            self.added_up.differ(f"order {order_id}: trade {trade.trade_id} is in the event log twice")
            return
        self.sides[key] = TradeSide(
            trade_id=trade.trade_id,
            market=shard.market,
            ticker=trade.ticker,
            participant=side.order.participant,
            account=side.order.account,
            order_id=order_id,
            side=which,
            price_ticks=trade.price_ticks,
            quantity_shares=trade.quantity_shares,
        )
        order = self._known(order_id, f"trade {trade.trade_id}")
        if order is None:
            return
        order.cum_shares += trade.quantity_shares
        order.leaves_shares -= trade.quantity_shares
        what = f"order {order_id} after trade {trade.trade_id}"
        self.added_up.expect(f"{what}, cumulative shares", order.cum_shares, side.cum_shares)
        self.added_up.expect(f"{what}, leaves", order.leaves_shares, side.leaves_shares)
        if order.leaves_shares == 0:
            order.state = "filled"

    def _take_order_event(self, event: ev.Event) -> None:
        match event:
            case ev.OrderAccepted(order=ref):
                if ref.order_id in self.orders:
                    self.added_up.differ(f"order {ref.order_id}: accepted twice")
                self.orders[ref.order_id] = _order(ref, event.ticker, event.side, event.quantity_shares)
            case ev.OrderRejected(order=ref):
                rejected = _order(ref, event.ticker, None, 0)
                rejected.state = "rejected"
                self.orders.setdefault(ref.order_id, rejected)
            case ev.OrderRested(order=ref):
                self._expect_leaves(ref.order_id, "rested", event.leaves_shares)
            case ev.OrderRestated(order=ref):
                self._expect_leaves(ref.order_id, "restated", event.leaves_shares)
            case ev.OrderCancelled(order=ref):
                self._gone(ref, "cancelled", event.quantity_shares, event.cum_shares)
            case ev.OrderExpired(order=ref):
                self._gone(ref, "expired", event.quantity_shares, event.cum_shares)
            case ev.OrderReplaced(order=ref):
                order = self._known(ref.order_id, f"replace {ref.revision}")
                if order is not None:
                    order.quantity_shares, order.revision = event.quantity_shares, ref.revision
                    order.leaves_shares = event.leaves_shares
                    what = f"order {ref.order_id} after replace {ref.revision}"
                    self.added_up.expect(f"{what}, cumulative shares", order.cum_shares, event.cum_shares)
                    total = event.cum_shares + event.leaves_shares
                    self.added_up.expect(f"{what}, cumulative and leaves", event.quantity_shares, total)
            case ev.CancelRejected(order=ref):
                if ref.order_id not in self.orders:
                    self.barred.add(ref.order_id)
            case _:
                raise AssertionError(f"{type(event).__name__} is no order event")

    def _known(self, order_id: str, what: str) -> ExchangeOrder | None:
        order = self.orders.get(order_id)
        if order is None:
            self.added_up.differ(f"order {order_id}: {what} before it was accepted")
        return order

    def _expect_leaves(self, order_id: str, what: str, leaves_shares: int) -> None:
        order = self._known(order_id, what)
        if order is not None:
            self.added_up.expect(f"order {order_id} {what}, leaves", order.leaves_shares, leaves_shares)

    def _gone(self, ref: ev.OrderRef, state: str, quantity_shares: int, cum_shares: int) -> None:
        order = self._known(ref.order_id, state)
        if order is None:
            return
        what = f"order {ref.order_id} {state}"
        self.added_up.expect(f"{what}, shares that left", order.leaves_shares, quantity_shares)
        self.added_up.expect(f"{what}, cumulative shares", order.cum_shares, cum_shares)
        order.state, order.leaves_shares = state, 0


def _order(ref: ev.OrderRef, ticker: str, side: Side | None, quantity_shares: int) -> ExchangeOrder:
    return ExchangeOrder(
        order_id=ref.order_id,
        account=ref.account,
        participant=ref.participant,
        ticker=ticker,
        side=side,
        quantity_shares=quantity_shares,
        revision=ref.revision,
        leaves_shares=quantity_shares,
    )
