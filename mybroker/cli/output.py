"""How short commands answer: one JSON object, or tables and lines on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_WIDTH = 160


def answer_json(value: object) -> None:
    """Write one JSON value on one line."""
    click.echo(msgspec.json.encode(value, enc_hook=str).decode())


def console() -> Console:
    """Return where tables are printed; a pipe gets wide lines without colours."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(*things: RenderableType) -> None:
    """Print tables and texts, one after another."""
    screen = console()
    for thing in things:
        screen.print(thing)
