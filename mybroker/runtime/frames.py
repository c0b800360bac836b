"""Reading a market's event log: whole frames, each once, in order, from a stored position.

The log may repeat frames (a second matcher computed the same ones) and a frame may come in parts. `FrameSequence`
is the rule alone: join, drop what was heard (`mbb3_duplicates_total`), stop at a gap, begin again at 1 when the log
id is new. `FrameReader` puts it over a partition and finds where to start.

Finding the start: a binary search over offsets lands near the first frame not yet heard. Because repeats make the
log step backwards, it may land behind that frame, or find another writer's later frame first; a gap therefore moves
the start back, twice as far each time, and only a gap seen from the log's beginning is a real one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from mybroker.contracts.frames import Frame, FramePart, decode_frame_part, join_parts
from mybroker.runtime.kafka import Record, make_consumer, watermarks
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter

SEARCH_ENDS_AT_RECORDS = 200
PROBE_DEADLINE_S = 10.0

_DUPLICATES = counter("mbb3_duplicates_total", "Messages heard before and dropped", ["stream"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePosition:
    """The last frame whose effect is stored: frames of `log_id` up to and with `seq`."""

    log_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBatch:
    """Consecutive frames of one log. `is_new_log`: this log was not the one before; its frames start at seq 1."""

    log_id: str
    is_new_log: bool
    frames: Sequence[Frame]


class SequenceGap(Exception):
    """A frame is missing: whoever goes on would show a wrong state."""

    def __init__(self, stream: str, expected_seq: int, part: FramePart) -> None:
        super().__init__(f"{stream}: expected seq {expected_seq}, was {part.frame.seq} part {part.part}")
        self.expected_seq = expected_seq
        self.seq = part.frame.seq


class FrameSequence:
    """Decides of each part that is read whether it completes the next frame."""

    __slots__ = ("_parts", "_stream", "log_id", "seq")

    def __init__(self, stream: str, position: FramePosition | None = None) -> None:
        self._stream = stream
        self.log_id = position.log_id if position else ""
        self.seq = position.seq if position else 0
        self._parts: list[FramePart] = []

    def hear(self, part: FramePart) -> Frame | None:
        """Take one part; return the frame it completes, or None. Raises SequenceGap.

        A part of another log resets the position to the start of that log.
        """
        frame = part.frame
        if frame.log_id != self.log_id:
            self.log_id, self.seq = frame.log_id, 0
            self._parts.clear()
        if frame.seq <= self.seq:
            _DUPLICATES.labels("frames").inc()
            return None
        if frame.seq > self.seq + 1:
            raise SequenceGap(self._stream, self.seq + 1, part)
        if part.part <= len(self._parts):  # a second writer's copy of a part
            if part.part == 1 and not part.last:
                self._parts = [part]
            _DUPLICATES.labels("frame_parts").inc()
            return None
        if part.part > len(self._parts) + 1:
            raise SequenceGap(self._stream, self.seq + 1, part)
        self._parts.append(part)
        if not part.last:
            return None
        whole = join_parts(self._parts)
        self._parts.clear()
        self.seq = frame.seq
        return whole


HandleFrames = Callable[[FrameBatch], Awaitable[object]]


class FrameReader:
    """Follows one shard's event log and hands frames to an async callback, batch by batch.

    Run it with `context.supervise(name, reader.run())`. An exception of the callback ends `run`; the callback
    stores (log_id, last seq) together with its effect and gives it back as `position` after a restart.
    """

    def __init__(
        self,
        url: str,
        topic: str,
        partition: int,
        handle: HandleFrames,
        *,
        position: FramePosition | None = None,
        on_caught_up: Callable[[], object] | None = None,
    ) -> None:
        """`on_caught_up` is called on the event loop each time the end of the log is reached."""
        self._url = url
        self._topic = topic
        self._partition = partition
        self._handle = handle
        self._position = position
        self._on_caught_up = on_caught_up
        self._stream = f"{topic}[{partition}]"
        self._known_log_id = position.log_id if position else ""
        self._sequence = FrameSequence(self._stream, position)
        self._log = get_logger()

    @property
    def position(self) -> FramePosition:
        """The last frame handed over."""
        return FramePosition(log_id=self._known_log_id, seq=self._sequence.seq)

    async def run(self) -> None:
        """Follow the log until cancelled. Raises SequenceGap for a real gap."""
        start = await asyncio.to_thread(self._find_start)
        back = SEARCH_ENDS_AT_RECORDS
        while True:
            loop = ConsumerLoop(
                self._url,
                self._hear,
                positions={(self._topic, self._partition): start},
                on_caught_up=lambda _topic, _partition: self._caught_up(),
                offset_reset="error",
            )
            try:
                await loop.run()
                return
            except SequenceGap as gap:
                if start == 0:
                    raise
                start = max(0, start - back)
                back *= 2
                self._log.info("frame_start_moved_back", stream=self._stream, offset=start, reason=str(gap))
                self._sequence = FrameSequence(self._stream, self._position)
            except KafkaException as error:
                # The log was deleted and begun anew: what is stored here no longer exists.
                if error.args[0].code() not in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    raise
                self._log.warning("frame_log_restarted", stream=self._stream, reason=str(error))
                start = 0

    def _caught_up(self) -> None:
        if self._on_caught_up is not None:
            self._on_caught_up()

    async def _hear(self, records: Sequence[Record]) -> None:
        frames: list[Frame] = []
        for record in records:
            assert record.value is not None, f"{self._stream}: expected a frame at {record.offset}, was nothing"
            part = decode_frame_part(record.value)
            if frames and part.frame.log_id != self._sequence.log_id:
                await self._hand_over(frames)
                frames = []
            frame = self._sequence.hear(part)
            if frame is not None:
                frames.append(frame)
        if frames:
            await self._hand_over(frames)

    async def _hand_over(self, frames: Sequence[Frame]) -> None:
        log_id = frames[0].log_id
        is_new_log = log_id != self._known_log_id
        await self._handle(FrameBatch(log_id=log_id, is_new_log=is_new_log, frames=frames))
        self._known_log_id = log_id
        self._position = FramePosition(log_id=log_id, seq=frames[-1].seq)

    def _find_start(self) -> int:
        if self._position is None or self._position.seq == 0:
            return watermarks(self._url, self._topic, self._partition)[0]
        return find_offset(self._url, self._topic, self._partition, self._position)


def find_offset(url: str, topic: str, partition: int, position: FramePosition) -> int:
    """An offset near the first frame after `position`: at or before it unless frames repeat there. Blocks.

    Returns the first offset when the log is another one.
    """
    small_reads: dict[str, Any] = {"fetch.message.max.bytes": 65_536, "queued.min.messages": 1}
    consumer = make_consumer(url, **small_reads)
    try:
        low, high = watermarks(consumer, topic, partition)
        first = low
        while high - low > SEARCH_ENDS_AT_RECORDS:
            middle = (low + high) // 2
            frame = _probe(consumer, topic, partition, middle)
            if frame.log_id != position.log_id:
                return first
            if frame.seq <= position.seq:
                low = middle
            else:
                high = middle
        return low
    finally:
        consumer.close()


def _probe(consumer: Consumer, topic: str, partition: int, offset: int) -> Frame:
    consumer.assign([TopicPartition(topic, partition, offset)])
    waited_s = 0.0
    while waited_s < PROBE_DEADLINE_S:
        message = consumer.poll(0.5)
        if message is None:
            waited_s += 0.5
            continue
        error = message.error()
        value = message.value()
        if error is None and value is not None:
            return decode_frame_part(value).frame
        waited_s += 0.05
    raise TimeoutError(f"{topic}[{partition}]: expected a frame at {offset}, none came for {PROBE_DEADLINE_S} s")
