"""The `mybroker` command: names and one line each here, everything else in the module of a command.

A command's module is imported when it is called, so that `mybroker --help` and completion stay quick. A module
`mybroker/cli/<module>.py` holds a click command under the command's own name; a command whose module is not there is
not listed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click

from mybroker.cli.failure import report

INTERRUPTED = 130
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its name, the module that has it, one line."""

    name: str
    module: str
    does: str


SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "A session",
        (
            Entry("up", "up", "start a session and stay until ctrl-C; started again, it goes on with the same day"),
            Entry("down", "down", "stop a session"),
            Entry("status", "status", "processes, phases, sequence numbers, lag and engines, live"),
            Entry("clock", "clock", "pause, resume, step or speed up a simulated day"),
            Entry("halt", "supervise", "halt an instrument or a market, as the supervisor"),
            Entry("resume", "supervise", "resume a halted instrument or market"),
            Entry("doctor", "doctor", "what this machine has and what is missing"),
        ),
    ),
    (
        "The market",
        (
            Entry("book", "market", "the book of one instrument, live"),
            Entry("tape", "market", "the trades of one instrument, live"),
            Entry("quotes", "market", "what things cost"),
        ),
    ),
    (
        "Your account",
        (
            Entry("buy", "orders", "send an order to buy"),
            Entry("sell", "orders", "send an order to sell"),
            Entry("cancel", "orders", "cancel an order"),
            Entry("replace", "orders", "change quantity or price of an order"),
            Entry("orders", "orders", "your orders, or one of them with its trades"),
            Entry("wallet", "account", "your cash and shares, held and available"),
            Entry("events", "account", "what happened to your orders and your wallet, numbered without a gap"),
            Entry("login", "account", "become another user"),
            Entry("register", "account", "open an account"),
        ),
    ),
    (
        "Proof",
        (
            Entry("match", "tapes", "run the matching engine alone over a tape of commands"),
            Entry("export", "tapes", "write a market's command log as such a tape"),
            Entry("day", "day", "one whole simulated day without a screen, then the audit"),
            Entry("prove", "prove", "audit a running or finished market from outside"),
        ),
    ),
)


class Commands(click.Group):
    """The commands of SECTIONS, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands that are there."""
        return [entry.name for _, entries in _present() for entry in entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        for _, entries in _present():
            for entry in entries:
                if entry.name == cmd_name:
                    command = getattr(import_module(f"mybroker.cli.{entry.module}"), cmd_name)
                    assert isinstance(command, click.Command), f"{entry.module}.{cmd_name} is no command"
                    return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section without importing one."""
        for title, entries in _present():
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.does) for entry in entries])


def _present() -> Iterator[tuple[str, list[Entry]]]:
    for title, entries in SECTIONS:
        there = [entry for entry in entries if (_FOLDER / f"{entry.module}.py").exists()]
        if there:
            yield title, there


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Every command takes --json. Exit codes: 0 done, 1 refused or failed, 2 wrong input.",
)
def cli() -> None:
    """A stock market on your machine: brokerage, B3 exchange and market data."""


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        result = cli.main(args=arguments, prog_name="mybroker", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return report(error, as_json="--json" in arguments)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run from the command line."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read us has gone (`mybroker tape PETR4 | head`); nothing is wrong, and nobody is there to be told.
        sys.stderr.close()
        code = 0
    sys.exit(code)
