"""A session's folder on this machine: everything of one session, and nothing of another.

    <home>/<namespace>.<session>/
        engines/     the engines' data, ports and passwords
        secrets/     the internal token and identity's signing keys (0600)
        config/      the files the plan wrote for processes
        logs/        one file a process
        snapshots/   the matchers'
        runner.json  who runs it now and where it listens; gone when nobody does

<home> is $MYBROKER_HOME, else `.mybroker` in the working directory. `hold` takes the folder for one runner: a lock
that the kernel lets go with the process, so a killed runner never leaves it taken.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

INTERNAL_TOKEN = "internal_token"


class Busy(Exception):
    """Another runner has the folder."""


class RunnerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs a session and where: what `mybroker` commands read."""

    pid: int
    started_ticks: int
    session_key: str
    manifest: str
    control_url: str = ""
    gateway_url: str = ""
    engines: dict[str, str] = {}
    engines_auditor: dict[str, str] = {}


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where this user's sessions live."""
    return Path(environ.get("MYBROKER_HOME") or ".mybroker").absolute()


class SessionFolder:
    """Paths and records of one session."""

    def __init__(self, base: Path, session_key: str) -> None:
        """Name the folder of a session below `base`; nothing is made yet."""
        self.session_key = session_key
        self.path = base / session_key
        self.engines = self.path / "engines"
        self.secrets = self.path / "secrets"
        self.config = self.path / "config"
        self.logs = self.path / "logs"
        self.processes = self.path / "processes.json"
        self.state = self.path / "state.json"
        self._record = self.path / "runner.json"

    def make(self) -> None:
        """Make the folder and what must be in it; safe to repeat."""
        for folder in (self.path, self.engines, self.config, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        token = self.secrets / INTERNAL_TOKEN
        if not token.exists():
            fresh = token.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(32))
            fresh.replace(token)

    def internal_token(self) -> str:
        """Return the token with which our own tools call our own services."""
        return (self.secrets / INTERNAL_TOKEN).read_text().strip()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder while inside; raises Busy with who has it."""
        self.make()
        with (self.path / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                record = self.record()
                who = f"process {record.pid}, {record.gateway_url or 'starting'}" if record else "another process"
                raise Busy(f"session {self.session_key} runs already: {who}") from None
            self._record.unlink(missing_ok=True)  # a killed runner's
            try:
                yield
            finally:
                self._record.unlink(missing_ok=True)

    def write_record(self, record: RunnerRecord) -> None:
        """Say who runs the session."""
        fresh = self._record.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(self._record)

    def record(self) -> RunnerRecord | None:
        """Return who runs the session, or None; the process may have died since."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=RunnerRecord)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
