"""Coming back: which snapshot may be trusted, and what the event log holds already.

A snapshot is used only if it is of this log, neither ahead of the event log's tail nor past the command log's
end, and its digest equals that of its frame as it stands in the event log. Then the records after it are
replayed, and the digests computed are compared with those found; what is there is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mybroker.contracts.codec import Malformed
from mybroker.contracts.frames import FrameHead, decode_frame_head
from mybroker.runtime.kafka import Record, read_from, watermarks
from mybroker.runtime.logging import get_logger
from services.b3_matcher.engine.engine import ENGINE_VERSION
from services.b3_matcher.shard import Shard
from services.b3_matcher.snapshots import Snapshot, SnapshotFolder

NEW_DAY_HINT = "start the version that made this day, or begin a new day with `mybroker up --new-day`"


class Diverged(Exception):
    """Two computations of one log differ: the shard stands still until a person has looked."""


class VersionRefused(Exception):
    """The log wants another engine version than this one."""


@dataclass(slots=True)
class WrittenFrames:
    """What the event log holds from some frame on: digests by seq, and its tail: the highest whole frame.

    A second writer's frames may stand between, so the highest one says how far the log has come. Whether it has a
    gap is for those who read it from the beginning (`replay`, every reader).
    """

    log_id: str
    digests: dict[int, str] = field(default_factory=dict)
    tail_seq: int = 0
    tail_engine_version: int | None = None
    _parts: dict[int, set[int]] = field(default_factory=dict)
    _last_part: dict[int, int] = field(default_factory=dict)

    def add(self, head: FrameHead) -> None:
        """Note one message; raises Diverged where a repeated frame differs from the first copy."""
        if head.log_id != self.log_id:
            return
        known = self.digests.get(head.seq)
        if known is not None:
            if known != head.digest:
                raise Diverged(f"frame {head.seq}: the event log holds {known} and {head.digest}")
            return
        seen = self._parts.setdefault(head.seq, set())
        seen.add(head.part)
        if head.last:
            self._last_part[head.seq] = head.part
        if len(seen) == self._last_part.get(head.seq):
            self.digests[head.seq] = head.digest
            del self._parts[head.seq], self._last_part[head.seq]
            if head.seq > self.tail_seq:
                self.tail_seq = head.seq
                self.tail_engine_version = head.engine_version


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a shard's logs are."""

    kafka_url: str
    commands_topic: str
    events_topic: str
    partition: int


def read_written(place: LogPlace, log_id: str, *, event_offset: int) -> WrittenFrames:
    """Read the heads of all frames from an offset of the event log to its tail.

    Raises Diverged where something there is no frame, VersionRefused where another engine version wrote the tail.
    """
    written = WrittenFrames(log_id=log_id)
    records: Iterable[Record] = read_from(place.kafka_url, place.events_topic, place.partition, event_offset)
    for record in records:
        try:
            written.add(decode_frame_head(record.value or b""))
        except Malformed as error:
            raise Diverged(f"{place.events_topic}[{place.partition}] offset {record.offset}: {error}") from error
    if written.tail_engine_version not in (None, ENGINE_VERSION):
        raise VersionRefused(
            f"engine version: expected {written.tail_engine_version}, was {ENGINE_VERSION}; {NEW_DAY_HINT}"
        )
    return written


def recover(place: LogPlace, log_id: str, snapshots: SnapshotFolder) -> tuple[Shard, WrittenFrames]:
    """Return the shard to replay from, and what is written from there on."""
    _, commands_end = watermarks(place.kafka_url, place.commands_topic, place.partition)
    for snapshot in snapshots.newest_first():
        why = _distrust(snapshot, log_id, commands_end)
        if why is not None:
            snapshots.skip(snapshot, why)
            continue
        written = read_written(place, log_id, event_offset=snapshot.header.event_offset)
        if written.tail_seq < snapshot.header.seq:
            snapshots.skip(snapshot, "ahead_of_the_event_log")
        elif written.digests.get(snapshot.header.seq) != snapshot.header.digest:
            snapshots.skip(snapshot, "digest")
        else:
            shard = Shard.load(snapshot.state)
            if shard.engine.state_hash() == snapshot.header.state_hash:
                get_logger().info("snapshot_loaded", seq=shard.seq, next_offset=shard.next_offset)
                return shard, written
            snapshots.skip(snapshot, "state_hash")
    return Shard(), read_written(place, log_id, event_offset=0)


def _distrust(snapshot: Snapshot, log_id: str, commands_end: int) -> str | None:
    if snapshot.header.log_id != log_id:
        return "another_log"
    if snapshot.header.engine_version != ENGINE_VERSION:
        return "engine_version"
    if snapshot.header.next_offset > commands_end:
        return "past_the_command_log"
    return None
