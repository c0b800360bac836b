"""Following every shard's frames: the index grows, and participants hear their reports.

Frames that were there when the door started only build the index: what they reported has been sent, or shows as
a missing number in the next heartbeat and is asked for again. Frames after that are sent at once, in order.
A gap in a log ends the process: a door that skipped a frame would lose reports for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from mybroker.contracts.directory import DirectoryEntry, MarketEntry
from mybroker.contracts.door import ExecutionReport, LastNumber
from mybroker.contracts.reports import reports_of
from mybroker.runtime.frames import FrameBatch, FrameReader
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.telemetry import gauge
from services.b3_order_entry.report_index import ReportIndex

_FOLLOWED = gauge("mbb3_door_shards", "Shards the door follows")

SendReports = Callable[[Sequence[ExecutionReport]], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardKey:
    """Names one shard of one session."""

    session_key: str
    market: str
    shard: int


class FollowedShard:
    """One shard: its index, its reader, and whether its history is known."""

    def __init__(self, key: ShardKey, market: MarketEntry, kafka_url: str, send: SendReports) -> None:
        """Follow from the log's beginning; reports are sent only once the history is known."""
        self.key = key
        self.market = market
        self.index = ReportIndex(key.session_key, key.market, key.shard)
        self.known = asyncio.Event()
        self._send = send
        self._reader = FrameReader(kafka_url, market.events_topic, key.shard, self._hear, on_caught_up=self.known.set)

    async def run(self) -> None:
        """Follow until cancelled; raises SequenceGap."""
        await self._reader.run()

    async def _hear(self, batch: FrameBatch) -> None:
        if batch.is_new_log:
            self.index.reset(batch.log_id)
        reports: list[ExecutionReport] = []
        for frame in batch.frames:
            reports.extend(
                reports_of(frame, session_key=self.key.session_key, market=self.key.market, shard=self.key.shard)
            )
        self.index.note(reports)
        if reports and self.known.is_set():
            await self._send(reports)


class Shards:
    """All shards of all sessions in the directory, followed as they come and go."""

    def __init__(self, context: AppContext, kafka_url: str, send: SendReports) -> None:
        """`send` delivers a batch of reports, in order, and returns when it is confirmed."""
        self._context = context
        self._kafka_url = kafka_url
        self._send = send
        self._followed: dict[ShardKey, tuple[FollowedShard, asyncio.Task[object]]] = {}

    def on_directory(self, session_key: str, entry: DirectoryEntry | None) -> None:
        """Take a session's entry in: follow new shards, let gone ones go."""
        wanted = {
            ShardKey(session_key=session_key, market=market.name, shard=shard.shard): market
            for market in (entry.markets if entry is not None else ())
            for shard in market.shards
        }
        for key, market in wanted.items():
            if key not in self._followed:
                followed = FollowedShard(key, market, self._kafka_url, self._send)
                task = self._context.supervise(f"shard {key.market}-{key.shard}", followed.run(), may_end=True)
                self._followed[key] = (followed, task)
        for key in [key for key in self._followed if key.session_key == session_key and key not in wanted]:
            _, task = self._followed.pop(key)
            task.cancel()
        _FOLLOWED.set(len(self._followed))

    async def known(self, session_key: str) -> None:
        """Wait until the history of every shard of a session is known."""
        for followed in self.of_session(session_key):
            await followed.known.wait()

    def of_session(self, session_key: str) -> Iterable[FollowedShard]:
        """Return the followed shards of a session, in the directory's order."""
        return [followed for key, (followed, _) in self._followed.items() if key.session_key == session_key]

    def find(self, key: ShardKey) -> FollowedShard | None:
        """Return one followed shard."""
        found = self._followed.get(key)
        return found[0] if found is not None else None

    def last_numbers(self, session_key: str, participant: str) -> tuple[LastNumber, ...]:
        """Return the newest report numbers of a participant in a session, of shards whose history is known."""
        return tuple(
            followed.index.last_number(participant)
            for followed in self.of_session(session_key)
            if followed.known.is_set()
        )
