"""Which parts of an event log make the next frame, as a table: `seq.part` (a `+` says that more parts follow)."""

import pytest

from mybroker.contracts.frames import Frame, FramePart
from mybroker.runtime.frames import FramePosition, FrameSequence, SequenceGap

CASES = {
    "frames come once, in order": ("1 2 3", "1 2 3"),
    "repeats are dropped, single and in runs": ("1 2 2 3 1 2 3 4", "1 2 3 4"),
    "a gap stops the reader": ("1 2 4", "1 2 gap"),
    "the first frame must be 1": ("2", "gap"),
    "parts are joined": ("1 2.1+ 2.2+ 2.3 3", "1 2 3"),
    "parts of two writers interleave": ("1 2.1+ 2.1+ 2.2 2.2 3", "1 2 3"),
    "a part repeated after the next came is dropped": ("1 2.1+ 2.2+ 2.1+ 2.2+ 2.3 3", "1 2 3"),
    "a missing part is a gap": ("1 2.1+ 2.3", "1 gap"),
    "a frame whose parts never end is a gap at the next": ("1 2.1+ 3", "1 gap"),
    "a new log starts at 1": ("1 2 b1 b2 b3", "1 2 b1 b2 b3"),
    "a new log joined in its middle is a gap": ("1 2 b5", "1 2 gap"),
}


def part(text: str) -> FramePart:
    log_id = "b" if text.startswith("b") else "a"
    seq, _, number = text.lstrip("b").rstrip("+").partition(".")
    frame = Frame(
        log_id=log_id, seq=int(seq), offset=int(seq), epoch=0, engine_version=1, at_ns=0, digest=f"{seq}", events=()
    )
    return FramePart(frame=frame, part=int(number or "1"), last=not text.endswith("+"))


def heard(sequence: FrameSequence, text: str) -> str:
    said = []
    for word in text.split():
        try:
            frame = sequence.hear(part(word))
        except SequenceGap:
            said.append("gap")
            break
        if frame is not None:
            said.append(("b" if frame.log_id == "b" else "") + str(frame.seq))
    return " ".join(said)


@pytest.mark.parametrize("case", CASES)
def test_each_frame_is_heard_once_in_order_or_the_reader_stops(case: str) -> None:
    parts, expected = CASES[case]
    assert heard(FrameSequence("test"), parts) == expected


def test_a_reader_goes_on_after_its_stored_position() -> None:
    sequence = FrameSequence("test", FramePosition(log_id="a", seq=3))
    assert heard(sequence, "2 3 4 3 5 7") == "4 5 gap"


def test_a_stored_position_of_another_log_counts_for_nothing() -> None:
    sequence = FrameSequence("test", FramePosition(log_id="old", seq=3))
    assert heard(sequence, "1 2") == "1 2"
