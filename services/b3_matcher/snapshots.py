"""Snapshots of a shard on disk: three generations, each with its checks, written whole or not at all.

A file is one JSON header line and the state. The header names the log, the frame (seq, digest, where it stands
in the event log) and a checksum of the state. A file that does not read back is skipped with an alarm, never
used. Whether a snapshot may be *trusted* (its frame delivered, its offset inside the log) is `recovery`'s question.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter

FORMAT = 1
GENERATIONS_KEPT = 3

_SKIPPED = counter("mbb3_snapshots_skipped_total", "Snapshots not used at a start", ["why"])
_WRITTEN = counter("mbb3_snapshots_written_total", "Snapshots written")


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a snapshot's first line. `event_offset` is where frame `seq` stands in the event log."""

    format: int
    engine_version: int
    log_id: str
    seq: int
    next_offset: int
    event_offset: int
    digest: str
    state_hash: str
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot that read back whole; `state` is what `Shard.dump` returned."""

    header: SnapshotHeader
    state: dict[str, Any]


class SnapshotFolder:
    """The snapshots of one shard."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made if missing; what an interrupted write left is removed."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.tmp"):
            unfinished.unlink(missing_ok=True)

    def write(self, header: SnapshotHeader, state: dict[str, Any]) -> Path:
        """Write a snapshot durably, then drop all but the newest GENERATIONS_KEPT."""
        body = msgspec.json.encode(state)
        checked = msgspec.structs.replace(header, checksum=_checksum(body))
        path = self.folder / f"{header.seq:016d}.snapshot"
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(checked) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(self.folder)
        _WRITTEN.inc()
        for old in self._paths()[GENERATIONS_KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def newest_first(self) -> Iterator[Snapshot]:
        """Yield what reads back, newest first; what does not is counted, logged and passed over."""
        for path in self._paths():
            snapshot = self._read(path)
            if snapshot is not None:
                yield snapshot

    def skip(self, snapshot: Snapshot, why: str) -> None:
        """Say that a whole snapshot was not used, and why."""
        _SKIPPED.labels(why).inc()
        get_logger().warning("snapshot_skipped", seq=snapshot.header.seq, why=why)

    def _read(self, path: Path) -> Snapshot | None:
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            header = msgspec.json.decode(head, type=SnapshotHeader)
            if header.format != FORMAT:
                why = "format"
            elif header.checksum != _checksum(body):
                why = "checksum"
            else:
                return Snapshot(header=header, state=msgspec.json.decode(body))
        except (OSError, msgspec.MsgspecError) as error:
            why = type(error).__name__
        _SKIPPED.labels("unreadable").inc()
        get_logger().error("snapshot_unreadable", file=path.name, why=why)
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.snapshot"), reverse=True)


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
