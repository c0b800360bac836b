"""Snapshots: three kept, whole or not at all; what cannot be trusted is passed over, and said."""

from __future__ import annotations

import pytest

from mybroker.contracts.frames import FrameHead
from services.b3_matcher.recovery import Diverged, WrittenFrames
from services.b3_matcher.snapshots import GENERATIONS_KEPT, SnapshotFolder, SnapshotHeader


def header(seq):
    return SnapshotHeader(
        format=1,
        engine_version=1,
        log_id="log",
        seq=seq,
        next_offset=seq,
        event_offset=seq - 1,
        digest=f"{seq:032x}",
        state_hash=f"{seq:032x}",
    )


def seqs(folder):
    return [snapshot.header.seq for snapshot in folder.newest_first()]


def test_the_newest_generations_are_kept(tmp_path):
    folder = SnapshotFolder(tmp_path)
    for seq in (10, 20, 30, 40, 50):
        folder.write(header(seq), {"seq": seq})

    assert seqs(folder) == [50, 40, 30]
    assert len(seqs(folder)) == GENERATIONS_KEPT
    assert [snapshot.state for snapshot in folder.newest_first()] == [{"seq": 50}, {"seq": 40}, {"seq": 30}]


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("a flipped byte in the state", lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]),
        ("a torn write", lambda data: data[: len(data) // 2]),
        ("an empty file", lambda _data: b""),
        ("another format", lambda data: data.replace(b'"format":1', b'"format":9')),
    ],
)
def test_a_spoilt_snapshot_is_skipped_for_the_one_before(tmp_path, what, spoil):
    folder = SnapshotFolder(tmp_path)
    folder.write(header(10), {"orders": [1, 2, 3]})
    newest = folder.write(header(20), {"orders": [4, 5, 6]})
    newest.write_bytes(spoil(newest.read_bytes()))

    assert seqs(folder) == [10], what


def test_what_an_interrupted_write_left_is_gone_at_the_next_start(tmp_path):
    (tmp_path / "0000000000000099.tmp").write_bytes(b"half")
    assert seqs(SnapshotFolder(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def head(seq, digest="d", *, part=1, last=True, log_id="log"):
    return FrameHead(
        log_id=log_id,
        seq=seq,
        offset=seq,
        epoch=1,
        engine_version=1,
        at_ns=seq * 10,
        digest=digest,
        part=part,
        last=last,
    )


def test_the_tail_is_the_newest_whole_frame_even_where_the_log_steps_back():
    written = WrittenFrames(log_id="log")
    for one in (head(5), head(6), head(5), head(7, part=1, last=False)):
        written.add(one)

    assert written.tail_seq == 6, "frame 7 is not there whole"
    written.add(head(7, part=2, last=True))
    assert (written.tail_seq, written.tail_engine_version) == (7, 1)


def test_parts_of_two_writers_make_one_whole_frame():
    written = WrittenFrames(log_id="log")
    for part, last in [(1, False), (1, False), (2, True), (2, True)]:
        written.add(head(1, part=part, last=last))
    assert written.tail_seq == 1


def test_two_writers_that_differ_stop_the_shard():
    written = WrittenFrames(log_id="log")
    written.add(head(5, "one"))
    with pytest.raises(Diverged, match="frame 5: the event log holds one and another"):
        written.add(head(5, "another"))


def test_frames_of_another_log_do_not_count():
    written = WrittenFrames(log_id="log")
    written.add(head(5, log_id="older"))
    assert written.tail_seq == 0
