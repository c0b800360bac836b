"""Wiring of the gateway."""

from pathlib import Path

from starlette.routing import WebSocketRoute

from mybroker.contracts.http_routes import API_PREFIX, ROUTES
from mybroker.runtime.auth import over_http
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.lifecycle import AppContext
from services.broker_gateway.api import Api
from services.broker_gateway.limits import RateLimits, connect, limits_of
from services.broker_gateway.private_events import ORDERS, Wakeups
from services.broker_gateway.stream import Door
from services.broker_gateway.upstream import Upstreams

SERVICE = "broker_gateway"
PAGE = Path(__file__).resolve().parent.parent.parent / "web" / "index.html"


async def start(context: AppContext) -> None:
    """Start the gateway. It is ready at once: what is away behind it is answered by breakers, not by silence."""
    settings = context.settings
    urls = {service: settings.service_url(service) for service in dict.fromkeys(route.service for route in ROUTES)}
    upstreams = Upstreams(urls, context.clock)
    context.on_stop("upstreams", upstreams.close)
    orders = HttpClient({ORDERS: urls[ORDERS]})
    context.on_stop("orders_client", orders.close)
    redis = connect(settings.redis_url)
    context.on_stop("redis", redis.aclose)
    verifier = over_http(settings, clock=context.clock)
    wakeups = Wakeups(settings.kafka_url)
    limits = RateLimits(redis, limits_of(settings), context.clock)
    page = Path(settings.text("MYBROKER_PAGE", str(PAGE)))
    api = Api(upstreams, verifier, limits, page)
    door = Door(upstreams, orders, verifier, wakeups, context.clock)
    streams = [WebSocketRoute("/stream", door.serve), WebSocketRoute(f"{API_PREFIX}/stream", door.serve)]
    app = build_app(SERVICE, [*streams, *api.routes()], context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    context.supervise("wakeups", wakeups.run())
