"""Processes that die with the one who started them, and that a later start can find and end by their own ids.

Invariants: every child is in a session of its own (ctrl-C in the terminal reaches the services first, not the
engines); it gets a signal from the kernel when the thread that forked it ends, so only the main thread forks; its id
and start time are on disk while it lives, and nothing is ever ended by name. Linux only, as the engines' packages
are.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
KILLED_IS_GONE_MS = 5_000
POLL_S = 0.01

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process as no other ever is: pids are used again, a pid with its start time in one boot is not."""

    pid: int
    started_ticks: int
    boot_id: str

    @staticmethod
    def of(pid: int) -> Identity | None:
        """Return the identity of a running process, None when there is none or only its exit status is left."""
        stat = _stat(pid)
        if stat is None or stat[0] in ("Z", "X"):
            return None
        return Identity(pid=pid, started_ticks=int(stat[19]), boot_id=_boot_id())

    def is_running(self) -> bool:
        return Identity.of(self.pid) == self

    def is_gone(self) -> bool:
        return not self.is_running()


class Child:
    """A started process. `stop_signal` is what asks it to end cleanly."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], identity: Identity, stop_signal: int) -> None:
        self.name = name
        self.identity = identity
        self.stop_signal = stop_signal
        self._process = process

    @property
    def pid(self) -> int:
        return self.identity.pid

    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs. Never blocks."""
        return self._process.poll()

    def has_ended(self) -> bool:
        return self.exit_code() is not None

    def ask_to_stop(self) -> None:
        self._send(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL it, without a word to anybody."""
        self._send(signal.SIGKILL)

    def kill_rest(self) -> None:
        """SIGKILL what is left of its session after it ended (helpers that an engine started)."""
        for pid in session_members(self.pid):
            _signal(pid, signal.SIGKILL)

    def _send(self, signum: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signum)


class Nursery:
    """Starts the children of one engine, all from one thread, and keeps the record of them in one file."""

    def __init__(self, engine: str, record: Path, thread: threading.Thread | None = None) -> None:
        self.engine = engine
        self._record = record
        self._thread = thread or threading.main_thread()
        self._children: list[Child] = []

    def children(self) -> tuple[Child, ...]:
        return tuple(self._children)

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        stop_signal: int = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> Child:
        """Start one process; the kernel sends it `stop_signal` when we die. In the nursery's thread only."""
        assert threading.current_thread() is self._thread, "a child dies with the thread that forked it"
        self._children = [child for child in self._children if not child.has_ended()]
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                start_new_session=True,
                preexec_fn=_dies_with_parent(os.getpid(), stop_signal),  # noqa: PLW1509
            )
        identity = Identity.of(process.pid)
        if identity is None:
            # It ended before it could be looked at; its exit code tells the rest.
            identity = Identity(pid=process.pid, started_ticks=0, boot_id=_boot_id())
        child = Child(name, process, identity, stop_signal)
        self._children.append(child)
        self._write_record()
        return child

    def forget_ended(self) -> None:
        """Drop children that have ended from memory and from the record."""
        self._children = [child for child in self._children if not child.has_ended()]
        self._write_record()

    def end_leftovers(self, patience_ms: int) -> int:
        """End what an earlier start left running, by the ids it wrote down; return how many there were.

        They get their stop signal, `patience_ms` to leave, then SIGKILL; their sessions' other members go with them.
        """
        found = 0
        for identity, stop_signal in reversed(self._read_record()):
            if identity.boot_id != _boot_id():
                continue
            if identity.is_running():
                found += 1
                _signal(identity.pid, stop_signal)
                if not wait_until(identity.is_gone, patience_ms):
                    _signal(identity.pid, signal.SIGKILL)
                    wait_until(identity.is_gone, KILLED_IS_GONE_MS)
            if Identity.of(identity.pid) is None:
                # The number cannot have been given out again while its session has members: they are ours.
                for pid in session_members(identity.pid):
                    found += 1
                    _signal(pid, signal.SIGKILL)
        self._write_record()
        return found

    def _write_record(self) -> None:
        entries = [
            {
                "name": child.name,
                "pid": child.pid,
                "started_ticks": child.identity.started_ticks,
                "boot_id": child.identity.boot_id,
                "stop_signal": int(child.stop_signal),
            }
            for child in self._children
        ]
        if not entries:
            self._record.unlink(missing_ok=True)
            return
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(entries))
        fresh.replace(self._record)

    def _read_record(self) -> list[tuple[Identity, int]]:
        try:
            entries = json.loads(self._record.read_text())
            return [
                (
                    Identity(pid=entry["pid"], started_ticks=entry["started_ticks"], boot_id=entry["boot_id"]),
                    entry["stop_signal"],
                )
                for entry in entries
            ]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # Half a file cannot be: it is renamed into place. Whatever else is there, it names no process of ours.
            return []


def wait_until(condition: Callable[[], bool], timeout_ms: int) -> bool:
    """Poll until the condition holds; False when the time is over."""
    deadline_s = time.monotonic() + timeout_ms / 1_000
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def session_members(session_id: int) -> list[int]:
    """Return the pids whose session is the given one, without those of which only the exit status is left."""
    return [pid for pid, stat in _processes() if int(stat[3]) == session_id and stat[0] not in ("Z", "X")]


def descendants(pid: int) -> list[int]:
    """Return the pid and all processes below it."""
    below: dict[int, list[int]] = {}
    for member, stat in _processes():
        below.setdefault(int(stat[1]), []).append(member)
    tree = [pid]
    for member in tree:
        tree.extend(below.get(member, []))
    return tree


def resident_bytes(pid: int) -> int:
    """Return the memory a process and its descendants hold, pages they share counted once (PSS, where readable)."""
    return sum(_resident_bytes_of(member) for member in descendants(pid))


def log_tail(path: Path, lines_max: int = 12) -> str:
    """Return the last lines of a log, "" when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines_max:])


def _dies_with_parent(parent_pid: int, signum: int) -> Callable[[], None]:
    """Return what the child runs before exec: after the change of user, which would clear the setting."""

    def bind() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent_pid:
            # The parent died before the kernel knew: nobody would ever tell us.
            os._exit(1)

    return bind


def _resident_bytes_of(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat is not None:
                yield int(entry.name), stat


def _stat(pid: int) -> list[str] | None:
    """Return /proc/pid/stat from the state on: state, parent, group, session, ... start time at 19."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
