"""Wrong input ends with one line and a code of its own, never with a traceback; help costs no slow import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mybroker.cli.failure import Failure
from mybroker.cli.main import SECTIONS, cli, run
from mybroker.cli.orders import new_order
from mybroker.domain.order import OrderType, Side

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MYBROKER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["up", "--nonsense"], 2, "see mybroker up --help"),
        (["up", "/nowhere/file.yaml"], 2, "expected a readable file"),
        (["up", "--port", "70000"], 2, "--port"),
        (["buy", "PETR4", "100"], 2, "expected either a PRICE or --market"),
        (["buy", "PETR4", "100", "30.00", "--market"], 2, "expected either a PRICE or --market"),
        (["buy", "PETR4", "0", "30.00"], 2, "QUANTITY"),
        (["sell", "PETR4", "100", "30,05"], 2, "was '30,05'"),
        (["sell", "PETR4", "100", "30.055"], 2, "finer than the tick"),
        (["buy", "PETR4", "100", "30.00", "--tif", "forever"], 2, "forever"),
        (["buy", "PETR4", "100", "30.00", "--client-order-id", "x" * 49], 2, "at most 48 characters"),
        (["replace", "some-id"], 2, "expected --quantity, --price or both"),
        (["halt"], 2, "expected either a TICKER or --market"),
        (["clock", "speed", "0"], 2, "FACTOR"),
        (["clock", "step", "-1"], 2, "-1"),
        (["match"], 2, "expected a TAPE"),
        (["status", "--session", "../x"], 2, "expected a name"),
        (["status"], 1, "start one with `mybroker up`"),
        (["status", "--session", "pregao"], 1, "session local.pregao does not run"),
        (["book", "PETR4", "--once"], 1, "no session runs"),
        (["wallet"], 1, "no session runs"),
        (["down", "--session", "pregao"], 1, "there is no session local.pregao"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, code, said, capfd):
    assert run(arguments) == code

    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith("mybroker: ")
    assert said in told.err
    assert "Traceback" not in told.err


def test_with_json_a_mistake_is_an_object_that_names_its_exit_code(capfd):
    code = run(["sell", "PETR4", "100", "30.055", "--json"])

    told = json.loads(capfd.readouterr().err)
    assert (code, told["exit_code"], told["reason"]) == (2, 2, "price_not_on_tick")


def test_every_mistake_of_a_manifest_is_told_with_its_path(tmp_path, capfd):
    manifest = tmp_path / "wrong.yaml"
    manifest.write_text(
        "apiVersion: markets.mybroker.dev/v1alpha1\nkind: MarketSession\nmetadata: {name: Wrong}\n"
        "spec:\n  clock: {mode: Simulated, speed: 0}\n  markets:\n  - {name: equities, instruments: [petr4]}\n"
    )

    assert run(["up", str(manifest), "--json"]) == 2

    told = json.loads(capfd.readouterr().err)
    paths = [mistake["path"] for mistake in told["mistakes"]]
    assert paths == ["metadata.name", "spec.clock.speed", "spec.markets[0].instruments[0]"]


def test_nothing_to_stop_is_no_mistake(capfd):
    assert run(["down"]) == 0
    assert "no session" in capfd.readouterr().out


def test_every_listed_command_takes_json_and_has_help():
    context = click.Context(cli)
    listed = cli.list_commands(context)
    assert [entry.name for _, entries in SECTIONS for entry in entries if entry.name in listed] == listed
    for name in listed:
        command = cli.get_command(context, name)
        assert command is not None, name
        assert command.help, name
        leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            flags = [flag for parameter in leaf.params for flag in parameter.opts]
            assert "--json" in flags, f"{name} {leaf.name}"


def test_help_imports_nothing_slow():
    program = (
        "import sys\nfrom mybroker.cli.main import run\nrun(['--help'])\n"
        "slow = {'rich', 'msgspec', 'uvicorn', 'aiohttp', 'confluent_kafka', 'yaml', 'websockets', 'asyncio'}\n"
        "sys.exit(','.join(sorted(slow & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "status" in done.stdout


def test_an_order_gets_an_id_of_its_own_and_a_market_order_no_price():
    first = new_order(Side.BUY, "petr4", 100, None, market=True, tif="ioc", client_order_id=None)
    second = new_order(Side.BUY, "petr4", 100, None, market=True, tif="ioc", client_order_id=None)

    assert (first.ticker, first.type, first.price) == ("PETR4", OrderType.MARKET, None)
    assert first.client_order_id != second.client_order_id


def test_a_given_client_order_id_is_kept():
    order = new_order(Side.SELL, "PETR4", 100, "30.05", market=False, tif="day", client_order_id="mine")
    assert (order.client_order_id, order.price, order.type) == ("mine", "30.05", OrderType.LIMIT)


def test_a_price_that_is_none_is_refused_before_anything_is_sent():
    with pytest.raises(Failure) as refused:
        new_order(Side.SELL, "PETR4", 100, "free", market=False, tif="day", client_order_id=None)
    assert refused.value.exit_code == 2
