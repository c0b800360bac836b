"""Wiring of the feed: the directory, a reader per shard, the flush at 20 Hz, HTTP and WebSocket."""

import asyncio

from starlette.routing import WebSocketRoute

from mybroker.domain.schedule import format_instant
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.telemetry import histogram
from services.b3_market_feed.api import Api
from services.b3_market_feed.sessions import Sessions
from services.b3_market_feed.stream import Stream, wake

SERVICE = "b3_market_feed"
FLUSH_EVERY_MS = 50
HEARTBEAT_EVERY_MS = 15_000
READY_LOOK_EVERY_MS = 50

_FLUSH = histogram("mbb3_feed_flush_seconds", "Time to note what changed for every client")


async def start(context: AppContext) -> None:
    """Start the feed."""
    settings = context.settings
    context.readiness.declare("sessions")
    directory = Directory(settings.kafka_url, clock=context.clock)
    sessions = Sessions(context, settings.kafka_url)
    routes = [*Api(sessions, context.clock).routes(), WebSocketRoute("/stream", Stream(lambda: sessions).serve)]
    app = build_app(SERVICE, routes, context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    context.supervise("directory", directory.run())
    await directory.ready()
    directory.on_change(sessions.changed)
    sessions.directory_read()
    context.supervise("flush", flush(sessions))
    context.supervise("heartbeat", beat(context, sessions))
    context.supervise("readiness", follow_readiness(context, sessions))


async def flush(sessions: Sessions) -> None:
    """Send what changed, FLUSH_EVERY_MS after it did at the latest."""
    while True:
        await asyncio.sleep(FLUSH_EVERY_MS / 1000)
        with _FLUSH.time():
            for feed in sessions.feeds:
                if feed.ready:
                    wake(feed.hub.flush())


async def beat(context: AppContext, sessions: Sessions) -> None:
    """Say that the feed is alive, with session time."""
    while True:
        await asyncio.sleep(HEARTBEAT_EVERY_MS / 1000)
        for feed in sessions.feeds:
            wake(feed.hub.heartbeat(format_instant(feed.now_ns(context.clock))))


async def follow_readiness(context: AppContext, sessions: Sessions) -> None:
    """Be ready while every known session was read to its end."""
    while True:
        if sessions.ready:
            context.readiness.open("sessions")
        else:
            context.readiness.close("sessions")
        await asyncio.sleep(READY_LOOK_EVERY_MS / 1000)
