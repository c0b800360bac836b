"""Hears `wallet-events-v1`: what the wallet did joins the account's private events.

The position is stored with the events, in one transaction; an event heard twice is dropped by its id.
"""

from collections.abc import Sequence

from mybroker.contracts.broker_events import WALLET_EVENTS, WalletEvent
from mybroker.contracts.codec import Malformed
from mybroker.runtime.kafka import Record
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import child, counter, extract, inject_mapping
from services.broker_orders.desk import Desk
from services.broker_orders.operations import WalletHeard
from services.broker_orders.store import Request

_DUPLICATES = counter("mbb3_orders_wallet_duplicates_total", "Wallet events heard before")
_MALFORMED = counter("mbb3_orders_malformed_events_total", "Wallet events that could not be read")


class WalletEventsHandler:
    """The callback of the consumer loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def handle(self, records: Sequence[Record]) -> None:
        """Note a batch of wallet events, with the positions after it."""
        requests = []
        for record in records:
            event = _read(record)
            if event is not None:
                trace = extract(record.headers)
                headers = inject_mapping(child(trace)) if trace else {}
                requests.append(Request(operation=WalletHeard(event=event), headers=headers))
        positions = {(record.topic, record.partition): record.offset + 1 for record in records}
        results = await self._desk.apply(requests, positions=positions)
        _DUPLICATES.inc(sum(1 for result in results if not result.changed))


def _read(record: Record) -> WalletEvent | None:
    try:
        event: WalletEvent = WALLET_EVENTS.decode(record.value or b"")
    except Malformed as error:
        # Nothing of ours writes such a record; stopping here would stop every account for it.
        _MALFORMED.inc()
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        get_logger().error("wallet_event_refused", reason=str(error), **where)
        return None
    return event
