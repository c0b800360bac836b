"""The session's service processes on this machine: start, stop, write their files, say what is seen of them.

Remembers nothing the plan could decide: it starts what it is told and reports what it sees. Each process has a
port of its own that it keeps over restarts, a log file, and dies with the runner (see `engines.children`).
Invariant: processes are forked in the main thread only, and ended by their own ids only.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mybroker.local.engines.children import Child, Nursery, resident_bytes
from mybroker.local.session_folder import SessionFolder
from mybroker.plan.observed import WorkloadSeen
from mybroker.plan.restarts import restarts_after_exit
from mybroker.plan.workloads import Workload

STOP_WITHIN_S = 10.0
LEFTOVERS_LEAVE_WITHIN_MS = 3_000
POLL_S = 0.02

EnvOf = Callable[[Workload], Mapping[str, str]]
CommandOf = Callable[[Workload], list[str]]


def module_command(workload: Workload) -> list[str]:
    """Return how a workload is started: by the name of its service."""
    return [sys.executable, "-m", f"services.{workload.service}", *workload.args]


@dataclass(slots=True)
class _Process:
    workload: Workload
    child: Child
    started_at_ns: int
    restarts: int = 0
    exited_at_ns: int | None = None
    paths: dict[str, Path] = field(default_factory=dict)


class Processes:
    """Starts and watches the processes of one session."""

    def __init__(self, folder: SessionFolder, env_of: EnvOf, *, command_of: CommandOf = module_command) -> None:
        """`env_of` gives a workload's whole environment but for its files; `command_of` is a seam for tests."""
        self._folder = folder
        self._env_of = env_of
        self._command_of = command_of
        self._nursery = Nursery("services", folder.processes)
        self._processes: dict[str, _Process] = {}

    def end_leftovers(self) -> int:
        """End what a killed runner left; returns how many there were."""
        return self._nursery.end_leftovers(LEFTOVERS_LEAVE_WITHIN_MS)

    def start(self, workload: Workload) -> None:
        """Write the workload's files and start it; a former one of the name must have ended."""
        before = self._processes.get(workload.name)
        assert before is None or before.child.has_ended(), f"{workload.name} still runs"
        paths = self._write_files(workload)
        env = dict(self._env_of(workload)) | dict(workload.env) | {name: str(path) for name, path in paths.items()}
        now_ns = time.time_ns()
        restarts = 0
        if before is not None and before.exited_at_ns is not None:
            before_restarts = restarts_after_exit(
                before.restarts, started_at_ns=before.started_at_ns, exited_at_ns=before.exited_at_ns
            )
            restarts = before_restarts + 1
        log = self._folder.logs / f"{workload.name.replace('/', '_')}.log"
        child = self._nursery.spawn(workload.name, self._command_of(workload), log=log, env=env)
        self._processes[workload.name] = _Process(
            workload=workload, child=child, started_at_ns=now_ns, restarts=restarts, paths=paths
        )

    def configure(self, workload: Workload) -> None:
        """Write the files that a running workload reads again by itself."""
        process = self._processes[workload.name]
        process.paths = self._write_files(workload)
        process.workload = workload

    async def stop(self, names: Iterable[str], *, within_s: float = STOP_WITHIN_S) -> None:
        """Ask these to stop, all at once; kill what is not gone in time; forget them."""
        stopping = [process for name in names if (process := self._processes.get(name)) is not None]
        for process in stopping:
            process.child.ask_to_stop()
        give_up_at = time.monotonic() + within_s
        while time.monotonic() < give_up_at and not all(process.child.has_ended() for process in stopping):
            await asyncio.sleep(POLL_S)
        for process in stopping:
            if not process.child.has_ended():
                process.child.kill()
            process.child.kill_rest()
            del self._processes[process.workload.name]
        self._nursery.forget_ended()

    def kill(self, name: str) -> bool:
        """SIGKILL a running process, as a crash would; False where none runs under this name."""
        process = self._processes.get(name)
        if process is None or process.child.has_ended():
            return False
        process.child.kill()
        return True

    def look(self) -> list[str]:
        """Note who has ended since the last look; returns their names."""
        ended = []
        for name, process in self._processes.items():
            if process.exited_at_ns is None and process.child.has_ended():
                process.exited_at_ns = time.time_ns()
                process.child.kill_rest()
                ended.append(name)
        return ended

    def seen(self, ready: Callable[[str], bool]) -> tuple[WorkloadSeen, ...]:
        """Return what is seen, in starting order; `ready` says of a running process whether it answers."""
        return tuple(
            WorkloadSeen(
                name=name,
                spec_hash=process.workload.spec_hash,
                config_hash=process.workload.config_hash,
                running=process.exited_at_ns is None,
                ready=process.exited_at_ns is None and ready(name),
                restarts=process.restarts,
                started_at_ns=process.started_at_ns,
                exited_at_ns=process.exited_at_ns,
            )
            for name, process in self._processes.items()
        )

    def running(self) -> dict[str, int]:
        """Return the pid of each process that runs."""
        return {name: p.child.pid for name, p in self._processes.items() if p.exited_at_ns is None}

    def facts(self, name: str) -> dict[str, object]:
        """Return what a person wants to know of one process."""
        process = self._processes[name]
        code = process.child.exit_code()
        return {
            "pid": process.child.pid,
            "running": code is None,
            "exit_code": code,
            "restarts": process.restarts,
            "started_at_ns": process.started_at_ns,
            "resident_bytes": resident_bytes(process.child.pid) if code is None else 0,
        }

    def names(self) -> tuple[str, ...]:
        """Return the names of all processes, in starting order."""
        return tuple(self._processes)

    def _write_files(self, workload: Workload) -> dict[str, Path]:
        folder = self._folder.config / workload.name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        paths = {}
        for file in workload.files:
            path = folder / file.name
            if not path.exists() or path.read_bytes() != file.content:
                fresh = path.with_name(f".{file.name}.new")
                fresh.write_bytes(file.content)
                fresh.replace(path)
            paths[file.env] = path
        return paths
