"""`mybroker up`: one session, from nothing to its trading day, until ctrl-C.

The runner and its door live in this process's main thread (its children die with it). Signals ask the runner to
stop, once; a second ctrl-C is told what the first one waits for. Exit codes: 0 stopped as asked, 1 could not run,
2 the manifest is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from mybroker.cli.failure import BAD_INPUT, REFUSED, Failure
from mybroker.cli.screen import Screen, make_screen
from mybroker.cli.sessions import json_option

if TYPE_CHECKING:
    from mybroker.contracts.market_session import MarketSession
    from mybroker.local.runner import Runner
    from mybroker.local.session_folder import SessionFolder

SAMPLE = Path("k8s/samples/pregao.yaml")
GATEWAY_PORT = 8080
PORT_MAX = 65_535


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, PORT_MAX), default=GATEWAY_PORT, help="Where page and API listen.")
@click.option("--new-day", is_flag=True, help="Start over: the session's logs, orders and balances are removed first.")
@json_option
def up(file: Path | None, port: int, new_day: bool, as_json: bool) -> int:
    """Start the session of FILE (k8s/samples/pregao.yaml) and stay until ctrl-C.

    Started again, a session goes on with the same day.
    """
    manifest = (file or _sample()).absolute()
    session = _read(manifest)
    from mybroker.local.session_folder import Busy, SessionFolder, home

    folder = SessionFolder(home(), session.key)
    screen = make_screen(as_json=as_json)
    try:
        with folder.hold():
            if new_day:
                _forget_day(folder, screen)
            return _run(manifest, session, folder, port, screen)
    except Busy as busy:
        raise Failure(f"{busy}; `mybroker status` shows it, `mybroker down` stops it", session=session.key) from None
    except OSError as error:
        raise Failure(f"session {session.key} in {folder.path}: {error}") from error
    finally:
        screen.settle()


def _sample() -> Path:
    return SAMPLE if SAMPLE.exists() else Path(__file__).parents[2] / SAMPLE


def _read(manifest: Path) -> MarketSession:
    """Read the manifest; every mistake is told, with its path."""
    from mybroker.contracts.manifest_yaml import load_manifest
    from mybroker.contracts.market_session import MarketSession

    read = load_manifest(manifest, now_ns=time.time_ns())
    if isinstance(read, MarketSession):
        return read
    mistakes = [{"path": one.path, "expected": one.expected, "given": one.given} for one in read]
    told = "\n".join(f"  {one.path}: expected {one.expected}, was {one.given}" for one in read)
    raise Failure(f"{manifest} is no MarketSession:\n{told}", code=BAD_INPUT, mistakes=mistakes)


def _forget_day(folder: SessionFolder, screen: Screen) -> None:
    from mybroker.cli.down import end_leftovers, remove_contents

    end_leftovers(folder)
    remove_contents(folder)
    folder.make()
    screen.say("day_removed", {"folder": str(folder.path)}, "the former day is removed; a new one starts")


def _run(manifest: Path, session: MarketSession, folder: SessionFolder, port: int, screen: Screen) -> int:
    from mybroker.local.engines.model import EngineFailed
    from mybroker.local.runner import Runner, RunnerOptions

    environ = dict(os.environ)
    news = _News(screen, folder, manifest)
    options = RunnerOptions(environ=environ, gateway_port=port)
    goes_on = (folder.path / "state.json").exists()
    text = f"session {session.key} from {_short(manifest)}{', goes on where it stopped' if goes_on else ''}"
    screen.say("starting", {"session": session.key, "manifest": str(manifest), "folder": str(folder.path)}, text)
    runner = Runner(manifest, folder, news.tell, screen.progress, options)
    news.runner = runner
    try:
        asyncio.run(_serve(runner, news, screen))
    except KeyboardInterrupt:
        return 0
    except EngineFailed as failed:
        raise Failure(f"{failed.engine} could not be started: {failed.text}", engine=failed.engine) from None
    return REFUSED if news.failed else 0


async def _serve(runner: Runner, news: _News, screen: Screen) -> None:
    from mybroker.cli.up_day import DayTeller
    from mybroker.local.control import Control

    control = Control(runner)
    news.control_url = control.url
    news.write_record()
    teller = DayTeller(runner, screen, lambda: news.stopping)
    with _stopping_on_signals(runner, screen):
        tasks = [
            asyncio.create_task(control.run(), name="control"),
            asyncio.create_task(teller.run(), name="teller"),
        ]
        try:
            await runner.run()
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome


@contextlib.contextmanager
def _stopping_on_signals(runner: Runner, screen: Screen) -> Iterator[None]:
    """Ask the runner to stop at SIGINT or SIGTERM; while it fetches packages and cannot listen, interrupt it."""
    loop = asyncio.get_running_loop()
    asked = 0

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        loop.call_soon_threadsafe(_ask_to_stop, runner, screen, asked)
        if asked == 1 and runner.urls is None:
            raise KeyboardInterrupt

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _ask_to_stop(runner: Runner, screen: Screen, asked: int) -> None:
    runner.stop()
    if asked > 1:
        waits_for = ", ".join(runner.processes.running()) or "the engines, which write what they hold"
        screen.say("still_stopping", {"waits_for": waits_for}, f"still waiting for {waits_for}")


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _News:
    """Hears the runner: says what is worth a line, keeps the session's record of where everything listens."""

    def __init__(self, screen: Screen, folder: SessionFolder, manifest: Path) -> None:
        self.runner: Runner | None = None
        self.control_url = ""
        self.failed = False
        self._screen = screen
        self._folder = folder
        self._manifest = manifest
        self._recorded_url = ""
        self.stopping = False
        self._alarmed = False
        self._endings: dict[str, int] = {}

    def tell(self, event: str, facts: Mapping[str, object]) -> None:
        from mybroker.cli.up_news import line_of

        self.stopping = self.stopping or event == "stopping"
        self.failed = self.failed or event == "runner_task_failed"
        if event in ("engines_ready", "stopping"):
            self._screen.settle()
        if event == "phase_changed" or (event == "process_ended" and self.stopping):
            return  # phases are the teller's, who waits for results and the page; what stops is said once
        self._screen.say(event, facts, line_of(event, facts) if self._is_news(event, facts) else None)
        if self.runner is not None and self.runner.gateway_url != self._recorded_url:
            self.write_record()

    def _is_news(self, event: str, facts: Mapping[str, object]) -> bool:
        """Say whether a person wants to read this: no end of an alarm that never was, no crash loop line by line."""
        if event == "degraded":
            before, self._alarmed = self._alarmed, facts["status"] == "True"
            return before or self._alarmed
        if event == "process_ended":
            name = str(facts["process"])
            self._endings[name] = self._endings.get(name, 0) + 1
        if event in ("process_ended", "process_started"):
            count = self._endings.get(str(facts["process"]), 0)
            return count & (count - 1) == 0  # the 1st, 2nd, 4th, 8th time
        return True

    def write_record(self) -> None:
        """Write who runs the session and where it listens, as far as that is known."""
        from mybroker.local.engines.children import Identity
        from mybroker.local.session_folder import RunnerRecord

        runner = self.runner
        assert runner is not None, "the runner is there before anything is told"
        identity = Identity.of(os.getpid())
        assert identity is not None, "we run"
        urls = runner.urls
        self._recorded_url = runner.gateway_url
        self._folder.write_record(
            RunnerRecord(
                pid=identity.pid,
                started_ticks=identity.started_ticks,
                session_key=runner.session.key,
                manifest=str(self._manifest),
                control_url=self.control_url,
                gateway_url=runner.gateway_url,
                engines=urls.as_env() if urls is not None else {},
                engines_auditor=urls.as_auditor_env() if urls is not None else {},
            )
        )
