"""The directory in memory: follows `b3-sessions-v1` and answers where a ticker trades and what time it is there.

Every process holds the whole topic (one record per session). `ready` waits for what stood in it at the start.
Session time is computed from the session's clock record and this process's wall clock, never asked for.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from mybroker.contracts import topics
from mybroker.contracts.codec import Malformed
from mybroker.contracts.directory import (
    DirectoryEntry,
    MarketEntry,
    SessionClock,
    ShardEntry,
    decode_entry,
    encode_entry,
)
from mybroker.runtime.clock import Clock, WallClock
from mybroker.runtime.kafka import AsyncProducer, Record
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.logging import get_logger

OnChange = Callable[[str, DirectoryEntry | None], object]
"""Called with the session's key and its entry; None when it was taken out."""


class Directory:
    """What is known of all sessions. Run it with `context.supervise("directory", directory.run())`."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._url = url
        self._clock: Clock = clock or WallClock()
        self._entries: dict[str, DirectoryEntry] = {}
        self._callbacks: list[OnChange] = []
        self._ready = asyncio.Event()
        self._changed = asyncio.Condition()
        self._log = get_logger()

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        loop = ConsumerLoop(
            self._url,
            self._hear,
            positions={(topics.SESSIONS, 0): -1},
            on_caught_up=lambda _topic, _partition: self._ready.set(),
        )
        await loop.run()

    async def ready(self) -> None:
        """Wait until everything that stood in the topic at the start is known."""
        await self._ready.wait()

    def on_change(self, callback: OnChange) -> None:
        """Call back for every session known now and for each later change."""
        self._callbacks.append(callback)
        for key, entry in self._entries.items():
            callback(key, entry)

    @property
    def entries(self) -> Mapping[str, DirectoryEntry]:
        """All sessions by key (`namespace.session`)."""
        return self._entries

    def entry(self, session_key: str) -> DirectoryEntry | None:
        return self._entries.get(session_key)

    async def wait_for(self, session_key: str) -> DirectoryEntry:
        """Wait until the session is in the directory."""
        async with self._changed:
            await self._changed.wait_for(lambda: session_key in self._entries)
        return self._entries[session_key]

    def find(self, session_key: str, ticker: str) -> tuple[MarketEntry, ShardEntry] | None:
        """Where a ticker trades in a session, or None."""
        entry = self._entries.get(session_key)
        return entry.find(ticker) if entry else None

    def clock(self, session_key: str) -> SessionClock | None:
        entry = self._entries.get(session_key)
        return entry.clock if entry else None

    def session_now_ns(self, session_key: str) -> int | None:
        """The session's time now; None for a session that is not known."""
        clock = self.clock(session_key)
        return clock.now_ns(self._clock.now_ns()) if clock else None

    def put(self, entries: Iterable[DirectoryEntry]) -> None:
        """Take entries without Kafka: for tests and programs that already have them."""
        for entry in entries:
            self._set(entry.key, entry)
        self._ready.set()

    async def _hear(self, records: Sequence[Record]) -> None:
        for record in records:
            key = (record.key or b"").decode("utf-8", "replace")
            if record.value is None:
                self._set(key, None)
                continue
            try:
                self._set(key, decode_entry(record.value))
            except Malformed as error:
                self._log.error("directory_entry_refused", session_key=key, offset=record.offset, reason=str(error))
        async with self._changed:
            self._changed.notify_all()

    def _set(self, key: str, entry: DirectoryEntry | None) -> None:
        if self._entries.get(key) == entry:
            return
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
        for callback in self._callbacks:
            callback(key, entry)


async def publish(producer: AsyncProducer, entry: DirectoryEntry) -> None:
    """Write a session's record; returns once Kafka has it."""
    await producer.send(topics.SESSIONS, entry.key.encode(), encode_entry(entry), partition=0)


async def withdraw(producer: AsyncProducer, session_key: str) -> None:
    """Take a session out of the directory."""
    await producer.send(topics.SESSIONS, session_key.encode(), None, partition=0)
