"""Which sessions run on this machine, and which of them a command means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mybroker.cli.failure import BAD_INPUT, Failure
from mybroker.contracts.manifest import NAMESPACE_DEFAULT
from mybroker.local.engines.children import Identity
from mybroker.local.session_folder import RunnerRecord, SessionFolder, home

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSession:
    """A session whose runner lives."""

    folder: SessionFolder
    record: RunnerRecord

    @property
    def key(self) -> str:
        """Return `<namespace>.<session>`."""
        return self.record.session_key

    @property
    def name(self) -> str:
        """Return the session's own name."""
        return self.key.partition(".")[2]


def session_option(function: AnyFunction) -> AnyFunction:
    """Give a command `--session KEY`."""
    return click.option("--session", metavar="KEY", help="Which session, where several run (pregao, local.pregao).")(
        function
    )


def json_option(function: AnyFunction) -> AnyFunction:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")(function)


def is_alive(record: RunnerRecord) -> bool:
    """Say whether the process that wrote the record is the one that has its number now."""
    identity = Identity.of(record.pid)
    return identity is not None and identity.started_ticks == record.started_ticks


def full_key(session: str) -> str:
    """Return a session's key; a bare name means the local namespace."""
    if not session or "/" in session or session.startswith("."):
        raise Failure(f"--session: expected a name as pregao or local.pregao, was {session!r}", code=BAD_INPUT)
    return session if "." in session else f"{NAMESPACE_DEFAULT}.{session}"


def known_sessions(base: Path | None = None) -> list[SessionFolder]:
    """Return every session that has a folder here, running or not."""
    base = base or home()
    if not base.is_dir():
        return []
    return [SessionFolder(base, path.name) for path in sorted(base.iterdir()) if (path / "engines").is_dir()]


def running_sessions(base: Path | None = None) -> list[RunningSession]:
    """Return the sessions that run now."""
    found = []
    for folder in known_sessions(base):
        record = folder.record()
        if record is not None and is_alive(record):
            found.append(RunningSession(folder=folder, record=record))
    return found


def chosen_session(session: str | None, base: Path | None = None) -> RunningSession:
    """Return the session that is meant: the one named, or the only one that runs."""
    running = running_sessions(base)
    if session is not None:
        key = full_key(session)
        for one in running:
            if one.key == key:
                return one
        others = f"; running: {', '.join(one.key for one in running)}" if running else ""
        raise Failure(f"session {key} does not run in {base or home()}{others}")
    if not running:
        raise Failure(f"no session runs in {base or home()}: start one with `mybroker up`")
    if len(running) > 1:
        raise Failure(f"several sessions run: name one with --session ({', '.join(one.key for one in running)})")
    return running[0]
