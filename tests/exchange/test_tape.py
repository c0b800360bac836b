"""The tape: what goes in, what comes out, what is refused, and a log that comes back from a tape unchanged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.contracts.frames import COMMANDS
from mybroker.domain.order import Side
from services.b3_matcher.engine.engine import Engine
from services.b3_matcher.match import main, run
from services.b3_matcher.tape import Step, TapeReader, command_to_line
from services.b3_matcher.tape_fields import NotACommand
from tests.exchange.desk import Desk
from tests.exchange.generated_flow import whole_flow
from tests.exchange.test_generated_flows import _whole_desk

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
SESSION = (
    '{"cmd":"session","market":"equities","date":"2026-11-23","rules":{"lot":1,"bands":false},'
    '"instruments":[{"ticker":"PETR4","reference_price":"30.00","group":"index","last_price":null}]}'
)


def _run(*lines: str) -> list[dict]:
    out = io.StringIO()
    run(io.StringIO("\n".join((SESSION, *lines))), out, engine=Engine())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_pages_lines_give_the_pages_answers():
    assert _run(
        '{"cmd":"phase","phase":"pre_open"}',
        "",
        '{"cmd":"new","id":"b1","account":"A","participant":"P1","ticker":"PETR4","side":"buy","type":"limit",'
        '"tif":"day","price":"30.05","quantity":300}',
        '{"cmd":"new","id":"s1","ticker":"PETR4","side":"sell","price":"30.00","quantity":200}',
        '{"cmd":"uncross","ticker":"PETR4"}',
        '{"cmd":"replace","id":"b1","price":"30.06","quantity":250}',
        '{"cmd":"cancel","id":"b1"}',
        '{"cmd":"cancel","id":"b1"}',
    ) == [
        {"event": "phase", "phase": "pre_open", "ticker": None},
        {"event": "accepted", "id": "b1"},
        {"event": "accepted", "id": "s1"},
        {
            "event": "theoretical",
            "ticker": "PETR4",
            "price": "30.00",
            "quantity": 200,
            "imbalance": 100,
            "imbalance_side": "buy",
        },
        {
            "event": "trade",
            "ticker": "PETR4",
            "price": "30.00",
            "quantity": 200,
            "buy": "b1",
            "sell": "s1",
            "aggressor": "auction",
            "trade_id": "equities-0-4-0",
        },
        {"event": "auction", "ticker": "PETR4", "price": "30.00", "quantity": 200},
        {"event": "phase", "phase": "open", "ticker": "PETR4"},
        {"event": "replaced", "id": "b1", "price": "30.06", "quantity": 250, "kept_priority": False},
        {"event": "cancelled", "id": "b1", "quantity": 50, "reason": "user"},
        {"event": "cancel_rejected", "id": "b1", "reason": "too_late"},
    ]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ('{"cmd":"new","id":"x","ticker":"NONE3","side":"buy","price":"30.00","quantity":1}', "unknown_instrument"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":"30.005","quantity":1}', "price_not_on_tick"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":"-1","quantity":1}', "price_not_positive"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","quantity":1}', "price_required"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":"30.00","quantity":0}', "quantity_not_positive"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":"30","quantity":1}', "market_closed"),
    ],
)
def test_what_the_market_refuses_is_an_event(line: str, answer: str):
    assert _run(line) == [{"event": "rejected", "id": "x", "reason": answer}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nonsense", "expected one JSON object"),
        ("[1]", "expected a JSON object"),
        ("{}", '"cmd": expected one of'),
        ('{"cmd":"nix"}', "was 'nix'"),
        ('{"cmd":"new","id":"x"}', '"ticker": expected text, was missing'),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"up","quantity":1}', '"side": expected one of buy, sell'),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":"dear","quantity":1}', "expected decimal text"),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","price":30.0,"quantity":1}', '"price": expected text'),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","quantity":"1"}', '"quantity": expected an integer'),
        ('{"cmd":"new","id":"x","ticker":"PETR4","side":"buy","quantity":1.5}', '"quantity": expected an integer'),
        ('{"cmd":"cancel","id":"x","prize":1}', '"prize": expected no such field here'),
        ('{"cmd":"tick","at":"ten"}', '"at": expected a time such as'),
        ('{"cmd":"tick","at":"2026-11-23T10:00:00"}', '"at": expected a time such as'),
        ('{"cmd":"phase","phase":"night"}', '"phase": expected one of'),
        ('{"cmd":"index","value":"x","previous_close":"1"}', '"value": expected decimal text'),
        ('{"cmd":"take_over","owner":"m"}', "engine_version"),
        ('{"cmd":"take_over","owner":"m","engine_version":1,"x":1}', "expected fields of"),
        (SESSION.replace('"lot":1', '"lots":1'), '"rules": expected fields of'),
        (SESSION.replace("2026-11-23", "23/11/2026"), '"date": expected a date'),
        (SESSION.replace('"group"', '"grupo"'), '"grupo": expected no such field'),
    ],
)
def test_a_line_that_is_no_command_names_its_number_and_what_was_expected(line: str, expected: str):
    with pytest.raises(NotACommand) as error:
        _run("", line)
    assert str(error.value).startswith("line 3: ")
    assert expected in str(error.value)


def test_the_program_exits_2_after_answering_the_lines_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tape = tmp_path / "tape.jsonl"
    tape.write_text(SESSION + '\n{"cmd":"phase","phase":"open"}\n{"cmd":"nix"}\n')
    assert main([str(tape)]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {"event": "phase", "phase": "open", "ticker": None}
    assert "line 3" in said.err
    assert main([str(tmp_path / "not there")]) == 2
    assert main([str(tape), "--out", str(tmp_path / "out")]) == 2
    tape.write_bytes(b"\xff\xfe")
    assert main([str(tape)]) == 2


def test_the_program_reads_standard_input_writes_a_file_and_adds_the_hash(tmp_path: Path):
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "services.b3_matcher.match", "-", "--hash", "--out", str(out)],
        input=SESSION + '\n{"cmd":"phase","phase":"open"}\n',
        text=True,
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert done.stdout == done.stderr == ""
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["event"] == "phase"
    assert (lines[-1]["event"], len(lines[-1]["state_hash"])) == ("hash", 32)


def test_a_tick_passes_the_schedule_and_defaults_are_the_pages():
    said = _run(
        '{"cmd":"tick","at":"2026-11-23T10:00:00-03:00"}',
        '{"cmd":"new","id":"b1","ticker":"PETR4","side":"buy","price":"30.00","quantity":10}',
        '{"cmd":"new","id":"s1","ticker":"PETR4","side":"sell","price":"30.00","quantity":10}',
        '{"cmd":"mass_cancel"}',
        '{"cmd":"bust","trade_id":"equities-0-3-0"}',
    )
    assert [line.get("phase") for line in said if line["event"] == "phase"] == ["pre_open", "open"]
    assert [line["event"] for line in said][-3:] == ["accepted", "trade", "busted"]


def test_a_session_line_may_give_hours_and_a_schedule():
    winter = SESSION[:-1] + ',"hours":"b3-winter"}'
    own = SESSION[:-1] + ',"schedule":[{"at":"2026-11-23T12:00:00-03:00","phase":"open"}]}'
    for line, at, phases in (
        (winter, "17:00:00", ["pre_open", "open", "closing_call", "closed"]),
        (own, "12:00:00", ["open"]),
    ):
        out = io.StringIO()
        run(io.StringIO(f'{line}\n{{"cmd":"tick","at":"2026-11-23T{at}-03:00"}}'), out, engine=Engine())
        said = [json.loads(text) for text in out.getvalue().splitlines()]
        assert [x["phase"] for x in said if x["event"] == "phase"] == phases


def test_fractional_tickers_and_etfs_get_their_lots():
    session = SESSION.replace('"rules":{"lot":1,"bands":false},', "").replace(
        "[{", '[{"ticker":"PETR4F"},{"ticker":"BOVA11","group":"etf"},{"ticker":"HGLG11","lot":1,"group":"other"},{'
    )
    reader = TapeReader()
    step = reader.read(session)
    assert isinstance(step, Step)
    configure = step.commands[1]
    assert isinstance(configure, c.ConfigureSession)
    assert [(x.ticker, x.lot_shares, x.quantity_max_shares) for x in configure.config.instruments] == [
        ("PETR4F", 1, 99),
        ("BOVA11", 1, None),
        ("HGLG11", 1, None),
        ("PETR4", 100, None),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_log_written_as_a_tape_comes_back_with_the_same_events_and_hash(seed: int):
    desk = _whole_desk()
    for command in whole_flow(seed, 800):
        desk.do(command)
    tape = [command_to_line(command, offset) for offset, command in desk.log]
    reader, engine = TapeReader(), Engine()
    for (offset, command), line, frame in zip(desk.log, tape, desk.frames, strict=True):
        step = reader.read(line)
        assert isinstance(step, Step)
        assert step == Step(offset=offset, commands=(command,)), line
        assert engine.apply(offset, step.commands[0]) == frame
    assert engine.state_hash() == desk.engine.state_hash()


def test_every_kind_of_command_survives_the_tape_even_with_facts_no_door_lets_in():
    desk = Desk()
    commands: list[c.Command] = [command for _, command in desk.log]
    commands += [
        c.Tick(epoch=3, at_ns=1_795_438_800_123_456_789),
        c.PlaceOrder(
            participant="P", account="", order_id="x", ticker="", side=Side.BUY, quantity_shares=-5, price_ticks=-3
        ),
        c.ReplaceOrder(participant="P", order_id="x", price_ticks=0, protection_price_ticks=10**12),
        c.HandOver(epoch=1, next_version=2),
        c.Logon(participant="P"),
        c.Disconnect(participant="P", logon_offset=3),
        c.MassCancel(participant="P", mass_id="m", ticker="PETR4", account="A"),
        c.Halt(ticker="PETR4", command_id="h"),
        c.Resume(command_id="r"),
        c.IndexLevel(number=3, value_hundredths=12_900_000, previous_close_hundredths=13_000_000),
        c.Trip(day="2026-11-23", level=1),
        c.BustTrade(trade_id="t"),
        c.Redrive(ticker="PETR4"),
        c.Uncross(ticker="PETR4"),
        c.CancelOrder(participant="P", order_id="x", revision=2, ticker="PETR4", account="A"),
    ]
    commands = [COMMANDS.decode(COMMANDS.encode(command)) for command in commands]
    assert {type(command) for command in commands} == set(c.COMMAND_KINDS.values())
    reader = TapeReader()
    for offset, command in enumerate(commands, start=40):
        assert reader.read(command_to_line(command, offset)) == Step(offset=offset, commands=(command,))


@pytest.mark.parametrize("tape", sorted(GOLDEN.glob("*.tape.jsonl")), ids=lambda path: path.name)
def test_a_golden_tape_gives_the_golden_events(tape: Path):
    """A difference here is a change of behaviour: raise ENGINE_VERSION, then write the golden files again:

    python -m services.b3_matcher.match X.tape.jsonl --hash --all --out X.events.jsonl
    """
    out = io.StringIO()
    with tape.open(encoding="utf-8") as lines:
        run(lines, out, engine=Engine(), with_hash=True, everything=True)
    golden = tape.with_name(tape.name.replace(".tape.", ".events."))
    assert out.getvalue().splitlines() == golden.read_text(encoding="utf-8").splitlines()


def test_there_are_golden_tapes():
    assert len(list(GOLDEN.glob("*.tape.jsonl"))) >= 4


def test_ignored_commands_and_quarantines_are_told():
    said = _run('{"cmd":"uncross","ticker":"PETR4"}', '{"cmd":"halt","ticker":"NONE3"}')
    assert [line["event"] for line in said] == ["ignored", "ignored"]
    assert e.EVENT_KINDS["ignored"] is e.CommandIgnored
