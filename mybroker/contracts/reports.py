"""Execution reports as a projection of a frame: pure, the same after any replay.

Order entry sends these, and the audit compares what the broker holds with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mybroker.contracts import events as ev
from mybroker.contracts.door import ExecutionReport
from mybroker.contracts.frames import Frame
from mybroker.domain.order import Aggressor, Side

_Addressed = tuple[ev.OrderRef, str, dict[str, Any]]


def reports_of(frame: Frame, *, session_key: str, market: str, shard: int) -> Iterator[ExecutionReport]:
    """Yield the frame's reports, in the order of its events."""
    for event in frame.events:
        for order, kind, facts in _addressed(event):
            yield ExecutionReport(
                session_key=session_key,
                market=market,
                shard=shard,
                log_id=frame.log_id,
                number=order.report_number,
                seq=frame.seq,
                offset=frame.offset,
                at_ns=frame.at_ns,
                kind=kind,
                participant=order.participant,
                account=order.account,
                order_id=order.order_id,
                revision=order.revision,
                **facts,
            )


def _addressed(event: ev.Event) -> Iterator[_Addressed]:
    match event:
        case ev.TradeExecuted():
            yield event.buy.order, "trade", _fill(event, event.buy, Side.BUY)
            yield event.sell.order, "trade", _fill(event, event.sell, Side.SELL)
        case ev.TradeBusted():
            busted = {
                "ticker": event.ticker,
                "trade_id": event.trade_id,
                "price_ticks": event.price_ticks,
                "quantity_shares": event.quantity_shares,
            }
            yield event.buy, "busted", {**busted, "side": Side.BUY}
            yield event.sell, "busted", {**busted, "side": Side.SELL}
        case ev.MassCancelled():
            order = ev.OrderRef(
                participant=event.participant,
                account="",
                order_id=event.mass_id or "",
                revision=0,
                report_number=event.report_number,
            )
            yield order, "mass_cancelled", {"quantity_shares": event.orders}
        case _:
            report = _of_one_order(event)
            if report is not None:
                yield report


def _fill(trade: ev.TradeExecuted, side: ev.TradeSide, which: Side) -> dict[str, Any]:
    return {
        "ticker": trade.ticker,
        "side": which,
        "price_ticks": trade.price_ticks,
        "quantity_shares": trade.quantity_shares,
        "cum_shares": side.cum_shares,
        "leaves_shares": side.leaves_shares,
        "trade_id": trade.trade_id,
        "aggressor": None if trade.aggressor is Aggressor.AUCTION else trade.aggressor.value == which.value,
    }


def _of_one_order(event: ev.Event) -> _Addressed | None:
    match event:
        case ev.OrderAccepted():
            facts: dict[str, Any] = {
                "ticker": event.ticker,
                "side": event.side,
                "price_ticks": event.price_ticks,
                "quantity_shares": event.quantity_shares,
                "cum_shares": 0,
                "leaves_shares": event.quantity_shares,
            }
            return event.order, "accepted", facts
        case ev.OrderRejected():
            return event.order, "rejected", {"ticker": event.ticker, "reason": event.reason.value}
        case ev.OrderRested():
            facts = {"ticker": event.ticker, "price_ticks": event.price_ticks, "leaves_shares": event.leaves_shares}
            return event.order, "rested", facts
        case ev.OrderCancelled():
            return event.order, "cancelled", {**_gone(event), "reason": event.reason.value}
        case ev.OrderExpired():
            return event.order, "expired", _gone(event)
        case ev.OrderReplaced():
            facts = {
                "ticker": event.ticker,
                "side": event.side,
                "price_ticks": event.price_ticks,
                "quantity_shares": event.quantity_shares,
                "cum_shares": event.cum_shares,
                "leaves_shares": event.leaves_shares,
            }
            return event.order, "replaced", facts
        case ev.CancelRejected():
            return event.order, "cancel_rejected", {"reason": event.reason.value}
        case ev.ReplaceRejected():
            return event.order, "replace_rejected", {"reason": event.reason.value}
        case ev.OrderRestated():
            return event.order, "restated", {"ticker": event.ticker, "leaves_shares": event.leaves_shares}
        case ev.OrderTriggered():
            return event.order, "triggered", {"ticker": event.ticker}
        case _:
            return None


def _gone(event: ev.OrderCancelled | ev.OrderExpired) -> dict[str, Any]:
    return {
        "ticker": event.ticker,
        "side": event.side,
        "quantity_shares": event.quantity_shares,
        "cum_shares": event.cum_shares,
        "leaves_shares": 0,
    }
