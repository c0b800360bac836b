"""A whole session as a user has it: `mybroker up` as a child process, in a folder of its own that is removed after.

The child writes one JSON object a line; a thread notes when each came. Nothing is left running: the child is asked,
then killed, and everything it started dies with it. Limits: 127.0.0.1 only, one session at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.flow import ROOT
from mybroker.cli.client import Client
from mybroker.local.engines.facade import Engines
from mybroker.local.saved_state import SavedState
from mybroker.local.session_folder import RunnerRecord, SessionFolder

SAMPLE = ROOT / "k8s" / "samples" / "pregao.yaml"
DATE = "2024-11-08"
LONG_HOURS = {"preOpen": "09:58", "open": "10:00", "closingCall": "16:55", "close": "17:00"}
LONG_SPEED = 20
"""Six seconds of pre-open, then twenty minutes of continuous trading."""
TOKEN_HEADER = "X-Internal-Token"
READY_WITHIN_S = 240.0
STOP_WITHIN_S = 90.0
POLL_S = 0.02
GATEWAY_PORT = 18_480
CLIENT = "bench client"
RUNNER = "runner"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line of the child and when it came (monotonic clock)."""

    event: str
    facts: dict[str, Any]
    heard_ns: int


def write_manifest(folder: Path, *, long_day: bool) -> Path:
    """Write the sample session with simulated quotes; `long_day` is twenty minutes of continuous trading."""
    manifest: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    spec = manifest["spec"]
    manifest["metadata"]["name"] = "bench"
    spec["ingestors"]["source"] = "Simulated"
    spec["ingestors"].pop("fallback", None)
    if long_day:
        spec["date"] = DATE
        spec["hours"] = dict(LONG_HOURS)
        spec["clock"]["speed"] = LONG_SPEED
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
    return path


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Give a folder for sessions and remove it, engines' data outside of it included."""
    home = Path(tempfile.mkdtemp(prefix="mybroker-bench-"))
    home.chmod(0o755)  # PostgreSQL runs as an ordinary user and must reach its folder
    try:
        yield home
    finally:
        for folder in home.glob("*/engines"):
            Engines(folder, {}).remove_data()
        shutil.rmtree(home, ignore_errors=True)


def own_environ(home: Path, **more: str) -> dict[str, str]:
    """Return our environment without what would lead the session to others' engines or settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MYBROKER_")}
    return kept | {"MYBROKER_HOME": str(home), "PYTHONPATH": str(ROOT)} | more


class UpSession:
    """`mybroker up` of one manifest. Use `started` to have it end in any case."""

    def __init__(self, home: Path, manifest: Path, command: list[str], cwd: Path, environ: Mapping[str, str]) -> None:
        self.folder = SessionFolder(home, "local.bench")
        self.log = home / "up.log"
        self.news: list[News] = []
        self.started_ns = time.monotonic_ns()
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, str(manifest), "--json", "--port", str(GATEWAY_PORT)],
                cwd=cwd,
                env=dict(environ),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a ctrl-C in our terminal is passed on by us, once
            )
        self._reader = threading.Thread(target=self._read, name="news", daemon=True)
        self._reader.start()

    def wait_for(
        self, event: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True, *, within_s: float = READY_WITHIN_S
    ) -> News:
        """Wait for the first such news; raises RuntimeError where the session ends or is too slow."""
        give_up_s = time.monotonic() + within_s
        while True:
            for news in list(self.news):
                if news.event == event and fits(news.facts):
                    return news
            if self.process.poll() is not None:
                raise RuntimeError(f"the session ended with {self.process.returncode} before {event}: {self.tail()}")
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"no {event} within {within_s:g} s: {self.tail()}")
            time.sleep(POLL_S)

    def wait_phase(self, phase: str) -> News:
        """Wait until the session is in a phase."""
        return self.wait_for("phase_changed", lambda facts: facts["phase"] == phase)

    def record(self) -> RunnerRecord:
        """Return where everything listens."""
        record = self.folder.record()
        assert record is not None, "a session that runs has a record"
        return record

    def control(self) -> Client:
        """Return a client of the runner's own door."""
        return Client(self.record().control_url, headers=self.internal_headers())

    def internal_headers(self) -> dict[str, str]:
        """Return the header with which our own tools call our own services."""
        return {TOKEN_HEADER: self.folder.internal_token()}

    def url_of(self, workload: str) -> str:
        """Return where a service process listens."""
        return f"http://127.0.0.1:{SavedState(self.folder.state).ports[workload]}"

    def programs(self) -> dict[int, str]:
        """Return the process ids that have a name: services, engines and the runner."""
        status = self.control().get("/status", dict[str, Any])
        named = {facts["pid"]: name for name, facts in status["processes"].items() if facts["running"]}
        named |= {facts["pid"]: name for name, facts in status["engines"].items() if facts["pid"] is not None}
        return named | {self.process.pid: RUNNER}

    def tail(self) -> str:
        """Return the last that was said."""
        told = [f"{news.event} {news.facts}" for news in self.news[-3:]]
        return "\n".join([*told, *self.log.read_text(errors="replace").splitlines()[-5:]])

    def stop(self) -> None:
        """Ask the session to end, and kill it where it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self.process.stdout is not None, "its output is a pipe"
        for line in self.process.stdout:
            heard_ns = time.monotonic_ns()
            try:
                facts = json.loads(line)
            except ValueError:
                facts = {"event": "text", "text": line.decode(errors="replace")}
            if facts["event"] != "progress":
                self.news.append(News(event=facts["event"], facts=facts, heard_ns=heard_ns))


@contextmanager
def started(home: Path, manifest: Path, **env: str) -> Iterator[UpSession]:
    """Start a session with this clone's own `mybroker`; it has ended when the block is left."""
    command = [str(Path(sys.executable).with_name("mybroker")), "up"]
    session = UpSession(home, manifest, command, ROOT, own_environ(home, **env))
    try:
        yield session
    finally:
        session.stop()


def named_processes(root_pid: int, named: Mapping[int, str]) -> Iterator[tuple[str, psutil.Process]]:
    """Yield every process of a session with the name of the nearest named one above it."""
    try:
        root = psutil.Process(root_pid)
        everyone = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    parents: dict[int, int] = {}
    for process in everyone:
        try:
            parents[process.pid] = process.ppid()
        except psutil.NoSuchProcess:
            continue
    for process in everyone:
        pid = process.pid
        while pid not in named and pid in parents and pid != root_pid:
            pid = parents[pid]
        yield named.get(pid, RUNNER), process


def cpu_ms_by_program(session: UpSession, named: Mapping[int, str]) -> dict[str, int]:
    """Return the CPU time of each program of a session and of this client, in milliseconds."""
    used: dict[str, int] = {}
    for name, process in [*named_processes(session.process.pid, named), (CLIENT, psutil.Process())]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] = used.get(name, 0) + round((times.user + times.system) * 1_000)
    return used
