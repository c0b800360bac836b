"""Wiring of order entry: directory, shards, the door's route, heartbeats.

Order of a start: the directory, then every shard's history, then logons, then the first request. So the door
never answers from half an index, and a participant that was waiting finds its order of commands unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

from mybroker.contracts.door import ExecutionReport
from mybroker.runtime.directory import Directory
from mybroker.runtime.door import open_door_server
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.kafka import AsyncProducer
from mybroker.runtime.lifecycle import AppContext
from services.b3_order_entry.door import Door
from services.b3_order_entry.shards import Shards


async def start(context: AppContext) -> None:
    """Start the door; ready once it hears requests."""
    settings = context.settings
    context.readiness.declare("history", "door")
    app = build_app("b3_order_entry", [], context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    directory = Directory(settings.kafka_url)
    context.supervise("directory", directory.run())
    await directory.ready()
    entry = await directory.wait_for(settings.session_key)

    door: Door | None = None

    async def send_reports(reports: Sequence[ExecutionReport]) -> None:
        assert door is not None, "shards send only once their history is known"
        await door.send_reports(reports)

    server = await open_door_server(settings, entry.participants)
    shards = Shards(context, settings.kafka_url, send_reports)
    producer = AsyncProducer(settings.kafka_url)
    door = Door(context, server, producer, directory, shards)
    directory.on_change(shards.on_directory)
    await shards.known(settings.session_key)
    context.readiness.open("history")
    await door.log_on(entry)
    context.supervise("requests", door.run())
    context.supervise("heartbeats", door.beat())
    context.readiness.open("door")

    async def stop() -> None:
        await door.drain()
        await server.close()
        await producer.close()

    context.on_stop("door", stop)
