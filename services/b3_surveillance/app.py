"""Wiring of surveillance: HTTP for the supervisor, the command logs behind.

Only our own services and tools may call (`X-Internal-Token`). An answer means that the commands are in the logs,
not that the engine has applied them yet: the frames say that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.frames import COMMANDS
from mybroker.runtime.auth import check_internal
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, read_body, reply, serve
from mybroker.runtime.kafka import AsyncProducer
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.problem import Problem
from mybroker.runtime.telemetry import counter, inject_kafka
from services.b3_surveillance.orders_of_the_supervisor import Refused, SupervisorOrder, place

_ORDERS = counter("mbb3_supervisor_orders_total", "Commands of the supervisor", ["act"])


async def start(context: AppContext) -> None:
    """Start surveillance; ready once the session is in the directory."""
    settings = context.settings
    context.readiness.declare("directory")
    directory = Directory(settings.kafka_url)
    producer = AsyncProducer(settings.kafka_url)
    app = build_app(
        "b3_surveillance",
        [Route("/orders", _orders(context, directory, producer), methods=["POST"])],
        context.readiness,
    )
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    context.supervise("directory", directory.run())
    context.on_stop("producer", producer.close)
    await directory.wait_for(settings.session_key)
    context.readiness.open("directory")


def _orders(
    context: AppContext, directory: Directory, producer: AsyncProducer
) -> Callable[[Request], Awaitable[Response]]:
    async def orders(request: Request) -> Response:
        check_internal(request, context.settings)
        order = await read_body(request, SupervisorOrder)
        entry = directory.entry(context.settings.session_key)
        if entry is None:
            raise Problem(503, "unknown_session", f"{context.settings.session_key} is not in the directory yet")
        placed = place(order, entry)
        if isinstance(placed, Refused):
            raise Problem(409, placed.code, f"expected {placed.expected}")
        offsets = [
            await producer.send(
                one.market.commands_topic, None, COMMANDS.encode(one.command), inject_kafka(), partition=one.shard
            )
            for one in placed
        ]
        _ORDERS.labels(order.act.value).inc(len(placed))
        context.log.info("supervisor_ordered", act=order.act.value, ticker=order.ticker, market=order.market)
        return reply(
            {
                "placed": [
                    {"market": one.market.name, "shard": one.shard, "offset": where.offset}
                    for one, where in zip(placed, offsets, strict=True)
                ]
            },
            202,
        )

    return orders
