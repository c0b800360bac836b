"""How a shard's view is rebuilt and followed: books from the compacted topic, the rest from the event log.

A start takes the newest book record of every ticker, then scans the log up to the oldest of them, decoding only the
frames that print trades or change phases, then follows the log frame by frame. Records of another log are ignored.
A gap, or a log that was begun anew, ends the process: the next start rebuilds everything.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable

import msgspec

from mybroker.contracts.feed import BookRecord
from mybroker.contracts.frames import Frame, FramePart, decode_frame_part, join_parts
from mybroker.runtime.frames import FrameBatch, FramePosition, FrameReader, SequenceGap
from mybroker.runtime.kafka import read_from, watermarks
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter, gauge
from services.b3_market_feed.market_view import HISTORY_MARKS, MarketView, Printed, ShardView

CHUNK_FRAMES_MAX = 1_000
SCAN_MESSAGES_MAX = 20_000

_FRAMES = counter("mbb3_feed_frames_total", "Frames applied to the public view", ["market"])
_SEQ = gauge("mbb3_feed_seq", "Last frame applied", ["market", "shard"])

_RECORD = msgspec.json.Decoder(BookRecord)


class LogReplaced(Exception):
    """The event log was deleted and begun anew: what is in memory is another market's."""


class _Head(msgspec.Struct):
    """What is needed of a frame to decide whether to decode it."""

    log_id: str
    seq: int
    part: int = 1
    last: bool = True


_HEAD = msgspec.json.Decoder(_Head)

OnPrinted = Callable[[list[Printed]], object]


class ShardFeed:
    """Keeps one shard's view up to date. Run it supervised."""

    def __init__(
        self,
        url: str,
        *,
        events_topic: str,
        books_topic: str,
        view: MarketView,
        shard: ShardView,
        on_printed: OnPrinted,
        on_caught_up: Callable[[], object],
    ) -> None:
        self._url = url
        self._events_topic = events_topic
        self._books_topic = books_topic
        self._view = view
        self._shard = shard
        self._on_printed = on_printed
        self._on_caught_up = on_caught_up

    async def run(self) -> None:
        """Rebuild, then follow until cancelled. Raises SequenceGap, BookGap or LogReplaced."""
        log_id = await asyncio.to_thread(first_log_id, self._url, self._events_topic, self._shard.shard)
        position = await self._load_books(log_id) if log_id else None
        if position is not None:
            await self._scan_history(position)
        reader = FrameReader(
            self._url,
            self._events_topic,
            self._shard.shard,
            self._follow,
            position=position,
            on_caught_up=self._on_caught_up,
        )
        await reader.run()

    async def _load_books(self, log_id: str) -> FramePosition | None:
        records = await asyncio.to_thread(newest_books, self._url, self._books_topic, self._shard.shard, log_id)
        for record in records.values():
            self._view.load(self._shard, record)
        if not records or set(self._shard.days) - set(records):
            # A ticker without a record may have a book from the log's beginning on.
            return None
        seq = min(record.seq for record in records.values())
        return FramePosition(log_id=log_id, seq=seq) if seq > 0 else None

    async def _scan_history(self, position: FramePosition) -> None:
        raw = read_from(self._url, self._events_topic, self._shard.shard, 0)
        chunks = history(self._stream, (record.value for record in raw), position)
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                for frame in chunk:
                    self._view.apply(self._shard, frame)
        finally:
            chunks.close()
        self._shard.log_id, self._shard.seq = position.log_id, position.seq
        get_logger().info("feed_history_read", stream=self._stream, seq=position.seq)

    async def _follow(self, batch: FrameBatch) -> None:
        if self._shard.log_id not in ("", batch.log_id):
            raise LogReplaced(f"{self._stream}: expected log {self._shard.log_id}, was {batch.log_id}")
        printed: list[Printed] = []
        for frame in batch.frames:
            printed += self._view.apply(self._shard, frame)
        _FRAMES.labels(self._shard.market).inc(len(batch.frames))
        _SEQ.labels(self._shard.market, str(self._shard.shard)).set(self._shard.seq)
        if printed:
            self._on_printed(printed)

    @property
    def _stream(self) -> str:
        return f"{self._events_topic}[{self._shard.shard}]"


def first_log_id(url: str, topic: str, partition: int) -> str:
    """Return the id of the log that stands in a topic; nothing while it is empty. Blocks."""
    low, high = watermarks(url, topic, partition)
    if low == high:
        return ""
    for record in read_from(url, topic, partition, low, until=low + 1):
        assert record.value is not None, f"{topic}[{partition}]: expected a frame at {record.offset}"
        return _HEAD.decode(record.value).log_id
    return ""


def newest_books(url: str, topic: str, partition: int, log_id: str) -> dict[str, BookRecord]:
    """Return the newest book record of each ticker of this log. Blocks."""
    newest: dict[str, BookRecord] = {}
    for record in read_from(url, topic, partition, 0):
        if record.value is None:
            continue
        book = decode_book(record.value)
        if book.log_id == log_id and (book.ticker not in newest or newest[book.ticker].seq <= book.seq):
            newest[book.ticker] = book
    return newest


def decode_book(value: bytes) -> BookRecord:
    """Decode a record of the compacted topic."""
    return _RECORD.decode(value)


def history(stream: str, values: Iterable[bytes | None], position: FramePosition) -> Generator[list[Frame]]:
    """Yield, in chunks, the frames up to `position` that change more than books. Raises SequenceGap.

    Frames that are skipped are still checked for their number.
    """
    seq = 0
    chunk: list[Frame] = []
    parts: list[FramePart] = []
    for number, value in enumerate(values, start=1):
        assert value is not None, f"{stream}: expected a frame, was nothing"
        head = _HEAD.decode(value)
        if head.log_id != position.log_id or seq == position.seq:
            break
        if head.seq > seq + 1 or (head.seq == seq + 1 and head.part > len(parts) + 1):
            raise SequenceGap(stream, seq + 1, decode_frame_part(value))
        if head.seq == seq + 1 and head.part == len(parts) + 1:
            if parts or not head.last or _matters(value):
                parts.append(decode_frame_part(value))
            if head.last:
                seq = head.seq
                if parts:
                    chunk.append(join_parts(parts))
                parts = []
        if len(chunk) >= CHUNK_FRAMES_MAX or number % SCAN_MESSAGES_MAX == 0:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
    assert seq == position.seq, f"{stream}: expected frames up to {position.seq}, the log ends at {seq}"


def _matters(value: bytes) -> bool:
    return any(mark in value for mark in HISTORY_MARKS)
