"""A process's life: start, readiness, supervision, a graceful end, and test failpoints.

`run_service(name, start)` is all a service's `__main__` calls. `start(context)` wires the service and returns; the
process then lives until SIGTERM/SIGINT or until a supervised task fails or ends unasked, which ends the process
with a logged exception and exit code 1. There is no half-alive: what cannot go on dies and is started again.

On a stop, readiness closes first, then the `on_stop` callbacks run in reverse order, then the tasks are cancelled;
all of it within STOP_DEADLINE_MS, after which the process exits anyway with code 1.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from mybroker.runtime import logging as runtime_logging
from mybroker.runtime.clock import Clock, WallClock
from mybroker.runtime.ids import IdSource, TimeOrderedIds
from mybroker.runtime.settings import Settings, SettingsError, load

STOP_DEADLINE_MS = 8_000
_PR_SET_PDEATHSIG = 1


class Readiness:
    """Gates by name; ready when every declared gate is open and no stop was asked for."""

    __slots__ = ("_gates", "_stopping")

    def __init__(self) -> None:
        self._gates: dict[str, bool] = {}
        self._stopping = False

    def declare(self, *names: str) -> None:
        """Add closed gates."""
        for name in names:
            self._gates.setdefault(name, False)

    def open(self, name: str) -> None:
        self._gates[name] = True

    def close(self, name: str) -> None:
        self._gates[name] = False

    def stop(self) -> None:
        """Never ready again."""
        self._stopping = True

    @property
    def ready(self) -> bool:
        return not self._stopping and all(self._gates.values())

    def waiting_for(self) -> list[str]:
        """The gates that are still closed, in order of declaration."""
        closed = [name for name, is_open in self._gates.items() if not is_open]
        return ["stopping", *closed] if self._stopping else closed


class AppContext:
    """What a service's `start` gets: settings, time, ids, a logger, readiness, supervision."""

    def __init__(
        self, name: str, settings: Settings, *, clock: Clock | None = None, ids: IdSource | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.clock: Clock = clock or WallClock()
        self.ids: IdSource = ids or TimeOrderedIds(self.clock)
        self.log = runtime_logging.get_logger()
        self.readiness = Readiness()
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_stop: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        self._failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()

    def supervise(self, name: str, work: Coroutine[Any, Any, object], *, may_end: bool = False) -> asyncio.Task[Any]:
        """Run `work` as a task whose failure ends the process; so does its end, unless `may_end`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                error: BaseException | None = None if may_end else RuntimeError(f"task {name} was cancelled")
            else:
                error = task.exception()
                if error is None and not may_end:
                    error = RuntimeError(f"task {name} ended, expected it to run until the stop")
            if error is not None and not self.stopping.is_set():
                self.fail(name, error)

        task.add_done_callback(ended)
        return task

    def fail(self, what: str, error: BaseException) -> None:
        """End the process with exit code 1 because of `error`. May be called from any thread."""

        def note() -> None:
            if self._failure is None:
                self._failure = error
                self.log.error("task_failed", task=what, exc_info=error)
            self.stopping.set()

        self._loop.call_soon_threadsafe(note)

    def on_stop(self, name: str, callback: Callable[[], Awaitable[object]]) -> None:
        """Call and await `callback` on a stop, in reverse order of registration."""
        self._on_stop.append((name, callback))

    async def wait_until_stopped(self) -> int:
        """Wait for the stop, take everything down, and return the exit code."""
        await self.stopping.wait()
        self.readiness.stop()
        try:
            async with asyncio.timeout(STOP_DEADLINE_MS / 1000):
                await self._take_down()
        except TimeoutError:
            self.log.error(
                "stop_deadline_passed", deadline_ms=STOP_DEADLINE_MS, tasks=[t.get_name() for t in self._tasks]
            )
            return 1
        return 0 if self._failure is None else 1

    async def _take_down(self) -> None:
        while self._on_stop:
            name, callback = self._on_stop.pop()
            try:
                await callback()
            except Exception:
                self.log.exception("stop_callback_failed", callback=name)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Start = Callable[[AppContext], Awaitable[object]]


def run_service(name: str, start: Start, *, settings: Settings | None = None) -> NoReturn:
    """Run a service until it is stopped; exits the process with 0 after a stop and 1 after a failure."""
    die_with_parent()
    try:
        known = settings or load()
    except SettingsError as error:
        sys.exit(f"{name}: {error}")
    runtime_logging.configure(name, known.session_key, level=os.environ.get("MYBROKER_LOG_LEVEL", "info"))
    import uvloop

    code = uvloop.run(_live(name, start, known))
    sys.stdout.flush()
    # Client threads that are stuck in a native call must not keep a stopped process alive.
    os._exit(code)


async def _live(name: str, start: Start, settings: Settings) -> int:
    context = AppContext(name, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stopping.set)

    async def starting() -> None:
        try:
            await start(context)
        except SettingsError as error:
            context.log.error("settings_refused", reason=str(error))
            raise
        context.log.info("service_started", pid=os.getpid())

    context.supervise("start", starting(), may_end=True)
    code = await context.wait_until_stopped()
    context.log.info("service_stopped", exit_code=code)
    return code


def die_with_parent() -> None:
    """Ask the kernel to SIGTERM this process when its parent dies, where MYBROKER_DIE_WITH_PARENT=1 (Linux only).

    The signal follows the *thread* that forked this process: the runner forks from its main thread only.
    """
    if os.environ.get("MYBROKER_DIE_WITH_PARENT") != "1" or not sys.platform.startswith("linux"):
        return
    parent = os.environ.get("MYBROKER_PARENT_PID")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if parent and os.getppid() != int(parent):  # it died before the request was in place
        sys.exit(1)


def die(reason: str, **ids: object) -> NoReturn:
    """End the process at once, from any thread: for failures after which nothing more may be written."""
    runtime_logging.get_logger().error("process_died", reason=reason, **ids)
    sys.stdout.flush()
    os._exit(1)


_kill_point, _, _kill_count = os.environ.get("MYBROKER_KILL_AT", "").partition(":")
_passings = 0


def passing(point: str) -> None:
    """A named point where a test may kill this process: MYBROKER_KILL_AT="point:n" is SIGKILL at the n-th passing."""
    global _passings
    if point != _kill_point:
        return
    _passings += 1
    if _passings >= int(_kill_count or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
