"""`mybroker status`: what the runner knows of its session, once or live."""

from __future__ import annotations

import time
from typing import Any

import click

from mybroker.cli.client import Client
from mybroker.cli.output import answer_json, console, show
from mybroker.cli.sessions import RunningSession, chosen_session, json_option, session_option

LOOK_EVERY_S = 1.0
ANSWER_WITHIN_S = 15.0
TOKEN_HEADER = "X-Internal-Token"


def control_of(session: RunningSession) -> Client:
    """Return a client of the runner's own door."""
    headers = {TOKEN_HEADER: session.folder.internal_token()}
    return Client(session.record.control_url, headers=headers, timeout_s=ANSWER_WITHIN_S)


@click.command()
@session_option
@click.option("-w", "--watch", is_flag=True, help="Stay and show every change, until ctrl-C.")
@json_option
def status(session: str | None, watch: bool, as_json: bool) -> int:
    """Show processes, phases, sequence numbers, lag and engines."""
    control = control_of(chosen_session(session))
    if watch and not as_json:
        _watch(control)
        return 0
    while True:
        answer = control.get("/status", dict[str, Any])
        if as_json:
            answer_json(answer)
        else:
            from mybroker.cli.tables import status_tables

            show(*_spaced(status_tables(answer, time.time_ns())))
        if not watch:
            return 0
        time.sleep(LOOK_EVERY_S)


def _watch(control: Client) -> None:
    from rich.console import Group
    from rich.live import Live

    from mybroker.cli.tables import status_tables

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            answer = control.get("/status", dict[str, Any])
            live.update(Group(*_spaced(status_tables(answer, time.time_ns()))), refresh=True)
            time.sleep(LOOK_EVERY_S)


def _spaced(things: list[Any]) -> list[Any]:
    spaced: list[Any] = []
    for number, thing in enumerate(things):
        spaced += ["", thing] if number > 1 else [thing]
    return spaced
