"""Works off what is in doubt: orders that wait for longer than they should.

What was never sent is refused and let go. What was sent and not answered is cancelled: the cancel cancels, finds the
order done, or bars its id for ever. A cancel or replace that is not answered is sent again; the exchange hears a
revision once. While a command still waits to leave, it is not sent again behind itself.
"""

import asyncio
from collections.abc import Callable

import psycopg
from psycopg_pool import PoolTimeout

from mybroker.runtime.clock import Clock
from mybroker.runtime.logging import get_logger
from mybroker.runtime.postgres import is_connection_loss
from mybroker.runtime.telemetry import counter, gauge
from services.broker_orders.desk import Desk
from services.broker_orders.reads import Reads
from services.broker_orders.store import Request

LOOK_EVERY_MS = 1_000
IN_DOUBT_AFTER_MS = 8_000

_SETTLED = counter("mbb3_orders_in_doubt_total", "Orders taken up by the reconciler")
_WAITING = gauge("mbb3_orders_overdue", "Orders that wait for too long, at the last look")


class Reconciler:
    """Looks for overdue orders. Supervise `run`."""

    def __init__(
        self,
        *,
        reads: Reads,
        desk: Desk,
        clock: Clock,
        session_now_ns: Callable[[str], int],
        session_key: str,
        in_doubt_after_ms: int = IN_DOUBT_AFTER_MS,
    ) -> None:
        self._reads = reads
        self._desk = desk
        self._clock = clock
        self._session_now_ns = session_now_ns
        self._session_key = session_key
        self._in_doubt_after_ms = in_doubt_after_ms

    async def run(self) -> None:
        """Look for ever; a lost database is waited for."""
        while True:
            try:
                await self.look()
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
                if not is_connection_loss(error):
                    raise
                get_logger().warning("reconciler_waits", reason=str(error).strip())
            await asyncio.sleep(LOOK_EVERY_MS / 1000)

    async def look(self) -> int:
        """Take up what is overdue now; returns how many."""
        before_ns = self._clock.now_ns() - self._in_doubt_after_ms * 1_000_000
        at_ns = self._session_now_ns(self._session_key)
        overdue = await self._reads.overdue(waiting_before_ns=before_ns, at_ns=at_ns)
        _WAITING.set(len(overdue))
        if overdue:
            await self._desk.apply([Request(operation=operation) for operation in overdue])
            _SETTLED.inc(len(overdue))
            get_logger().info("orders_in_doubt_taken_up", orders=len(overdue), first=overdue[0].order_id)
        return len(overdue)
