"""How a command fails: one sentence for the person, one exit code for the script.

0 is done, 1 is refused or failed, 2 is wrong input. A traceback is for bugs only.
"""

from __future__ import annotations

import json

import click

REFUSED = 1
BAD_INPUT = 2


class Failure(click.ClickException):
    """A command cannot do what it was asked. `facts` go into the JSON form beside the sentence."""

    def __init__(self, message: str, *, code: int = REFUSED, **facts: object) -> None:
        """Say what was expected and what was found, and what to do about it."""
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click's class variable is a default, as its own errors use it
        self.facts = facts


def report(error: click.ClickException, *, as_json: bool) -> int:
    """Write an error to standard error; return the exit code."""
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f" (see {error.ctx.command_path} --help)"
    if as_json:
        facts = error.facts if isinstance(error, Failure) else {}
        click.echo(json.dumps({"error": message, "exit_code": error.exit_code, **facts}, default=str), err=True)
    else:
        click.echo(f"mybroker: {message}", err=True)
    return error.exit_code
