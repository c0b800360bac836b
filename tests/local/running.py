"""A session's runner in a process of its own, driven and looked at from a test.

`python -m tests.local.running MANIFEST BASE GATEWAY_PORT` hosts the runner until SIGTERM or SIGINT and writes what it
tells as JSON lines beside the session. The exchange's processes are the real ones; those the runner's tests do not
need are `tests.local.idle_service`. A process of its own, because children die with the thread that forked them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from mybroker.local.engines.children import Identity, descendants
from mybroker.local.runner import Runner, RunnerOptions
from mybroker.local.session_folder import Busy, RunnerRecord, SessionFolder
from mybroker.plan.workloads import Workload
from mybroker.testing.hosting import host

ROOT = Path(__file__).parents[2]
REAL_SERVICES = ("b3_matcher", "b3_order_entry", "b3_surveillance")
WITHIN_S = 100.0
POLL_S = 0.05
BUSY_EXIT_CODE = 3

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], *, within_s: float = WITHIN_S) -> T:
    """Poll until the condition gives something true and return it; fail naming what was waited for."""
    give_up_at = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"{what}: not within {within_s:g} s"
        time.sleep(POLL_S)
    return found


class Running:
    """One runner's process, with its session's folder."""

    def __init__(self, manifest: Path, base: Path, *, session: str, gateway_port: int, **env: str) -> None:
        self.manifest = manifest
        self.base = base
        self.folder = SessionFolder(base, session)
        self.gateway_port = gateway_port
        self._env = env
        self._told = base / f"{session}.told.jsonl"
        self._said = base / f"{session}.said.txt"
        self.start()

    def start(self) -> None:
        """Start the runner; what a former one told is forgotten."""
        self.base.mkdir(parents=True, exist_ok=True)
        self._told.write_text("")
        with self._said.open("wb") as said:
            self.process = self.another(said)

    def another(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a runner's process on this session's folder."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("MYBROKER_")}
        command = [sys.executable, "-m", "tests.local.running", str(self.manifest), str(self.base)]
        return subprocess.Popen(
            [*command, str(self.gateway_port), str(self._told)],
            env=base | {"PYTHONPATH": str(ROOT), "MYBROKER_RABBIT_URL": ""} | self._env,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def told(self, event: str) -> list[Mapping[str, Any]]:
        """Return the facts of each time the runner told of an event."""
        lines = [json.loads(line) for line in self._told.read_text().splitlines() if line.endswith("}")]
        return [line["facts"] for line in lines if line["event"] == event]

    def record(self) -> RunnerRecord:
        record = self.folder.record()
        assert record is not None, "no runner has the folder"
        return record

    def ask(self, path: str, body: object | None = None, *, url: str | None = None, token: str | None = None) -> Any:
        """Call the runner's door (or another); return (status, body), status 0 where nobody answers."""
        if url is None:
            record = self.folder.record()
            if record is None or not record.control_url:
                return 0, None
            url = record.control_url
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Internal-Token": token or self.folder.internal_token(), "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except (OSError, ValueError):
            return 0, None

    def status(self) -> Mapping[str, Any]:
        code, body = self.ask("/status")
        return body if code == 200 else {"processes": {}, "markets": [], "conditions": [], "engines": {}}

    def condition(self, kind: str) -> Mapping[str, Any]:
        return next((one for one in self.status()["conditions"] or () if one["type"] == kind), {})

    def url(self, name: str) -> str:
        """Return where a process listens."""
        ports = json.loads(self.folder.state.read_text())["ports"]
        return f"http://127.0.0.1:{ports[name]}"

    def matcher(self, shard: str) -> Mapping[str, Any]:
        """Return what a matcher says of itself now; empty while it does not answer."""
        code, state = self.ask("/state", url=self.url(f"matcher/{shard}"))
        return state if code == 200 else {}

    def is_running_well(self, *names: str) -> bool:
        """Say whether these processes (all without names) run and are ready."""
        self.assert_alive()
        processes = self.status()["processes"]
        wanted = names or tuple(processes)
        return bool(wanted) and all(name in processes and processes[name]["ready"] for name in wanted)

    def wait_until_running(self) -> None:
        def running() -> bool:
            return self.is_running_well() and self.matcher("equities-0").get("owned", False)

        try:
            until("the session runs", running)
        except AssertionError as late:
            processes = self.status()["processes"]
            missing = {name: facts for name, facts in processes.items() if not facts["ready"]}
            raise AssertionError(
                f"{late}; not ready: {missing or processes.keys()}; told: {self._told.read_text()[-800:]}"
            ) from None

    def assert_alive(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(f"the runner ended with {self.process.poll()}:\n{self._said.read_text()[-4_000:]}")

    def everybody(self) -> list[Identity]:
        """Return the runner and everything below it, each with its start time."""
        found = [Identity.of(pid) for pid in descendants(self.process.pid)]
        return [identity for identity in found if identity is not None]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Ask the runner to stop; return its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(90)

    def close(self) -> None:
        """End everything of this session, by its own ids."""
        everybody = self.everybody()
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        for identity in everybody:
            if identity.is_running():
                os.kill(identity.pid, signal.SIGKILL)


def _command_of(workload: Workload) -> list[str]:
    if workload.service in REAL_SERVICES:
        return [sys.executable, "-m", f"services.{workload.service}", *workload.args]
    return [sys.executable, "-m", "tests.local.idle_service"]


def main(manifest: Path, base: Path, gateway_port: int, told: Path) -> int:
    """Run until SIGTERM or SIGINT; BUSY_EXIT_CODE where the folder is taken."""

    def tell(event: str, facts: Mapping[str, object]) -> None:
        with told.open("a") as file:
            file.write(json.dumps({"event": event, "facts": dict(facts)}, default=str) + "\n")

    async def work(_runner: Runner) -> None:
        asked = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, asked.set)
        await asked.wait()

    options = RunnerOptions(gateway_port=gateway_port, command_of=_command_of)
    try:
        asyncio.run(host(manifest, base, options, work, tell=tell))
    except Busy as busy:
        sys.stdout.write(f"{busy}\n")
        return BUSY_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
