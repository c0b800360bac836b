"""Wiring of the matcher process: the matching thread, the directory's clock, the configuration file, HTTP.

The thread owns the book (one writer); the event loop only feeds it the clock and the wanted configuration and
answers `GET /state`. A shard that diverged stands still with its alarm up: the process stays, not ready, so that
a restart does not write over what a person has to look at. One whose engine version the log refuses stays for a
while too, so that its message can be read. Everything else that ends the thread ends the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.commands import SessionConfig
from mybroker.contracts.directory import SessionClock
from mybroker.contracts.market_config import MarketConfigError, load_market_config
from mybroker.contracts.topics import books_topic, commands_topic, events_topic
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, reply, serve
from mybroker.runtime.lifecycle import AppContext
from services.b3_matcher.matcher import Matcher
from services.b3_matcher.recovery import Diverged, LogPlace, VersionRefused
from services.b3_matcher.snapshots import SnapshotFolder

CONFIG_LOOK_EVERY_S = 0.25
VERSION_REFUSED_STAYS_S = 30
"""How long a refused version says so before it ends and is started again: a HandOver may have come."""


class WantedConfig:
    """The manifest's configuration of this shard, re-read when the plan's file changes."""

    def __init__(self, path: Path) -> None:
        """Read lazily; a file that does not read keeps the last good one and says so once per version."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self.config: SessionConfig | None = None

    def look(self) -> str | None:
        """Re-read if the file changed; return what is wrong with it, if anything."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return f"{self._path.name}: expected the plan's file, there is none yet"
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self.config = load_market_config(self._path.read_bytes())
        except MarketConfigError as error:
            return str(error)
        return None


async def start(context: AppContext) -> None:
    """Start the matcher of one shard; returns once everything is supervised."""
    settings = context.settings
    market = settings.text("MYBROKER_MARKET")
    shard = settings.integer("MYBROKER_SHARD", 0)
    names = (settings.namespace, settings.session, market)
    directory = Directory(settings.kafka_url)
    wanted = WantedConfig(settings.path("MYBROKER_MARKET_CONFIG"))

    def session_clock() -> SessionClock | None:
        return directory.clock(settings.session_key)

    matcher = Matcher(
        LogPlace(
            kafka_url=settings.kafka_url,
            commands_topic=commands_topic(*names),
            events_topic=events_topic(*names),
            partition=shard,
        ),
        books_topic(*names),
        SnapshotFolder(settings.data_dir / "snapshots" / f"{market}-{shard}"),
        owner=context.ids.new_id(),
        wanted=lambda: wanted.config,
        session_clock=session_clock,
    )
    context.readiness.declare("owned")
    app = build_app("b3_matcher", [Route("/state", _state(matcher, market, shard))], context.readiness)
    context.supervise("directory", directory.run())
    context.supervise("config", _follow_config(context, wanted))
    context.supervise("ready", _follow_owner(context, matcher))
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    _start_thread(context, matcher)


def _start_thread(context: AppContext, matcher: Matcher) -> None:
    def work() -> None:
        try:
            matcher.run()
        except Diverged as error:
            context.log.critical("shard_diverged", reason=str(error))
        except VersionRefused as error:
            matcher.progress.message = str(error)
            context.log.critical("engine_version_refused", reason=str(error))
            if not matcher.wait_for_stop(VERSION_REFUSED_STAYS_S):
                context.fail("matcher", error)
        except BaseException as error:  # noqa: BLE001  whatever ends the thread ends the process
            matcher.progress.message = str(error)
            context.fail("matcher", error)

    thread = threading.Thread(target=work, name="matcher", daemon=True)
    thread.start()

    async def stop() -> None:
        matcher.stop()
        await asyncio.to_thread(thread.join, 6)

    context.on_stop("matcher", stop)


async def _follow_config(context: AppContext, wanted: WantedConfig) -> None:
    said: str | None = None
    while True:
        wrong = wanted.look()
        if wrong is not None and wrong != said:
            context.log.warning("market_config_refused", reason=wrong)
        said = wrong
        await asyncio.sleep(CONFIG_LOOK_EVERY_S)


async def _follow_owner(context: AppContext, matcher: Matcher) -> None:
    while True:
        if matcher.progress.owned and matcher.progress.business_date is not None:
            context.readiness.open("owned")
        else:
            context.readiness.close("owned")
        await asyncio.sleep(0.05)


def _state(matcher: Matcher, market: str, shard: int) -> Callable[[Request], Awaitable[Response]]:
    async def state(_request: Request) -> Response:
        return reply({"market": market, "shard": shard, **dataclasses.asdict(matcher.progress)})

    return state
