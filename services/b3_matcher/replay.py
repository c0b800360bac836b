"""Replaying a shard's command log from its first record and comparing with every frame in its event log.

`python -m services.b3_matcher.replay --kafka HOST:PORT --commands TOPIC --events TOPIC --partition N` prints one
JSON object (`ReplayResult`) and exits 0 where nothing differs, 1 at a difference, 2 where the logs cannot be read.
`--tape FILE` also writes the command log as a tape, `--lines FILE` the event log as `match --all` prints it.
It only reads, so it may run beside a live market: commands that have no frame yet are counted as `in_flight`,
not as missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from mybroker.contracts.events import (
    CommandIgnored,
    DuplicateIgnored,
    Event,
    OrderAccepted,
    OrderRejected,
    Quarantined,
    StateHashed,
    TradeBusted,
    TradeExecuted,
)
from mybroker.contracts.frames import Frame, chain_digest, decode_frame_part, encode_events
from mybroker.runtime.frames import FrameSequence, SequenceGap
from mybroker.runtime.kafka import read_from
from services.b3_matcher.match import lines_of
from services.b3_matcher.shard import LogDamaged, Shard, Step
from services.b3_matcher.tape import command_to_line


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where the log and its replay part."""

    seq: int
    offset: int
    command: str
    expected: str
    was: str


class ReplayResult(msgspec.Struct, kw_only=True):
    """What a replay found; counts are of the replay's own events."""

    commands_topic: str
    partition: int
    log_id: str = ""
    commands: int = 0
    frames: int = 0
    frames_in_log: int = 0
    repeated_frames: int = 0
    in_flight: int = 0
    digest: str = ""
    state_hash: str = ""
    hashes_compared: int = 0
    phase: str = ""
    business_date: str | None = None
    orders: int = 0
    rejected: int = 0
    duplicates: int = 0
    ignored: int = 0
    quarantined: int = 0
    trades: int = 0
    busted: int = 0
    volume_shares: int = 0
    turnover_cents: int = 0
    difference: Difference | None = None


class Frames:
    """The event log's frames in order, each once, with what was heard twice counted."""

    def __init__(self, kafka_url: str, topic: str, partition: int) -> None:
        """Read from the beginning to the tail as it is now."""
        self.messages = 0
        self.whole = 0
        self._records = read_from(kafka_url, topic, partition, 0)
        self._sequence = FrameSequence(f"{topic}[{partition}]")

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; raises SequenceGap."""
        for record in self._records:
            part = decode_frame_part(record.value or b"")
            self.messages += part.part == 1
            frame = self._sequence.hear(part)
            if frame is not None:
                self.whole += 1
                yield frame


def replay(
    kafka_url: str,
    commands_topic: str,
    events_topic: str,
    partition: int,
    *,
    tape: TextIO | None = None,
    lines: TextIO | None = None,
) -> ReplayResult:
    """Replay one shard; stops comparing, not replaying, at the first difference."""
    result = ReplayResult(commands_topic=commands_topic, partition=partition)
    logged = Frames(kafka_url, events_topic, partition)
    frames = iter(logged)
    shard = Shard()
    try:
        for record in read_from(kafka_url, commands_topic, partition, 0):
            step = shard.apply(record.offset, record.value or b"")
            _count(result, step)
            if tape is not None and step.command is not None:  # a record that is no command has no line
                tape.write(command_to_line(step.command, step.frame.offset) + "\n")
            if result.difference is None:
                _compare(result, step, frames, lines)
        beyond = next(frames, None) if result.difference is None else None
        if beyond is not None:
            result.difference = _beyond(beyond, shard)
    except (SequenceGap, LogDamaged) as error:
        result.difference = Difference(
            seq=shard.seq, offset=shard.next_offset, command="", expected="a log without a gap", was=str(error)
        )
    result.frames_in_log = logged.whole
    result.repeated_frames = logged.messages - logged.whole
    result.frames = shard.seq
    result.digest = shard.digest
    result.log_id = shard.engine.log_id or ""
    result.state_hash = shard.engine.state_hash()
    result.phase = shard.engine.phase(None).value
    return result


def _compare(result: ReplayResult, step: Step, frames: Iterator[Frame], lines: TextIO | None) -> None:
    logged = next(frames, None)
    if logged is None:
        result.in_flight += 1
        return
    logged_bytes = encode_events(logged.events)
    if lines is not None and step.command is not None:
        for line in lines_of(list(logged.events), everything=True):
            lines.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    same = (
        logged.seq == step.frame.seq
        and logged.offset == step.frame.offset
        and logged.epoch == step.frame.epoch
        and logged.digest == step.frame.digest
        and logged_bytes == step.events_bytes
    )
    if same:
        result.hashes_compared += sum(isinstance(event, StateHashed) for event in step.frame.events)
        return
    result.difference = Difference(
        seq=logged.seq,
        offset=logged.offset,
        command=repr(step.command),
        expected=f"{step.frame.digest} {step.events_bytes.decode()}",
        was=f"{logged.digest} {logged_bytes.decode()}",
    )


def _beyond(frame: Frame, shard: Shard) -> Difference | None:
    """Say that the event log holds a frame of no command; None where that command came during the replay."""
    events = encode_events(frame.events)
    if frame.offset == shard.next_offset and frame.digest == chain_digest(
        shard.digest, frame.seq, frame.offset, events
    ):
        return None
    return Difference(
        seq=frame.seq,
        offset=frame.offset,
        command="none",
        expected=f"no frame after {shard.seq}",
        was=events.decode(),
    )


def _count(result: ReplayResult, step: Step) -> None:
    result.commands += 1
    for event in step.frame.events:
        _count_event(result, event)


def _count_event(result: ReplayResult, event: Event) -> None:
    match event:
        case OrderAccepted():
            result.orders += 1
        case OrderRejected():
            result.rejected += 1
        case DuplicateIgnored():
            result.duplicates += 1
        case CommandIgnored():
            result.ignored += 1
        case Quarantined():
            result.quarantined += 1
        case TradeExecuted():
            result.trades += 1
            result.volume_shares += event.quantity_shares
            result.turnover_cents += event.quantity_shares * event.price_ticks
        case TradeBusted():
            result.busted += 1
        case _:
            pass


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="replay", description="Replay a shard and compare with its frames.")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    parser.add_argument("--commands", required=True, metavar="TOPIC")
    parser.add_argument("--events", required=True, metavar="TOPIC")
    parser.add_argument("--partition", type=int, default=0)
    parser.add_argument("--tape", type=Path)
    parser.add_argument("--lines", type=Path)
    given = parser.parse_args(arguments)
    tape = given.tape.open("w") if given.tape else None
    lines = given.lines.open("w") if given.lines else None
    try:
        result = replay(given.kafka, given.commands, given.events, given.partition, tape=tape, lines=lines)
    except Exception as error:  # noqa: BLE001  whatever cannot be read is said in one line
        sys.stderr.write(f"{given.commands}[{given.partition}]: {type(error).__name__}: {error}\n")
        return 2
    finally:
        for file in (tape, lines):
            if file is not None:
                file.close()
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0 if result.difference is None else 1


if __name__ == "__main__":
    sys.exit(main())
