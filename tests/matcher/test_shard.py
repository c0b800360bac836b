"""A shard numbers, chains and survives: the same records give the same frames, from any point on."""

from __future__ import annotations

import pytest

from mybroker.contracts.commands import (
    ConfigureSession,
    InstrumentConfig,
    LogStart,
    PhaseChange,
    PlaceOrder,
    SessionConfig,
    TakeOver,
    Tick,
)
from mybroker.contracts.events import CommandIgnored, TradeExecuted
from mybroker.contracts.frames import (
    COMMANDS,
    FRAME_BYTES_MAX,
    Frame,
    FramePart,
    chain_digest,
    decode_frame_head,
    decode_frame_part,
    encode_events,
    encode_frame,
    join_parts,
)
from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from services.b3_matcher.engine.engine import ENGINE_VERSION
from services.b3_matcher.shard import LogDamaged, Shard

CONFIG = SessionConfig(
    session="local.pregao",
    market="equities",
    shard=0,
    business_date="2026-11-23",
    instruments=(InstrumentConfig(ticker="PETR4", asset="PETR4", reference_price_ticks=3000),),
    schedule=(PhaseChange(at_ns=100, phase=Phase.OPEN), PhaseChange(at_ns=900, phase=Phase.CLOSED)),
)


def order(order_id, side, price_ticks):
    return PlaceOrder(
        participant="P",
        account=order_id,
        order_id=order_id,
        ticker="PETR4",
        side=side,
        quantity_shares=100,
        price_ticks=price_ticks,
    )


DAY = [
    LogStart(log_id="log"),
    TakeOver(owner="me", engine_version=ENGINE_VERSION),
    ConfigureSession(epoch=1, revision=1, config=CONFIG),
    Tick(epoch=1, at_ns=100),
    order("s1", Side.SELL, 3001),
    order("b1", Side.BUY, 3001),
    order("b1", Side.BUY, 3001),
    order("b2", Side.BUY, 2990),
    Tick(epoch=1, at_ns=950),
]
RECORDS = [COMMANDS.encode(command) for command in DAY] + [b"no command at all"]


def frames_of(records, shard=None):
    shard = shard or Shard()
    return [shard.apply(shard.next_offset, record).frame for record in records]


def test_every_record_has_one_frame_numbered_from_one_even_one_that_is_no_command():
    frames = frames_of(RECORDS)

    assert [frame.seq for frame in frames] == list(range(1, len(RECORDS) + 1))
    assert [frame.offset for frame in frames] == list(range(len(RECORDS)))
    assert frames[-1].events == (CommandIgnored(command="malformed", why="not a command"),)
    assert [type(event) for event in frames[5].events].count(TradeExecuted) == 1


def test_the_same_records_give_the_same_frames_from_any_restart():
    whole = frames_of(RECORDS)

    for cut in range(1, len(RECORDS)):
        first = Shard()
        frames_of(RECORDS[:cut], first)
        restored = Shard.load(first.dump())
        assert frames_of(RECORDS[cut:], restored) == whole[cut:], f"restarted after {cut} records"
        assert restored.digest == whole[-1].digest


def test_one_other_record_changes_every_digest_after_it():
    other = [*RECORDS]
    other[4] = COMMANDS.encode(order("s1", Side.SELL, 3002))
    whole, changed = frames_of(RECORDS), frames_of(other)

    assert [a.digest == b.digest for a, b in zip(whole, changed, strict=True)] == [True] * 4 + [False] * 6


@pytest.mark.parametrize(
    ("what", "offset", "record", "complaint"),
    [
        ("a gap", 2, RECORDS[1], "expected offset 1, was 2"),
        ("a repeat", 0, RECORDS[0], "expected offset 1, was 0"),
    ],
)
def test_a_log_with_a_hole_is_not_read_on(what, offset, record, complaint):
    shard = Shard()
    shard.apply(0, RECORDS[0])
    with pytest.raises(LogDamaged, match=complaint):
        shard.apply(offset, record)


@pytest.mark.parametrize("first", [RECORDS[1], b"garbage"])
def test_a_log_that_does_not_start_with_its_id_is_refused(first):
    with pytest.raises(LogDamaged, match="expected log_start at offset 0"):
        Shard().apply(0, first)


def test_a_frame_survives_its_wire_form_whole_and_in_parts():
    small = frames_of(RECORDS)[5]
    (data,) = encode_frame(small, encode_events(small.events))
    assert join_parts([decode_frame_part(data)]) == small

    events = small.events * (FRAME_BYTES_MAX // 200)
    large = Frame(
        log_id="log",
        seq=7,
        offset=6,
        epoch=1,
        engine_version=1,
        at_ns=5,
        digest=chain_digest(small.digest, 7, 6, encode_events(events)),
        events=events,
    )
    pieces = list(encode_frame(large, encode_events(events)))
    parts: list[FramePart] = [decode_frame_part(piece) for piece in pieces]
    assert len(parts) > 1
    assert max(len(piece) for piece in pieces) < FRAME_BYTES_MAX + 2_000
    assert join_parts(parts) == large
    assert {(decode_frame_head(piece).seq, decode_frame_head(piece).digest) for piece in pieces} == {(7, large.digest)}
