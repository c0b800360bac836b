"""The HTTP server side of every process: Starlette with the house's manners.

`build_app` adds /healthz, /readyz and /metrics, a body size limit, traces in and out, X-Request-Id, the duration
metric by route template, and turns `Problem` and unexpected exceptions into problem+json. Handlers decode bodies
with `read_body` and answer with `reply`. WebSocket routes pass through untouched except for the trace.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mybroker.runtime.ids import TimeOrderedIds
from mybroker.runtime.lifecycle import AppContext, Readiness
from mybroker.runtime.logging import bound, get_logger
from mybroker.runtime.problem import PROBLEM_CONTENT_TYPE, Problem
from mybroker.runtime.telemetry import (
    METRICS_CONTENT_TYPE,
    child,
    extract,
    histogram,
    render_metrics,
    tracing,
)

T = TypeVar("T")

BODY_BYTES_MAX = 64 * 1024
REQUEST_ID_LENGTH_MAX = 64
STOP_GRACE_S = 3
SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel holds of unsent answers per connection: megabytes of it would hide a slow client for minutes."""

_DURATION = histogram("mbb3_http_request_duration_seconds", "Time to answer", ["route", "method", "status"])
_ANSWERED = "mybroker.answered"
_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_app(
    service: str,
    routes: Sequence[BaseRoute],
    readiness: Readiness,
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> ASGIApp:
    """Make the ASGI app of a service. `readiness` decides /readyz (503 names the closed gates)."""

    async def healthz(_request: Request) -> Response:
        return reply({"service": service, "status": "alive"})

    async def readyz(_request: Request) -> Response:
        waiting = readiness.waiting_for()
        status = 503 if waiting else 200
        return reply({"service": service, "ready": not waiting, "waiting_for": waiting}, status)

    async def metrics(_request: Request) -> Response:
        return Response(render_metrics(), headers={"Content-Type": METRICS_CONTENT_TYPE})

    floor = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    app = Starlette(
        routes=[*floor, *routes],
        exception_handlers={
            Problem: _answer_problem,
            HTTPException: _answer_http_exception,
            Exception: _answer_failure,
        },
    )
    templates = {
        route.endpoint: route.path for route in app.routes if hasattr(route, "endpoint") and hasattr(route, "path")
    }
    return _Manners(app, templates, body_bytes_max)


def reply(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `body` as JSON (anything msgspec encodes)."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


async def read_body(request: Request, type_: type[T]) -> T:
    """Decode the JSON body as `type_`; raises Problem 422 `malformed_body` with the field's path, or 413."""
    raw = await request.body()
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.MsgspecError as error:
        raise malformed("malformed_body", error) from error


def read_query(request: Request, type_: type[T]) -> T:
    """Convert the query parameters to `type_` (numbers from text); raises Problem 422 `malformed_query`."""
    try:
        return msgspec.convert(dict(request.query_params), type_, strict=False)
    except msgspec.MsgspecError as error:
        raise malformed("malformed_query", error) from error


def malformed(code: str, error: Exception) -> Problem:
    """A 422 that says what was wrong and where (`path`, as `$.price`)."""
    says, found, where = str(error).partition(" - at `")
    path = where.rstrip("`") if found else "$"
    return Problem(422, code, f"{says} at {path}", path=path)


async def serve(app: ASGIApp, host: str, port: int, context: AppContext) -> None:
    """Serve until the context stops; the gate `http` opens when it listens (port 0: a free one). Supervise this."""
    import socket

    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals belong to lifecycle

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            context.log.info("http_listening", host=host, port=listener.getsockname()[1])
            context.readiness.open("http")

    context.readiness.declare("http")
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_GRACE_S,
            ws_max_size=BODY_BYTES_MAX,
            ws_per_message_deflate=False,  # a message is small, and compressing each for each client is not
        )
    )
    ended = asyncio.Event()

    async def stop() -> None:
        server.should_exit = True
        await ended.wait()

    context.on_stop("http", stop)
    try:
        await server.serve([listener])
    finally:
        ended.set()
        listener.close()
    if not context.stopping.is_set():
        raise RuntimeError(f"HTTP server on {host}:{port} ended, expected it to run until the stop")


class _Manners:
    """The ASGI layer around every request."""

    def __init__(self, app: Starlette, templates: Mapping[Any, str], body_bytes_max: int) -> None:
        self.app = app
        self._templates = templates
        self._body_bytes_max = body_bytes_max
        self._ids = TimeOrderedIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        arrived = extract(headers)
        with tracing(child(arrived) if arrived else None) as trace:
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
                return
            request_id = headers.get("x-request-id", "")
            if not request_id or len(request_id) > REQUEST_ID_LENGTH_MAX or not request_id.isprintable():
                request_id = self._ids.new_id()
            own = [(b"x-request-id", request_id.encode("latin-1")), (b"traceparent", trace.traceparent.encode())]
            with bound(request_id=request_id):
                await self._answer(scope, receive, send, own)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, own: list[tuple[bytes, bytes]]) -> None:
        started = time.perf_counter()
        status = 0
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._body_bytes_max:
                    detail = f"expected a body of at most {self._body_bytes_max} bytes"
                    raise Problem(413, "body_too_large", detail)
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        try:
            await self.app(scope, limited, sending)
        except Exception:
            get_logger().exception("request_failed", path=scope["path"])
            if _ANSWERED not in scope:  # it failed in the middle of its answer: let the server cut the connection
                raise
        finally:
            template = self._templates.get(scope.get("endpoint"), "other")
            _DURATION.labels(template, scope["method"], str(status or 500)).observe(time.perf_counter() - started)


def _problem_response(problem: Problem, instance: str) -> Response:
    body = msgspec.json.encode(problem.document(instance))
    return Response(body, problem.status, problem.all_headers(), media_type=PROBLEM_CONTENT_TYPE)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _problem_response(error, request.url.path)


async def _answer_failure(request: Request, _error: Exception) -> Response:
    request.scope[_ANSWERED] = True
    problem = Problem(500, "internal_error", "the service failed on this request")
    return _problem_response(problem, request.url.path)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, f"http_{error.status_code}")
    problem = Problem(error.status_code, code, error.detail, headers=error.headers)
    return _problem_response(problem, request.url.path)
