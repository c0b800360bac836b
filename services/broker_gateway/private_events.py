"""An account's private events on the stream: no gap, no repetition, from any number on.

The truth is broker_orders' numbered sequence; this asks it for what comes after the last one sent. Kafka only wakes:
a record of the account on `order-events-v1` or `wallet-events-v1` makes it ask at once, and without one it asks every
POLL_MS, so a lost wake-up costs time and never an event.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mybroker.contracts import topics
from mybroker.contracts.feed import FeedError
from mybroker.contracts.http_broker import EventList
from mybroker.contracts.http_gateway import EventMessage, EventsFrom
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.kafka import Record, watermarks
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.problem import Problem
from mybroker.runtime.telemetry import counter

POLL_MS = 1_000
RETRY_MS = 250
ORDERS = "broker_orders"

_SENT = counter("mbb3_private_events_sent_total", "Private events sent to clients")

SendMessage = Callable[[EventMessage | EventsFrom | FeedError], Awaitable[object]]


class Wakeups:
    """Which connections wait for which account. Run it supervised."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def join(self, account: str) -> asyncio.Event:
        """Return an event that is set when something happened to the account."""
        event = asyncio.Event()
        self._waiting.setdefault(account, set()).add(event)
        return event

    def leave(self, account: str, event: asyncio.Event) -> None:
        """Stop waiting."""
        waiting = self._waiting.get(account, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(account, None)

    async def run(self) -> None:
        """Follow both topics from their ends."""
        positions: dict[tuple[str, int], int] = {}
        for spec in topics.SHARED_TOPICS:
            if spec.name in (topics.ORDER_EVENTS, topics.WALLET_EVENTS):
                for partition in range(spec.partitions):
                    marks = await asyncio.to_thread(watermarks, self._url, spec.name, partition)
                    positions[spec.name, partition] = marks[1]
        await ConsumerLoop(self._url, self.heard, positions=positions).run()

    async def heard(self, records: Sequence[Record]) -> None:
        """Wake who waits for the accounts of these records."""
        for record in records:
            for event in self._waiting.get((record.key or b"").decode("utf-8", "replace"), ()):
                event.set()


class PrivateEvents:
    """Sends one account's events to one connection."""

    def __init__(self, orders: HttpClient, wakeups: Wakeups, account: str, token: Callable[[], str]) -> None:
        self._orders = orders
        self._wakeups = wakeups
        self._account = account
        self._token = token

    async def run(self, after: int | None, send: SendMessage) -> None:
        """Send events after a number (None: after the newest) until cancelled."""
        woken = self._wakeups.join(self._account)
        try:
            if after is None:
                after = await self._newest()
            await send(EventsFrom(after=after))
            while True:
                woken.clear()
                after, more = await self._send_after(after, send)
                if not more:
                    try:
                        async with asyncio.timeout(POLL_MS / 1000):
                            await woken.wait()
                    except TimeoutError:
                        continue
        finally:
            self._wakeups.leave(self._account, woken)

    async def _newest(self) -> int:
        while True:
            try:
                return (await self._ask(0)).last
            except Problem as problem:
                if problem.status < 500:
                    raise
                await asyncio.sleep(RETRY_MS / 1000)

    async def _send_after(self, after: int, send: SendMessage) -> tuple[int, bool]:
        try:
            page = await self._ask(after)
        except Problem as problem:
            if problem.status < 500 and problem.status != 429:
                raise
            await asyncio.sleep(RETRY_MS / 1000)
            return after, True
        for event in page.events:
            assert event.seq == after + 1, f"private events: expected {after + 1}, was {event.seq}"
            await send(EventMessage(seq=event.seq, event=event))
            _SENT.inc()
            after = event.seq
        return after, bool(page.events) and after < page.last

    async def _ask(self, after: int) -> EventList:
        headers = {"Authorization": f"Bearer {self._token()}"}
        return await self._orders.call(
            "GET", ORDERS, "/events", query={"after": after}, headers=headers, reply=EventList
        )
