"""Hears `order-events-v1`: posts fills, lets go what is left, follows replaces.

The position in the topic is stored with the effects of what was read, in one transaction. An event heard twice finds
its transfers made or its hold closed, changes nothing and is counted.
"""

from collections.abc import Callable, Sequence

from mybroker.contracts import broker_events as ev
from mybroker.contracts.codec import Malformed
from mybroker.domain.instrument import asset_of
from mybroker.domain.order import Side
from mybroker.runtime.kafka import Record
from mybroker.runtime.lifecycle import passing
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import child, counter, extract, inject_mapping
from services.broker_wallet.ledger.operations import (
    CloseHold,
    ConfirmReplace,
    Operation,
    OutcomeKind,
    PostFill,
    RefuseReplace,
    ReverseFill,
)
from services.broker_wallet.store import LedgerStore, Request

_EVENTS = counter("mbb3_wallet_order_events_total", "Order events handled", ["kind", "outcome"])
_MALFORMED = counter("mbb3_wallet_malformed_events_total", "Order events that could not be read")


class OrderEventsHandler:
    """The callback of the consumer loop."""

    def __init__(self, store: LedgerStore, wake: Callable[[], object]) -> None:
        self._store = store
        self._wake = wake
        self._log = get_logger()

    async def handle(self, records: Sequence[Record]) -> None:
        """Post what a batch of records says, with the positions after it."""
        requests, kinds = [], []
        for record in records:
            event = self._read(record)
            operation = None if event is None else operation_of(event)
            if operation is None:
                continue
            trace = extract(record.headers)
            requests.append(Request(operation=operation, headers=inject_mapping(child(trace)) if trace else {}))
            kinds.append(ev.ORDER_EVENTS.kind(event))
        positions = {(record.topic, record.partition): record.offset + 1 for record in records}
        outcomes = await self._store.post(requests, positions)
        for request, kind, outcome in zip(requests, kinds, outcomes, strict=True):
            _EVENTS.labels(kind, outcome.kind).inc()
            if isinstance(request.operation, PostFill) and outcome.kind is OutcomeKind.DONE:
                passing("wallet.fill_posted")
        self._wake()

    def _read(self, record: Record) -> ev.OrderEvent | None:
        try:
            event: ev.OrderEvent = ev.ORDER_EVENTS.decode(record.value or b"")
        except Malformed as error:
            # Nothing of ours writes such a record; stopping here would stop every account for it.
            _MALFORMED.inc()
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            self._log.error("order_event_refused", reason=str(error), **where)
            return None
        return event


def operation_of(event: ev.OrderEvent) -> Operation | None:
    """Return what an order event asks of the ledger; None for one that moves nothing."""
    head = event.head
    asset = asset_of(head.ticker)
    match event:
        case ev.OrderTraded():
            return PostFill(
                order_id=head.order_id,
                account=head.account,
                asset=asset,
                side=head.side,
                trade_id=event.trade_id,
                price_ticks=event.price_ticks,
                quantity_shares=event.quantity_shares,
                at_ns=head.at_ns,
            )
        case ev.TradeUndone():
            return ReverseFill(
                order_id=head.order_id,
                account=head.account,
                asset=asset,
                side=head.side,
                trade_id=event.trade_id,
                price_ticks=event.price_ticks,
                quantity_shares=event.quantity_shares,
                at_ns=head.at_ns,
            )
        case ev.OrderReplaceConfirmed():
            return ConfirmReplace(
                order_id=head.order_id,
                account=head.account,
                asset=asset,
                side=head.side,
                revision=head.revision,
                quantity_shares=event.quantity_shares,
                price_ticks=(event.hold_price_ticks or 0) if head.side is Side.BUY else 0,
                at_ns=head.at_ns,
            )
        case ev.OrderReplaceRefused():
            return RefuseReplace(
                order_id=head.order_id,
                account=head.account,
                asset=asset,
                side=head.side,
                revision=head.revision,
                at_ns=head.at_ns,
            )
        case ev.OrderClosed():
            return CloseHold(
                order_id=head.order_id, account=head.account, asset=asset, side=head.side, at_ns=head.at_ns
            )
        case ev.OrderRouted() | ev.OrderAcknowledged():
            return None
