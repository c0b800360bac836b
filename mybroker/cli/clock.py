"""`mybroker clock`: hold, step or speed up a simulated day, through the runner's door."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mybroker.cli.failure import Failure
from mybroker.cli.output import answer_json
from mybroker.cli.sessions import RunningSession, chosen_session, json_option, session_option
from mybroker.cli.status import control_of
from mybroker.contracts.market_session import CLOCK_SPEED_MAX, MarketSession

STEP_SECONDS_MAX = 24 * 3_600


@click.group()
def clock() -> None:
    """Pause, resume, step or speed up a simulated day."""


@clock.command()
@session_option
@json_option
def pause(session: str | None, as_json: bool) -> int:
    """Stop the session's time; orders wait, nothing trades by the clock."""
    return _move(chosen_session(session), {"speed": 0}, "the clock is paused", as_json=as_json)


@clock.command()
@session_option
@json_option
def resume(session: str | None, as_json: bool) -> int:
    """Let time run again, at the manifest's speed."""
    chosen = chosen_session(session)
    speed = _manifest_speed(chosen)
    return _move(chosen, {"speed": speed}, f"the clock runs at speed {speed}", as_json=as_json)


@clock.command()
@click.argument("seconds", type=click.IntRange(1, STEP_SECONDS_MAX))
@session_option
@json_option
def step(seconds: int, session: str | None, as_json: bool) -> int:
    """Move the session's time forward by SECONDS at once."""
    text = f"the clock went {seconds} s forward"
    return _move(chosen_session(session), {"step_seconds": seconds}, text, as_json=as_json)


@clock.command()
@click.argument("factor", type=click.IntRange(1, CLOCK_SPEED_MAX))
@session_option
@json_option
def speed(factor: int, session: str | None, as_json: bool) -> int:
    """Run the session's time FACTOR times as fast as yours."""
    return _move(chosen_session(session), {"speed": factor}, f"the clock runs at speed {factor}", as_json=as_json)


def _move(session: RunningSession, body: dict[str, int], text: str, *, as_json: bool) -> int:
    control_of(session).post("/clock", dict[str, Any], body)
    if as_json:
        answer_json({"session": session.key, **body})
    else:
        click.echo(f"{session.key}: {text}")
    return 0


def _manifest_speed(session: RunningSession) -> int:
    from mybroker.contracts.manifest_yaml import load_manifest

    read = load_manifest(Path(session.record.manifest), now_ns=time.time_ns())
    if not isinstance(read, MarketSession):
        raise Failure(f"{session.record.manifest} cannot be read now; use `mybroker clock speed N`")
    return read.spec.clock.speed
