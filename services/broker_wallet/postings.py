"""The posting queue: holds and deposits of concurrent requests share transactions."""

from collections.abc import Callable, Sequence

from mybroker.runtime.batches import Batches
from mybroker.runtime.lifecycle import passing
from mybroker.runtime.telemetry import counter, inject_mapping
from services.broker_wallet.ledger.operations import Operation, Outcome
from services.broker_wallet.store import LedgerStore, Request

_OUTCOMES = counter("mbb3_wallet_operations_total", "Operations the ledger answered", ["operation", "outcome"])


class Postings:
    """Posts operations in batches. Supervise `run`."""

    def __init__(self, store: LedgerStore, wake: Callable[[], object]) -> None:
        self._store = store
        self._wake = wake
        self._batches: Batches[Request, Outcome] = Batches("broker_wallet", self._post)

    async def post(self, operation: Operation) -> Outcome:
        """Post one operation and return its outcome once it is committed."""
        return await self._batches.ask(Request(operation=operation, headers=inject_mapping()))

    async def run(self) -> None:
        """Post batches until cancelled."""
        await self._batches.run()

    async def _post(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        outcomes = await self._store.post(requests)
        passing("wallet.hold_committed")
        self._wake()
        for request, outcome in zip(requests, outcomes, strict=True):
            _OUTCOMES.labels(type(request.operation).__name__, outcome.kind).inc()
        return outcomes
