"""A shard: the engine with its numbering and digest chain, one frame per command.

Pure: the same records at the same offsets give the same frames, bytes and digests, whoever computes them:
the matcher, a second matcher, `mybroker prove`. A record that is no command still gets its frame.
Invariant: `seq` counts frames 1, 2, 3 …; `next_offset` is the offset of the next record, with no gap between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mybroker.contracts.codec import Malformed
from mybroker.contracts.commands import Command, LogStart
from mybroker.contracts.events import CommandIgnored, Event
from mybroker.contracts.frames import COMMANDS, GENESIS_DIGEST, Frame, chain_digest, encode_events
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine

NOT_A_COMMAND = CommandIgnored(command="malformed", why="not a command")


class LogDamaged(Exception):
    """The command log is not what a command log must be; nothing can be computed from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command's frame, with the exact bytes its digest covers; `command` None where it was none."""

    frame: Frame
    events_bytes: bytes
    command: Command | None


class Shard:
    """Turns records of one partition of a command log into frames."""

    __slots__ = ("digest", "engine", "next_offset", "seq")

    def __init__(
        self, engine: Engine | None = None, *, seq: int = 0, next_offset: int = 0, digest: str = GENESIS_DIGEST
    ) -> None:
        """Start at the beginning of a log, or go on from a restored engine."""
        self.engine = engine or Engine()
        self.seq = seq
        self.next_offset = next_offset
        self.digest = digest

    def apply(self, offset: int, value: bytes) -> Step:
        """Apply the record at `offset`; raises LogDamaged at a gap or where the log does not start with its id."""
        if offset != self.next_offset:
            raise LogDamaged(f"command log: expected offset {self.next_offset}, was {offset}")
        command: Command | None
        try:
            command = COMMANDS.decode(value)
        except Malformed:
            command = None
        if offset == 0 and not isinstance(command, LogStart):
            raise LogDamaged(f"command log: expected log_start at offset 0, was {value[:80]!r}")
        events: list[Event] = [NOT_A_COMMAND] if command is None else self.engine.apply(offset, command)
        events_bytes = encode_events(events)
        self.seq += 1
        self.next_offset = offset + 1
        self.digest = chain_digest(self.digest, self.seq, offset, events_bytes)
        log_id = self.engine.log_id
        assert log_id is not None, "the first record gave the log its id"
        frame = Frame(
            log_id=log_id,
            seq=self.seq,
            offset=offset,
            epoch=self.engine.epoch,
            engine_version=ENGINE_VERSION,
            at_ns=self.engine.now_ns,
            digest=self.digest,
            events=tuple(events),
        )
        return Step(frame=frame, events_bytes=events_bytes, command=command)

    def dump(self) -> dict[str, Any]:
        """Return the whole state as plain values."""
        return {
            "seq": self.seq,
            "next_offset": self.next_offset,
            "digest": self.digest,
            "engine": self.engine.dump(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Shard:
        """Restore what `dump` returned."""
        return cls(
            Engine.load(state["engine"]),
            seq=state["seq"],
            next_offset=state["next_offset"],
            digest=state["digest"],
        )
