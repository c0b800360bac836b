"""`mybroker down`: stop a session that runs, or clear away what a killed one left; `--delete` removes its folder.

The runner is asked by SIGTERM and recognised by its start time, so that nobody else who got its number is hit.
"""

from __future__ import annotations

import os
import shutil
import signal
import time

import click

from mybroker.cli.failure import BAD_INPUT, Failure
from mybroker.cli.screen import Screen, make_screen
from mybroker.cli.sessions import full_key, is_alive, json_option, known_sessions, session_option
from mybroker.local.session_folder import RunnerRecord, SessionFolder, home

STOP_WITHIN_S = 60.0
POLL_S = 0.05
TELL_EVERY_S = 5.0
LEFTOVERS_LEAVE_WITHIN_MS = 3_000


@click.command()
@session_option
@click.option("--delete", is_flag=True, help="Also remove the session's folder: logs, orders, balances, all of it.")
@click.option("--yes", is_flag=True, help="Do not ask before removing.")
@json_option
def down(session: str | None, delete: bool, yes: bool, as_json: bool) -> int:
    """Stop a session: the one named, or all that run here; clear away what a killed one left."""
    screen = make_screen(as_json=as_json)
    if session is not None:
        folder = SessionFolder(home(), full_key(session))
        if not folder.path.is_dir():
            raise Failure(f"there is no session {folder.session_key} in {home()}")
        folders = [folder]
    else:
        folders = known_sessions()
        if delete and len(folders) > 1:
            names = ", ".join(folder.session_key for folder in folders)
            raise Failure(f"--delete: expected --session with one of {names}", code=BAD_INPUT)
    if not folders:
        screen.say("nothing_there", {"home": str(home())}, f"no session in {home()}")
    if delete and folders and not yes:
        click.confirm(f"Remove {folders[0].path} with all its logs, orders and balances?", abort=True, err=True)
    for folder in folders:
        _stop(folder, screen)
        if delete:
            _delete(folder, screen)
    return 0


def end_leftovers(folder: SessionFolder) -> int:
    """End what a killed runner left, services first; the folder must be held or its runner gone. Returns how many."""
    from mybroker.local.engines.children import Nursery
    from mybroker.local.engines.facade import Engines

    count = Nursery("services", folder.processes).end_leftovers(LEFTOVERS_LEAVE_WITHIN_MS)
    return count + Engines(folder.engines, os.environ).end_leftovers()


def remove_contents(folder: SessionFolder) -> None:
    """Remove everything of a session but its lock, which the caller holds."""
    from mybroker.local.engines.facade import Engines

    Engines(folder.engines, os.environ).remove_data()
    for path in folder.path.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _stop(folder: SessionFolder, screen: Screen) -> None:
    record = folder.record()
    key = folder.session_key
    ran = record is not None and is_alive(record)
    if ran and record is not None:
        _stop_runner(folder, record, screen)
    from mybroker.local.session_folder import Busy

    try:
        with folder.hold():
            count = end_leftovers(folder)
    except Busy as busy:
        raise Failure(f"{busy}, and it is only starting or stopping: try again in a moment") from None
    if count:
        screen.say("leftovers_ended", {"session": key, "count": count}, f"{key}: ended {count} processes left over")
    elif not ran:
        screen.say("not_running", {"session": key}, f"{key} does not run; nothing was left over")


def _stop_runner(folder: SessionFolder, record: RunnerRecord, screen: Screen) -> None:
    key = folder.session_key
    screen.say("stopping", {"session": key, "pid": record.pid}, f"{key}: asked process {record.pid} to stop")
    os.kill(record.pid, signal.SIGTERM)
    started_s = time.monotonic()
    told_s = started_s
    while is_alive(record):
        now_s = time.monotonic()
        if now_s - started_s > STOP_WITHIN_S:
            log = folder.logs
            raise Failure(f"{key}: process {record.pid} did not stop within {STOP_WITHIN_S:g} s; logs are in {log}")
        if now_s - told_s > TELL_EVERY_S:
            told_s = now_s
            screen.progress(key, f"stopping for {now_s - started_s:.0f} s", 0, 0)
        time.sleep(POLL_S)
    took_s = round(time.monotonic() - started_s, 1)
    screen.settle()
    screen.say("stopped", {"session": key, "took_s": took_s}, f"{key}: stopped in {took_s} s")


def _delete(folder: SessionFolder, screen: Screen) -> None:
    with folder.hold():
        remove_contents(folder)
        shutil.rmtree(folder.path)
    screen.say("deleted", {"folder": str(folder.path)}, f"{folder.path} is removed")
