"""The frame: all events of one command, numbered, chained by digest; and its wire form.

`seq` runs 1, 2, 3 … per shard with no gap. `digest` is BLAKE2b-128 over the digest before, the seq, the
command's offset and the encoded events, so equal digests mean equal histories. The event log may step
backwards (a second matcher wrote the same frames again); readers drop a seq they have seen and stop at a gap.
A frame whose events outgrow FRAME_BYTES_MAX travels in parts that share seq and digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mybroker.contracts.codec import Codec, Malformed
from mybroker.contracts.commands import COMMAND_KINDS
from mybroker.contracts.events import EVENT_KINDS, Event

FRAME_BYTES_MAX = 700_000
GENESIS_DIGEST = "0" * 32

COMMANDS = Codec("command", COMMAND_KINDS)
EVENTS = Codec("event", EVENT_KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One command's outcome. `offset` is the command's, `epoch` the one in force at it, `at_ns` session time."""

    log_id: str
    seq: int
    offset: int
    epoch: int
    engine_version: int
    at_ns: int
    digest: str
    events: tuple[Event, ...]


class FrameHead(msgspec.Struct, frozen=True, kw_only=True):
    """A frame's head without its events: enough to compare histories quickly."""

    log_id: str
    seq: int
    offset: int
    epoch: int
    engine_version: int
    at_ns: int
    digest: str
    part: int = 1
    last: bool = True


class _Wire(FrameHead, frozen=True, kw_only=True):
    events: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePart:
    """A frame, or a piece of one, as it stands in the log."""

    frame: Frame
    part: int
    last: bool


_WIRE = msgspec.json.Decoder(_Wire)
_ENCODER = msgspec.json.Encoder()


def encode_events(events: Sequence[Event]) -> bytes:
    """Encode events; the bytes that the digest covers."""
    return EVENTS.encode_many(events)


def chain_digest(previous: str, seq: int, offset: int, events_bytes: bytes) -> str:
    """Return the digest of a frame that follows `previous` (32 hex digits)."""
    chained = hashlib.blake2b(f"{previous}:{seq}:{offset}:".encode(), digest_size=16)
    chained.update(events_bytes)
    return chained.hexdigest()


def encode_frame(frame: Frame, events_bytes: bytes) -> Iterator[bytes]:
    """Yield the frame's messages: one, or several parts where the events outgrow a message."""
    if len(events_bytes) <= FRAME_BYTES_MAX:
        yield _encode_wire(frame, events_bytes, part=1, last=True)
        return
    pieces = list(_split(frame.events))
    for number, piece in enumerate(pieces, start=1):
        yield _encode_wire(frame, encode_events(piece), part=number, last=number == len(pieces))


def _encode_wire(frame: Frame, events_bytes: bytes, *, part: int, last: bool) -> bytes:
    wire = _Wire(
        log_id=frame.log_id,
        seq=frame.seq,
        offset=frame.offset,
        epoch=frame.epoch,
        engine_version=frame.engine_version,
        at_ns=frame.at_ns,
        digest=frame.digest,
        events=msgspec.Raw(events_bytes),
        part=part,
        last=last,
    )
    return _ENCODER.encode(wire)


def _split(events: tuple[Event, ...]) -> Iterator[tuple[Event, ...]]:
    piece: list[Event] = []
    size_bytes = 0
    for event in events:
        event_bytes = len(EVENTS.encode(event)) + 1
        if piece and size_bytes + event_bytes > FRAME_BYTES_MAX:
            yield tuple(piece)
            piece, size_bytes = [], 0
        piece.append(event)
        size_bytes += event_bytes
    yield tuple(piece)


def decode_frame_part(data: bytes) -> FramePart:
    """Decode one message of the event log; raises Malformed."""
    try:
        wire = _WIRE.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"frame: {error}, was {data[:120]!r}") from error
    events: list[Any] = EVENTS.decode_many(wire.events)
    frame = Frame(
        log_id=wire.log_id,
        seq=wire.seq,
        offset=wire.offset,
        epoch=wire.epoch,
        engine_version=wire.engine_version,
        at_ns=wire.at_ns,
        digest=wire.digest,
        events=tuple(events),
    )
    return FramePart(frame=frame, part=wire.part, last=wire.last)


def join_parts(parts: Sequence[FramePart]) -> Frame:
    """Join the parts of one frame, given in order; asserts that they belong together."""
    first = parts[0].frame
    assert [part.part for part in parts] == list(range(1, len(parts) + 1)), "parts out of order"
    assert parts[-1].last and all(part.frame.digest == first.digest for part in parts), "parts of different frames"
    if len(parts) == 1:
        return first
    return Frame(
        log_id=first.log_id,
        seq=first.seq,
        offset=first.offset,
        epoch=first.epoch,
        engine_version=first.engine_version,
        at_ns=first.at_ns,
        digest=first.digest,
        events=tuple(event for part in parts for event in part.frame.events),
    )


_HEAD = msgspec.json.Decoder(FrameHead)


def decode_frame_head(data: bytes) -> FrameHead:
    """Decode only the head of one message of the event log; raises Malformed."""
    try:
        return _HEAD.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"frame: {error}, was {data[:120]!r}") from error
