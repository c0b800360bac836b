"""The desk: operations on the blotter, batched, and everybody who waits for their effect woken after the commit."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from mybroker.runtime.batches import Batches
from mybroker.runtime.telemetry import counter, inject_mapping
from services.broker_orders.lifecycle import Order
from services.broker_orders.operations import Operation, Result
from services.broker_orders.store import OrderStore, ReportKey, Request

_OPERATIONS = counter("mbb3_orders_operations_total", "Operations on orders", ["operation", "outcome"])


class Listeners:
    """Who waits for an account's next private event."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    def notify(self, account: str) -> None:
        """Wake everybody who waits for this account."""
        event = self._waiting.pop(account, None)
        if event is not None:
            event.set()

    def ticket(self, account: str) -> asyncio.Event:
        """Return what is set at the account's next event; take it before looking, wait after."""
        return self._waiting.setdefault(account, asyncio.Event())


class Desk:
    """Does operations. Supervise `run`."""

    def __init__(self, store: OrderStore, listeners: Listeners, wake: Callable[[], object]) -> None:
        self._store = store
        self._listeners = listeners
        self._wake = wake
        self._intake: Batches[Order, Order] = Batches("orders_received", store.receive)
        self._operations: Batches[Request, Result] = Batches("orders_operations", self.apply)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._intake.run())
            group.create_task(self._operations.run())

    async def receive(self, order: Order) -> Order:
        """Write a new row; returns the row that stands under its client id, this one or an earlier one."""
        return await self._intake.ask(order)

    async def do(self, operation: Operation) -> Result:
        """Do one operation and return its result once it is committed."""
        return await self._operations.ask(Request(operation=operation, headers=inject_mapping()))

    async def apply(
        self,
        requests: Sequence[Request],
        *,
        reports: Mapping[ReportKey, int] | None = None,
        positions: Mapping[tuple[str, int], int] | None = None,
    ) -> list[Result]:
        """Do a batch in its order with the positions after it, in one transaction."""
        results = await self._store.apply(requests, reports=reports, positions=positions)
        self._wake()
        for account in self._store.take_moved():
            self._listeners.notify(account)
        for request, result in zip(requests, results, strict=True):
            outcome = "changed" if result.changed else "unchanged" if result.refusal is None else result.refusal.value
            _OPERATIONS.labels(type(request.operation).__name__, outcome).inc()
        return results
