"""All engines of one session, in one folder: prepare, start, check, restart, stop.

    engines = Engines(folder, os.environ, on_progress)
    urls = engines.start()          # or: start = engines.begin(); while not start.step(): ...
    ...
    engines.stop()

`urls` is known after `prepare` already, before anything listens. An engine whose URL is in the environment is only
checked. A present but empty MYBROKER_RABBIT_URL means: no RabbitMQ. Call everything but `check` from the main thread.
Ports, passwords and data stay in the folder, so the next start finds the same. A folder serves one `Engines` at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO

from mybroker.local.engines import kafka, mongo, postgres, rabbit, valkey
from mybroker.local.engines.children import Child, Nursery, resident_bytes, wait_until
from mybroker.local.engines.model import (
    ENGINES,
    POSTGRES_SERVICES,
    URL_VARIABLES,
    Engine,
    EngineFailed,
    EngineHealth,
    EngineUrls,
    OnProgress,
)
from mybroker.local.engines.passwords import Passwords
from mybroker.local.engines.ports import PortClaims
from mybroker.local.engines.starting import GivenEngine, Start

STOP_WITHIN_MS = 15_000
LEFTOVERS_LEAVE_WITHIN_MS = 10_000
FORMER_PORT_WITHIN_MS = 500
STEP_S = 0.005

_MODULES = {"kafka": kafka, "postgres": postgres, "redis": valkey, "mongo": mongo, "rabbit": rabbit}


class Engines:
    """The engines of one session. See the module's docstring."""

    def __init__(self, folder: Path, env: Mapping[str, str], on_progress: OnProgress | None = None) -> None:
        self._folder = folder.absolute()
        self._env = dict(env)
        self._on_progress: OnProgress = on_progress or (lambda _engine, _text, _done, _total: None)
        self._passwords = Passwords(self._folder / "secrets")
        self._ports = PortClaims()
        self._lock: IO[str] | None = None
        self._engines: dict[str, Engine] = {}
        self._given: dict[str, GivenEngine] = {}
        self._notes: dict[str, str] = {}
        self._start: Start | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Take the folder, end what a crash left there, choose ports, fetch what is missing. Twice is once.

        Raises EngineFailed when another process has the folder or something cannot be had.
        """
        if self._lock is not None:
            return
        self._take_folder()
        try:
            self._end_leftovers()
            self._choose_engines()
            self._prepare_all()
        except BaseException:
            self._release()
            raise
        self._notes |= {name: engine.note for name, engine in self._engines.items() if engine.note}

    def begin(self) -> Start:
        """Start everything at once and return what to `step` until it is True. Does not wait."""
        self.prepare()
        self._start = Start([*self._engines.values(), *self._given.values()], self._on_progress)
        return self._start

    def start(self) -> EngineUrls:
        """Start everything and wait until each engine did a real operation.

        Raises EngineFailed; then nothing is left running.
        """
        try:
            self._run(self.begin())
        except BaseException:
            self.stop()
            raise
        return self.urls

    def restart(self, name: str) -> None:
        """Stop one engine where it runs and start it on the same data and ports. Waits until it is ready."""
        self._run(self.begin_restart(name))

    def begin_restart(self, name: str) -> Start:
        """Stop one engine, begin its start and return what to `step`. For a loop that has other work."""
        engine = self._ours(name)
        self._stop([engine])
        return Start([engine], self._on_progress)

    def kill(self, name: str) -> None:
        """SIGKILL an engine's server and wait until it is gone. For tests."""
        server = self._ours(name).children()[-1]
        server.kill()
        assert wait_until(server.has_ended, STOP_WITHIN_MS), f"{name} ({server.pid}) survived SIGKILL"

    def stop(self) -> None:
        """Stop everything cleanly, what does not leave in time by SIGKILL, and let go of the folder and ports."""
        if self._start is not None:
            self._start.cancel()
            self._start = None
        self._stop(self._engines.values())
        self._release()

    def end_leftovers(self) -> int:
        """End what a crash left in this folder, and start nothing; return how many there were."""
        self._take_folder()
        try:
            return self._end_leftovers()
        finally:
            self._release()

    def remove_data(self) -> None:
        """Remove what is kept outside of the folder (PostgreSQL's data where a home is closed). Stopped only."""
        location = self._folder / "postgres.location"
        if location.exists():
            postgres.remove_outside_data(Path(location.read_text().strip()))
            location.unlink()

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def urls(self) -> EngineUrls:
        """Where everything listens or will: known from `prepare` on."""
        assert self._lock is not None, "prepare comes first"
        admin = self._url("postgres")
        assert admin is not None
        given = {service: self._env.get(_service_variable(service), "") for service in POSTGRES_SERVICES}
        owners = postgres.service_urls(admin, self._passwords)
        return EngineUrls(
            kafka=self._url("kafka") or "",
            postgres_admin=admin,
            postgres={service: given[service] or owners[service] for service in POSTGRES_SERVICES},
            auditor=postgres.auditor_urls(admin, self._passwords),
            redis=self._url("redis") or "",
            mongo=self._url("mongo") or "",
            rabbit=self._url("rabbit"),
        )

    def notes(self) -> dict[str, str]:
        """Return one line per engine that a person should know about (a stand-in, a missing one)."""
        return dict(self._notes)

    def pids(self) -> dict[str, int]:
        """Return the server process of each engine of ours that runs."""
        running = {}
        for name, engine in self._engines.items():
            servers = engine.children()[-1:]
            if servers and not servers[0].has_ended():
                running[name] = servers[0].pid
        return running

    def ended(self) -> tuple[str, ...]:
        """Return the engines of ours whose server ended without being asked. Cheap: for every turn of a loop."""
        return tuple(
            name for name, engine in self._engines.items() if any(child.has_ended() for child in engine.children()[-1:])
        )

    def check(self) -> dict[str, EngineHealth]:
        """Do one real operation on each engine, all at once; never raises. May run in any thread."""
        engines = [*self._engines.values(), *self._given.values()]
        with ThreadPoolExecutor(len(ENGINES), thread_name_prefix="check") as pool:
            found = {health.name: health for health in pool.map(self._check, engines)}
        return {name: found[name] for name in ENGINES if name in found}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _prepare_all(self) -> None:
        given_up = threading.Event()

        def tell(engine: str, text: str, done: int, total: int) -> None:
            # Downloads report each file: after ctrl-C or another's failure the next report ends them.
            if given_up.is_set():
                raise EngineFailed(engine, "its preparation was given up")
            self._on_progress(engine, text, done, total)

        with ThreadPoolExecutor(len(ENGINES), thread_name_prefix="prepare") as pool:
            prepared = [pool.submit(engine.prepare, tell) for engine in self._engines.values()]
            try:
                for future in as_completed(prepared):
                    future.result()
            except BaseException:
                given_up.set()
                raise

    def _check(self, engine: Engine | GivenEngine) -> EngineHealth:
        started_s = time.monotonic()
        try:
            engine.probe()
            ok, text = True, "ready"
        except Exception as error:  # noqa: BLE001  (every client has its own errors; all of them are an answer here)
            ok, text = False, f"{type(error).__name__}: {error}".splitlines()[0]
        pid = self.pids().get(engine.name)
        return EngineHealth(
            name=engine.name,
            ok=ok,
            text=text,
            ours=engine.name in self._engines,
            pid=pid,
            resident_bytes=0 if pid is None else sum(resident_bytes(child.pid) for child in self._alive(engine.name)),
            took_ms=round((time.monotonic() - started_s) * 1_000),
        )

    def _alive(self, name: str) -> list[Child]:
        return [child for child in self._engines[name].children() if not child.has_ended()]

    def _run(self, start: Start) -> None:
        while not start.step():
            time.sleep(STEP_S)

    def _ours(self, name: str) -> Engine:
        if name not in self._engines:
            reason = "is given by its URL, not ours" if name in self._given else f"is none of {', '.join(ENGINES)} here"
            raise EngineFailed(name, reason)
        return self._engines[name]

    def _url(self, name: str) -> str | None:
        engine = self._engines.get(name) or self._given.get(name)
        return None if engine is None else engine.url

    def _take_folder(self) -> None:
        (self._folder / "run").mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "engines.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise EngineFailed("engines", f"process {holder} already runs engines in {self._folder}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _release(self) -> None:
        self._ports.release()
        self._engines.clear()
        self._given.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _end_leftovers(self) -> int:
        ended = 0
        for record in sorted((self._folder / "run").glob("*.json")):
            count = Nursery(record.stem, record).end_leftovers(LEFTOVERS_LEAVE_WITHIN_MS)
            ended += count
            if count:
                self._on_progress(record.stem, f"ended {count} processes that a crash had left", 0, 0)
        return ended

    def _choose_engines(self) -> None:
        self._notes.clear()
        for name in ENGINES:
            url = self._env.get(URL_VARIABLES[name], "")
            if url:
                passwords = self._passwords if self._provides_databases(name) else None
                self._given[name] = GivenEngine(name, url, _MODULES[name].probe, passwords)
        ours = [name for name in ENGINES if name not in self._given and (name != "rabbit" or self._wants_rabbit())]
        ports = self._chosen_ports(ours)
        nurseries = {name: Nursery(name, self._folder / "run" / f"{name}.json") for name in ours}
        for name in ours:
            self._engines[name] = self._made(name, ports, nurseries[name])

    def _made(self, name: str, ports: dict[str, int], nursery: Nursery) -> Engine:
        match name:
            case "kafka":
                return kafka.Kafka(self._folder, ports, nursery)
            case "postgres":
                return postgres.Postgres(self._folder, ports, nursery, self._passwords)
            case "redis":
                return valkey.Valkey(self._folder, ports, nursery, self._passwords)
            case "mongo":
                return mongo.Mongo(self._folder, ports, nursery)
            case "rabbit":
                return rabbit.Rabbit(self._folder, ports, nursery, self._passwords)
            case _:
                raise AssertionError(f"no engine {name!r}")

    def _wants_rabbit(self) -> bool:
        """Say whether there is a RabbitMQ to start; otherwise leave one line that says why not."""
        route = "order entry uses its Kafka route"
        if URL_VARIABLES["rabbit"] in self._env:
            self._notes["rabbit"] = f"switched off by an empty {URL_VARIABLES['rabbit']}; {route}"
            return False
        if rabbit.server_script() is not None:
            return True
        if not rabbit.can_install():
            self._notes["rabbit"] = f"no rabbitmq-server on PATH and no {URL_VARIABLES['rabbit']}; {route}"
            return False
        trouble = rabbit.install(self._on_progress)
        if trouble:
            self._notes["rabbit"] = f"could not be installed ({trouble}); {route}"
        return not trouble

    def _provides_databases(self, name: str) -> bool:
        """Say whether databases are to be made there: not when every service's own URL is given too."""
        return name == "postgres" and not all(self._env.get(_service_variable(s), "") for s in POSTGRES_SERVICES)

    def _chosen_ports(self, ours: Iterable[str]) -> dict[str, int]:
        path = self._folder / "engines.json"
        try:
            before = json.loads(path.read_text())["ports"]
        except (OSError, ValueError, KeyError, TypeError):
            before = {}
        names = [port for name in ours for port in _MODULES[name].PORT_NAMES]
        ports = self._ports.choose(names, before, FORMER_PORT_WITHIN_MS)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"ports": before | ports}, indent=2) + "\n")
        fresh.replace(path)
        return ports

    def _stop(self, engines: Iterable[Engine]) -> None:
        """End the servers of all these engines together, then their helpers."""
        waves = [list(reversed(engine.children())) for engine in engines]
        while any(waves):
            wave = [children.pop(0) for children in waves if children]
            for child in wave:
                child.ask_to_stop()
            wait_until(lambda wave=wave: all(child.has_ended() for child in wave), STOP_WITHIN_MS)  # type: ignore[misc]
            for child in wave:
                child.kill()
                wait_until(child.has_ended, STOP_WITHIN_MS)
                child.kill_rest()
        for engine in engines:
            engine.forget_ended()


def _service_variable(service: str) -> str:
    return f"MYBROKER_POSTGRES_{service.upper()}_URL"
