"""What the programs make of what they heard: frames, kills, flows, tasks, arguments."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.__main__ import PROGRAMS, main
from bench.engine import open_engine, play
from bench.flow import seeded_flow
from bench.ingest import due_tasks, setup
from bench.log_reader import Heard
from bench.matcher import frame_latencies
from bench.naive_book import NaiveBook
from bench.recovery import next_frame_and_trade
from mybroker.contracts.commands import CancelOrder, PlaceOrder, ReplaceOrder
from mybroker.contracts.events import Event, OwnerChanged, TradeExecuted
from mybroker.contracts.frames import Frame, encode_events, encode_frame
from mybroker.testing.recorded_flow import TICKER


def heard(seq: int, at_ns: int, *, offset: int = 0, events: tuple[Event, ...] = ()) -> Heard:
    frame = Frame(
        log_id="log", seq=seq, offset=offset, epoch=0, engine_version=1, at_ns=0, digest="0" * 32, events=events
    )
    (value,) = encode_frame(frame, encode_events(events))
    return Heard(value, at_ns)


def a_trade() -> TradeExecuted:
    """A trade as the engine itself makes one."""
    engine = open_engine()
    for offset, command in enumerate(seeded_flow(1, 500), start=3):
        for event in engine.apply(offset, command):
            if isinstance(event, TradeExecuted):
                return event
    raise AssertionError("500 orders around one price trade")


def test_a_frame_counts_once_from_when_its_command_was_due():
    records = [heard(1, 150, offset=10), heard(2, 170, offset=11), heard(2, 190, offset=11), heard(3, 200, offset=99)]

    assert frame_latencies(records, {10: 100, 11: 110, 12: 120}) == {10: 50, 11: 60}


def test_after_a_kill_only_new_numbers_count_and_a_trade_must_be_one():
    trade = a_trade()
    quiet = OwnerChanged(owner="next", epoch=9, engine_version=1)
    records = [
        heard(7, 10, events=(trade,)),
        heard(8, 20, events=(quiet,)),
        heard(7, 30, events=(trade,)),
        heard(9, 40, events=(quiet, trade)),
    ]

    assert next_frame_and_trade(records, 7) == (20, 40)
    assert next_frame_and_trade(records[:3], 7) == (20, None)
    assert next_frame_and_trade(records, 9) == (None, None)


def test_the_seeded_flow_is_the_same_every_time_and_asks_only_for_what_is_live():
    commands = seeded_flow(11, 3_000)
    kinds = Counter(type(command) for command in commands)
    engine, naive = open_engine(), NaiveBook()
    play(engine, commands)
    naive.play(commands)

    assert commands == seeded_flow(11, 3_000)
    assert commands != seeded_flow(12, 3_000)
    assert all(kinds[kind] > 200 for kind in (PlaceOrder, CancelOrder, ReplaceOrder)), kinds
    assert engine.book(TICKER).trades == naive.trades > 300


def test_ingest_has_a_task_for_every_ticker_and_slot_and_none_is_late():
    session = setup()
    tasks = due_tasks(session.symbols, 5, now_ns=1_000)

    assert len({(task.ticker, task.slot) for task in tasks}) == len(tasks) == 5 * len(session.symbols)
    assert len(session.symbols) >= 30
    assert all(task.due_wall_ns <= 1_000 < task.expires_wall_ns for task in tasks)
    assert {task.session_key for task in tasks} == {session.key}


def test_a_name_that_is_no_program_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["orders", "sing"])

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "was sing" in told
    assert all(name in told for name in PROGRAMS)
