"""One start of one or more engines, driven in small steps by the main thread.

Forking happens in `step`, in the main thread; waiting for readiness happens in worker threads. All engines go at
once. A server that ends before it is ready is started a second time: a port lost in a race, or shared memory that a
killed predecessor's children still hold, is gone by then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mybroker.local.engines import postgres
from mybroker.local.engines.children import log_tail
from mybroker.local.engines.model import URL_VARIABLES, Engine, EngineFailed, OnProgress, Waiting, without_password
from mybroker.local.engines.passwords import Passwords
from mybroker.local.engines.ports import listens

READY_WITHIN_S = 60.0
GIVEN_READY_WITHIN_S = 5.0
PROBE_PAUSE_S = 0.02
LAUNCHES_MAX = 2


class GivenEngine:
    """An engine that somebody else runs: we have its URL."""

    def __init__(self, name: str, url: str, probe: Callable[[str], None], passwords: Passwords | None) -> None:
        self.name = name
        self.url = url
        self._probe = probe
        self._passwords = passwords

    def probe(self) -> None:
        self._probe(self.url)

    def settle(self) -> None:
        """Make the services' databases where their URLs are not given."""
        if self._passwords is not None:
            postgres.provide_databases(self.url, self._passwords)


class _ServerEnded(Exception):
    pass


class _Starting:
    """How far one engine has come."""

    def __init__(self, engine: Engine | GivenEngine) -> None:
        self.engine = engine
        self.launches = 0
        self.steps: Iterator[Waiting] | None = None
        self.waiting: Waiting | None = None
        self.readiness: Future[None] | None = None


class Start:
    """Step it until it says True; `ready` and `took_ms` tell how far it is."""

    def __init__(self, engines: Sequence[Engine | GivenEngine], on_progress: OnProgress) -> None:
        self.took_ms: dict[str, int] = {}
        self._started_s = time.monotonic()
        self._on_progress = on_progress
        self._cancelled = threading.Event()
        self._starting = [_Starting(engine) for engine in engines]
        self._pool = ThreadPoolExecutor(max(1, len(engines)), thread_name_prefix="engine-ready")

    @property
    def ready(self) -> frozenset[str]:
        """The engines that did a real operation since this start began."""
        return frozenset(self.took_ms)

    def step(self) -> bool:
        """Go on where something is due; True when all are ready. Never waits. Main thread only.

        Raises EngineFailed as soon as one engine cannot start.
        """
        try:
            for starting in list(self._starting):
                self._advance(starting)
        except BaseException:
            self.cancel()
            raise
        if not self._starting:
            self._pool.shutdown(wait=False)
        return not self._starting

    def cancel(self) -> None:
        """Let the waiting threads go. Processes are not touched."""
        self._cancelled.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _advance(self, starting: _Starting) -> None:
        if starting.readiness is not None:
            if starting.readiness.done():
                self._conclude(starting, starting.readiness)
            return
        if isinstance(starting.engine, GivenEngine):
            starting.readiness = self._pool.submit(self._await_given, starting.engine)
            return
        if starting.steps is None:
            starting.launches += 1
            starting.steps = starting.engine.launch()
        elif starting.waiting is not None and not starting.waiting():
            return
        starting.waiting = next(starting.steps, None)
        if starting.waiting is None:
            starting.readiness = self._pool.submit(self._await_ready, starting.engine)

    def _conclude(self, starting: _Starting, readiness: Future[None]) -> None:
        try:
            readiness.result()
        except _ServerEnded:
            if starting.launches == LAUNCHES_MAX:
                assert not isinstance(starting.engine, GivenEngine)
                log = Path(starting.engine.log_path)
                text = f"ended while it started; the end of {log}:\n{log_tail(log)}"
                raise EngineFailed(starting.engine.name, text) from None
            starting.steps, starting.waiting, starting.readiness = None, None, None
            return
        self.took_ms[starting.engine.name] = round((time.monotonic() - self._started_s) * 1_000)
        self._starting.remove(starting)
        self._on_progress(starting.engine.name, "ready", len(self.took_ms), len(self.took_ms) + len(self._starting))

    def _await_ready(self, engine: Engine) -> None:
        deadline_s = time.monotonic() + READY_WITHIN_S
        server = engine.children()[-1]
        error: Exception | None = None
        while True:
            # A client that cannot connect costs more than the server's start: first see whether anybody listens.
            if listens(engine.port):
                try:
                    engine.probe()
                    break
                except Exception as failure:  # noqa: BLE001  (every client has its own errors; the last one is told)
                    error = failure
            if server.has_ended():
                raise _ServerEnded from error
            if time.monotonic() > deadline_s:
                text = (
                    f"not ready within {READY_WITHIN_S:g} s ({error or 'nobody listens'}); its log: {engine.log_path}"
                )
                raise EngineFailed(engine.name, text) from error
            self._pause()
        engine.settle()

    def _await_given(self, engine: GivenEngine) -> None:
        deadline_s = time.monotonic() + GIVEN_READY_WITHIN_S
        while True:
            try:
                engine.probe()
                break
            except Exception as error:
                if time.monotonic() > deadline_s:
                    url = without_password(engine.url)
                    text = f"{URL_VARIABLES[engine.name]} says {url}, and nothing usable answers there: {error}"
                    raise EngineFailed(engine.name, text) from error
            self._pause()
        engine.settle()

    def _pause(self) -> None:
        if self._cancelled.wait(PROBE_PAUSE_S):
            raise EngineFailed("engines", "the start was cancelled")
