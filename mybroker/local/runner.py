"""The runner: one session on this machine, reconciled to its plan until it is stopped.

A loop that gathers (processes, probes, logs), asks `make_plan`, and applies its actions; it remembers nothing that
it could see. Engines come first, services start as soon as Kafka answers, so that they load while RabbitMQ boots.
A process or an engine that dies is started again; a manifest that changes is applied while running, and one that
became wrong is reported and the last good one kept.

Everything that forks runs in the main thread (children die with the thread that forked them), and this loop is it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mybroker.contracts.commands import Halt, Resume, SetPhase
from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.manifest_yaml import load_manifest
from mybroker.contracts.market_session import MarketSession, MarketSessionStatus
from mybroker.contracts.topics import FETCH_TASKS, commands_topic
from mybroker.domain.phase import Phase
from mybroker.local.engines.facade import Engines
from mybroker.local.engines.model import EngineUrls, OnProgress
from mybroker.local.engines.ports import PortClaims
from mybroker.local.engines.starting import Start as EngineStart
from mybroker.local.environment import process_env
from mybroker.local.log_keeper import LogKeeper, wall_ns
from mybroker.local.probes import Probes
from mybroker.local.processes import CommandOf, Processes, module_command
from mybroker.local.saved_state import SavedState
from mybroker.local.session_folder import SessionFolder
from mybroker.plan import actions as act
from mybroker.plan.make_plan import Plan, make_plan
from mybroker.plan.observed import Observed
from mybroker.plan.workloads import ALWAYS_ON, Workload

LOOK_EVERY_S = 0.1
ENGINES_EVERY_S = 0.02
LAG_EVERY_S = 5.0
GATEWAY = "broker/gateway"
GATEWAY_PORT = 8080

Tell = Callable[[str, Mapping[str, object]], None]
"""Told what happened: a snake_case event and its facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How a session is run; the seams are for tests."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    gateway_port: int | None = None
    """None: the port it had before, else GATEWAY_PORT or the next free one."""
    command_of: CommandOf = module_command
    extra_env_of: Callable[[Workload], Mapping[str, str]] = lambda _workload: {}
    release: str = ""


class ManifestRefused(Exception):
    """The manifest is wrong; the text lists every mistake with its path."""


def read_manifest(path: Path) -> MarketSession:
    """Read a manifest; raises ManifestRefused."""
    read = load_manifest(path, now_ns=wall_ns())
    if isinstance(read, MarketSession):
        return read
    raise ManifestRefused("\n".join(f"{e.path}: expected {e.expected}, was {e.given}" for e in read))


