"""A session in a child process, driven over its control door: start, look, kill, trade, prove, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from mybroker.cli.prove import place_from
from mybroker.contracts.client_journal import read_journal
from mybroker.local.control import TOKEN_HEADER
from mybroker.local.engines.facade import Engines
from mybroker.local.session_folder import RunnerRecord, SessionFolder
from mybroker.prove.audit import Audit, Place, audit
from mybroker.prove.report import lines
from mybroker.testing.day_manifest import DayManifest, lots_of
from mybroker.testing.load import Load, LoadOptions

ROOT = Path(__file__).parents[2]
OPENING_CASH_CENTS = 5_000_000_00
READY_WITHIN_S = 240
DAY_WITHIN_S = 420
STOP_WITHIN_S = 90
POLL_S = 0.1
GATEWAY_PORT = 28_080


class DaySession:
    """One running session. Make it with `running_day`."""

    def __init__(self, base: Path, key: str, manifest: DayManifest, child: subprocess.Popen[bytes]) -> None:
        self.base = base
        self.manifest = manifest
        self.journal = base / "clients.jsonl"
        self._child = child
        self._speed = 1
        self.folder = SessionFolder(base, key)

    @property
    def record(self) -> RunnerRecord | None:
        """Return where everything listens, once it is known."""
        return self.folder.record()

    async def until(self, what: str, there: Callable[[], Any], within_s: float = DAY_WITHIN_S) -> Any:
        """Wait until `there` answers something true, and return it; says `what` was waited for in vain."""
        give_up_at = time.monotonic() + within_s
        while True:
            assert self._child.poll() is None, f"the runner ended with {self._child.returncode}:\n{self.news()}"
            found = await asyncio.to_thread(there)
            if found:
                return found
            assert time.monotonic() < give_up_at, f"expected {what} within {within_s:g} s:\n{self.news()}"
            await asyncio.sleep(POLL_S)

    async def until_phase(self, *phases: str, within_s: float = DAY_WITHIN_S) -> None:
        """Wait until the session is in one of these phases."""
        await self.until(f"phase {' or '.join(phases)}", lambda: self.status().get("phase") in phases, within_s)

    async def until_ready(self) -> None:
        """Wait until the day has begun and every process answers; the clock stands from the pre-open on.

        `clients` lets it go on: how long this machine takes to start everything is not what is tested.
        """
        await self.until_phase("PreOpen", "Open", within_s=READY_WITHIN_S)
        self._speed = self.status()["clock"]["speed"] or self._speed
        self.move_clock(0)

        def ready() -> bool:
            return all(process["ready"] for process in self.status().get("processes", {"": {"ready": False}}).values())

        await self.until("every process to be ready", ready, READY_WITHIN_S)

    def status(self) -> dict[str, Any]:
        """Ask the control door; an empty answer while it is not there."""
        record = self.record
        if record is None or not record.control_url:
            return {}
        try:
            return self._ask(f"{record.control_url}/status", "GET")
        except OSError:
            return {}

    def kill(self, process: str) -> bool:
        """SIGKILL a process of the session; False where it is not running just now."""
        try:
            self._command(f"/processes/{process}/kill")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def kill_engine(self, name: str) -> None:
        """SIGKILL an engine."""
        self._command(f"/engines/{name}/kill")

    def move_clock(self, speed: int) -> None:
        """Set the session clock's speed; 0 pauses it."""
        record = self.record
        assert record is not None, "a session that runs has a record"
        self._ask(f"{record.control_url}/clock", "POST", {"speed": speed})

    def trades(self) -> int:
        """Return how many trades the public feed has seen today; -1 while it does not answer."""
        record = self.record
        assert record is not None, "a session that runs has a record"
        url = f"{record.gateway_url}/api/v1/state?session={self.folder.session_key}"
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return sum(ticker["trades"] for ticker in json.loads(answer.read())["tickers"])
        except (OSError, ValueError):
            return -1

    @contextlib.asynccontextmanager
    async def clients(self, *, seed: int, clients: int = 5, orders_per_second: float = 15.0) -> AsyncIterator[Load]:
        """Have clients trade while inside; afterwards they have heard their last events."""
        record = self.record
        assert record is not None and record.gateway_url, "clients come once the gateway is there"
        tickers = tuple(dict.fromkeys(self._tickers()))
        assert tickers, "a market that is open has instruments"
        load = Load(
            LoadOptions(
                base_url=record.gateway_url,
                session=self.folder.session_key,
                tickers=tickers,
                lots=lots_of(tickers),
                journal=self.journal,
                seed=seed,
                clients=clients,
                orders_per_second=orders_per_second,
            )
        )
        trading = asyncio.create_task(load.run())
        try:
            await self.until("clients that are registered", load.trading.is_set, READY_WITHIN_S)
            self.move_clock(self._speed)
            yield load
            load.stop()
            await trading
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)
        print("clients:", dict(sorted(load.figures.counts.items())))

    def place(self) -> Place:
        """Return where an auditor looks."""
        record = self.record
        assert record is not None and record.engines_auditor, "a session that runs says where its engines are"
        return place_from(self.folder.session_key, record.engines_auditor, record.gateway_url)

    async def prove(self, *, settle_s: float = 30.0) -> Audit:
        """Audit the session with what the clients wrote down, and print the outcome."""
        entries = tuple(read_journal(self.journal)) if self.journal.exists() else ()
        outcome = await asyncio.to_thread(audit, self.place(), journals=entries, settle_s=settle_s)
        print("\n".join(lines(outcome)))
        return outcome

    def news(self, count: int = 25) -> str:
        """Return the last news of the runner."""
        return "\n".join((self.base / "runner.log").read_text(errors="replace").splitlines()[-count:])

    def restarts(self) -> dict[str, int]:
        """Return how often each process was ended and started again, by the runner's news."""
        counts: dict[str, int] = {}
        for line in (self.base / "runner.log").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "process_ended":
                    counts[event["process"]] = counts.get(event["process"], 0) + 1
        return counts

    def _tickers(self) -> list[str]:
        record = self.record
        assert record is not None, "a session that runs has a record"
        with urllib.request.urlopen(f"{record.gateway_url}/api/v1/markets", timeout=10) as answer:
            return [ticker for market in json.loads(answer.read())["markets"] for ticker in market["tickers"]]

    def _command(self, path: str) -> dict[str, Any]:
        record = self.record
        assert record is not None, "a session that runs has a record"
        return self._ask(record.control_url + path, "POST")

    def _ask(self, url: str, method: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {TOKEN_HEADER: self.folder.internal_token()}
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found


@contextlib.asynccontextmanager
async def running_day(
    make: Callable[[Path], DayManifest],
    *,
    modules: Mapping[str, str] | None = None,
    env: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[DaySession]:
    """Run the day that `make` writes into a fresh folder; nothing is left of it afterwards."""
    session, child = _started(make, modules or {}, env or {})
    try:
        yield session
    finally:
        child.terminate()
        try:
            await asyncio.to_thread(child.wait, STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        Engines(session.folder.engines, {}).remove_data()
        shutil.rmtree(session.base, ignore_errors=True)


def _started(
    make: Callable[[Path], DayManifest], modules: Mapping[str, str], env: Mapping[str, Mapping[str, str]]
) -> tuple[DaySession, subprocess.Popen[bytes]]:
    base = Path(tempfile.mkdtemp(prefix="mybroker-test-day-"))
    base.chmod(0o755)  # PostgreSQL runs as an ordinary user
    manifest = make(base)
    config = {
        "manifest": str(manifest.path),
        "base": str(base),
        "gateway_port": GATEWAY_PORT,
        "modules": dict(modules),
        "env": {name: dict(values) for name, values in env.items()},
    }
    (base / "config.json").write_text(json.dumps(config))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MYBROKER_")}
    environ |= {"MYBROKER_OPENING_CASH_CENTS": str(OPENING_CASH_CENTS)}
    command = [sys.executable, "-m", "tests.day.child", str(base / "config.json")]
    with (base / "runner.log").open("wb") as log:
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
    session = DaySession(base, f"local.{manifest.path.stem}", manifest, child)
    return session, child
