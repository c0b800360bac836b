"""The posting queue: requests that arrive while a transaction runs share the next one.

Holds and deposits of concurrent HTTP requests are collected into batches; a batch is one transaction and one commit.
With nobody else asking a batch is one request, so waiting costs nothing. A caller that goes away takes nothing back:
what it asked is posted, and asking again gives the same answer.
"""

import asyncio
from collections.abc import Callable

from mybroker.runtime.lifecycle import passing
from mybroker.runtime.problem import Unavailable
from mybroker.runtime.telemetry import counter, histogram, inject_mapping
from services.broker_wallet.ledger.operations import Operation, Outcome
from services.broker_wallet.store import LedgerStore, Request

BATCH_REQUESTS_MAX = 64
WAITING_REQUESTS_MAX = 2_000
WORKERS = 2

_OUTCOMES = counter("mbb3_wallet_operations_total", "Operations the ledger answered", ["operation", "outcome"])
_BATCH = histogram("mbb3_wallet_batch_requests", "Requests in one transaction", buckets=(1, 2, 4, 8, 16, 32, 64))


class Postings:
    """Collects operations into batches. Supervise `run`."""

    def __init__(self, store: LedgerStore, wake: Callable[[], object]) -> None:
        self._store = store
        self._wake = wake
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Outcome]]] = asyncio.Queue(WAITING_REQUESTS_MAX)

    async def post(self, operation: Operation) -> Outcome:
        """Post one operation and return its outcome once it is committed."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((Request(operation=operation, headers=inject_mapping()), future))
        except asyncio.QueueFull:
            raise Unavailable("broker_wallet", f"{WAITING_REQUESTS_MAX} requests are waiting for the ledger") from None
        return await future

    async def run(self) -> None:
        """Post batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_REQUESTS_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            _BATCH.observe(len(batch))
            try:
                outcomes = await self._store.post([request for request, _ in batch])
            except Exception as error:  # noqa: BLE001  # whoever asked is told; the queue goes on
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            passing("wallet.hold_committed")
            self._wake()
            for (request, future), outcome in zip(batch, outcomes, strict=True):
                _OUTCOMES.labels(type(request.operation).__name__, outcome.kind).inc()
                if not future.done():
                    future.set_result(outcome)