class Runner:
    """Runs one session. `run` returns when `stop` was called."""

    def __init__(
        self, manifest: Path, folder: SessionFolder, tell: Tell, on_progress: OnProgress, options: RunnerOptions
    ) -> None:
        """`folder` must be held by the caller; `tell` hears what happened, `on_progress` how engines come along."""
        self.folder = folder
        self.session = read_manifest(manifest)
        self.manifest = manifest
        self.options = options
        self.plan: Plan | None = None
        self.engines = Engines(folder.engines, options.environ, on_progress)
        self.processes = Processes(folder, self._env_of, command_of=options.command_of)
        self.urls: EngineUrls | None = None
        self.ports: dict[str, int] = {}
        self.probes = Probes(self.processes.running, self.ports)
        self.wake = asyncio.Event()
        self._tell = tell
        self._saved = SavedState(folder.state)
        self._claims = PortClaims()
        self._stopping = asyncio.Event()
        self._logs: LogKeeper | None = None
        self._engine_start: EngineStart | None = None
        self._topics: dict[str, int] = {}
        self._directory: DirectoryEntry | None = None
        self._clock_stopped = True
        self._step_ns = 0
        self._failure: BaseException | None = None
        self._fetch_lag: int | None = None
        self._status: MarketSessionStatus | None = None
        self._manifest_stamp = _stamp(manifest)
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """Ask the runner to take everything down."""
        self._stopping.set()
        self.wake.set()

    @property
    def gateway_url(self) -> str:
        """Return where people and programs connect."""
        return f"http://127.0.0.1:{self.ports[GATEWAY]}" if GATEWAY in self.ports else ""

    @property
    def directory(self) -> DirectoryEntry | None:
        """Return the directory record as it was last published."""
        return self._directory

    async def run(self) -> None:
        """Run until `stop`; whatever happens, nothing is left running. Raises what ended it otherwise."""
        try:
            living = asyncio.create_task(self._live(), name="live")
            stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
            # A turn may wait for Kafka, which may be gone for good: a stop must not wait with it.
            await asyncio.wait((living, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if living.done():
                living.result()
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure

    def move_clock(self, *, speed: int | None = None, step_ns: int = 0) -> None:
        """Pause (0), speed up or step the simulated clock; takes effect with the next directory record."""
        if speed is not None:
            self._saved.update(clock_speed=speed)
        self._step_ns += step_ns
        self.wake.set()

    def begin_engine_restart(self, name: str) -> bool:
        """Stop and start one engine while everything else goes on; False while another start is under way."""
        if self._engine_start is not None:
            return False
        self._engine_start = self.engines.begin_restart(name)
        self._tell("engine_restarting", {"engine": name})
        return True

    async def _begin(self) -> None:
        leftovers = self.processes.end_leftovers()
        if leftovers:
            self._tell("leftovers_ended", {"count": leftovers})
        self.engines.prepare()
        self.urls = self.engines.urls
        for name, note in self.engines.notes().items():
            self._tell("engine_note", {"engine": name, "note": note})
        start = self._engine_start = self.engines.begin()
        self._spawn("engines", self._mind_engines())
        while "kafka" not in start.ready:
            await asyncio.sleep(ENGINES_EVERY_S)
        self._logs = LogKeeper(self.urls.kafka)
        await self._logs.ensure_shared()
        self._topics = dict(await self._logs.partitions())
        await self._logs.start_logs(self.session.namespace, self.session.name, self._topics)
        self._directory = await self._logs.last_entry(self.session.key)
        self._spawn("probes", self.probes.run())
        self._spawn("lag", self._follow_lag())

    async def _live(self) -> None:
        await self._begin()
        # Asked each time: a wake-up in the same turn of the loop makes `wait_for` swallow the stop's cancellation.
        while not self._stopping.is_set():
            await self._turn()
            await self._wait()

    async def _turn(self) -> None:
        await self._step_clock()
        for name in self.processes.look():
            self._tell("process_ended", {"process": name, **self.processes.facts(name)})
        self._reread_manifest()
        plan = self.plan = make_plan(
            self.session,
            self._observed(),
            wall_ns(),
            release=self.options.release,
        )
        self._note_status(plan.status)
        for action in plan.actions:
            await self._apply(plan, action)

    def _observed(self) -> Observed:
        shards = [
            (market.name, shard.shard)
            for market in (self._directory.markets if self._directory is not None else ())
            for shard in market.shards
        ]
        return Observed(
            directory=self._directory,
            workloads=self.processes.seen(self.probes.ready),
            markets=tuple(self.probes.market(name, shard) for name, shard in shards),
            topics=self._topics,
            fetch_lag=self._fetch_lag,
            highest_tick_ns=self.probes.highest_tick_ns(),
            clock_stopped=self._clock_stopped,
            clock_speed_override=self._saved.clock_speed,
            reference_price_ticks=self._saved.reference_price_ticks,
            previous_status=self._status,
        )

    async def _apply(self, plan: Plan, action: act.Action) -> None:
        assert self._logs is not None, "begun"
        names = (self.session.namespace, self.session.name)
        match action:
            case act.EnsureTopics(topics=topics):
                await self._logs.ensure(topics)
                self._topics |= {topic.name: topic.partitions for topic in topics}
            case act.PublishDirectory(entry=entry):
                await self._publish(entry)
                self._clock_stopped = False
            case act.Start(name=name, why=why):
                self._start(plan.workload(name), why)
            case act.Configure(name=name, why=why):
                self.processes.configure(plan.workload(name))
                self._tell("process_configured", {"process": name, "why": why})
            case act.Stop(name=name, why=why):
                self._tell("process_stopping", {"process": name, "why": why})
                await self.processes.stop([name])
            case act.Replace(name=name, why=why):
                self._tell("process_replacing", {"process": name, "why": why})
                await self.processes.stop([name])
                self._start(plan.workload(name), why)
            case act.HaltMarket(market=market, shard=shard):
                await self._logs.append(commands_topic(*names, market), shard, Halt())
            case act.ResumeMarket(market=market, shard=shard):
                await self._logs.append(commands_topic(*names, market), shard, Resume())
            case act.CloseMarket(market=market, shard=shard):
                await self._logs.append(commands_topic(*names, market), shard, SetPhase(phase=Phase.CLOSED))
            case act.RollDay(ended=ended, following=following):
                self._saved.update(reference_price_ticks=self.probes.closing_prices())
                self._tell("day_rolled", {"ended": ended.isoformat(), "following": following.isoformat()})

    def _start(self, workload: Workload, why: str) -> None:
        self._claim_port(workload.name)
        self.processes.start(workload)
        self._tell("process_started", {"process": workload.name, "why": why})

    async def _publish(self, entry: DirectoryEntry) -> None:
        assert self._logs is not None, "begun"
        self._directory = entry
        await self._logs.publish(entry)

    def _env_of(self, workload: Workload) -> Mapping[str, str]:
        assert self.urls is not None, "begun"
        for name in dict(ALWAYS_ON):
            self._claim_port(name)
        self._claim_port("b3/surveillance")
        env = process_env(
            workload,
            namespace=self.session.namespace,
            session=self.session.name,
            given=self.options.environ,
            engines=self.urls.as_env(),
            ports=self.ports,
            data_dir=self.folder.path,
            secrets_dir=self.folder.secrets,
        )
        return env | dict(self.options.extra_env_of(workload))

    def _claim_port(self, name: str) -> None:
        if name in self.ports:
            return
        before = dict(self._saved.ports)
        if name == GATEWAY:
            self.ports[name] = self._gateway_port(before.get(name))
        else:
            self.ports |= self._claims.choose([name], before)
        self._saved.update(ports=dict(self._saved.ports) | {name: self.ports[name]})

    def _gateway_port(self, before: int | None) -> int:
        first: int = self.options.gateway_port or before or GATEWAY_PORT
        for port in range(first, first + 100):
            if self._claims.claim(port):
                if port != first:
                    self._tell("gateway_port_taken", {"wanted": first, "chosen": port})
                return port
        raise OSError(f"no free port between {first} and {first + 99} on 127.0.0.1 for the gateway")

    async def _step_clock(self) -> None:
        if not self._step_ns or self._directory is None:
            return
        step_ns, self._step_ns = self._step_ns, 0
        clock = self._directory.clock
        moved = replace(clock, anchor_wall_ns=(now := wall_ns()), anchor_session_ns=clock.now_ns(now) + step_ns)
        await self._publish(replace(self._directory, clock=moved, revision=self._directory.revision + 1))

    async def _mind_engines(self) -> None:
        """Start engines and start those again that ended; apart from the turns, which may wait for an engine."""
        while True:
            self._step_engines()
            await asyncio.sleep(ENGINES_EVERY_S)

    def _step_engines(self) -> None:
        if self._engine_start is not None:
            if not self._engine_start.step():
                return
            self._tell("engines_ready", {"took_ms": dict(self._engine_start.took_ms)})
            self._engine_start = None
        for name in self.engines.ended():
            self._tell("engine_ended", {"engine": name})
            self._engine_start = self.engines.begin_restart(name)
            return

    def _reread_manifest(self) -> None:
        stamp = _stamp(self.manifest)
        if stamp is None or stamp == self._manifest_stamp:
            return
        self._manifest_stamp = stamp
        try:
            changed = read_manifest(self.manifest)
        except ManifestRefused as refused:
            self._tell("manifest_refused", {"why": str(refused)})
            return
        if changed.key != self.session.key:
            self._tell("manifest_refused", {"why": f"metadata.name: expected {self.session.key}, was {changed.key}"})
            return
        self.session = replace(changed, generation=self.session.generation + 1)
        self._tell("manifest_applied", {"generation": self.session.generation})

    def _note_status(self, status: MarketSessionStatus) -> None:
        before = self._status
        self._status = status
        if before is None or before.phase != status.phase:
            self._tell("phase_changed", {"phase": status.phase})
        for market in status.markets:
            seen = before.markets if before is not None else ()
            was = next((m.phase for m in seen if (m.name, m.shard) == (market.name, market.shard)), None)
            if market.phase is not None and market.phase != was:
                self._tell(
                    "market_phase_changed", {"market": market.name, "shard": market.shard, "phase": market.phase}
                )
        degraded = status.find("Degraded")
        was_degraded = before.find("Degraded") if before else None
        if degraded is not None and (was_degraded is None or was_degraded.message != degraded.message):
            self._tell("degraded", {"status": degraded.status, "message": degraded.message})

    async def _follow_lag(self) -> None:
        assert self._logs is not None, "begun"
        while True:
            self._fetch_lag = await self._logs.fetch_lag(f"ingestors.{self.session.key}", FETCH_TASKS)
            await asyncio.sleep(LAG_EVERY_S)

    async def _wait(self) -> None:
        self.wake.clear()
        try:
            await asyncio.wait_for(self.wake.wait(), LOOK_EVERY_S)
        except TimeoutError:
            return

    def _spawn(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell("runner_task_failed", {"task": task.get_name(), "error": repr(error)})
            self._failure = self._failure or error
            self.stop()

    async def _end(self) -> None:
        self._tell("stopping", {})
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Who takes requests goes first, who owns the logs last, so that what was taken is finished.
        names = list(self.processes.names())
        front = [name for name in names if not name.startswith("matcher/")]
        await self.processes.stop(front)
        await self.processes.stop([name for name in names if name not in front])
        if self._logs is not None:
            await self._logs.close()
        self.engines.stop()
        self._claims.release()
        self._tell("stopped", {})


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size
