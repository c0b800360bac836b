"""The HTTP floor, server and client against each other over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.runtime.breaker import BreakerState
from mybroker.runtime.clock import ManualClock
from mybroker.runtime.http import build_app, read_body, read_query, reply, serve
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.problem import Problem, Unavailable
from mybroker.runtime.settings import load
from mybroker.runtime.telemetry import current_trace, tracing


class Ticket(msgspec.Struct, frozen=True):
    ticker: str
    quantity: int


class Page(msgspec.Struct, frozen=True):
    limit: int = 50


class Target:
    """A service under test: what it was asked, and how often it is to fail first."""

    def __init__(self) -> None:
        self.port = 0
        self.calls = 0
        self.failures = 0
        self.context: AppContext | None = None

    async def orders(self, request: Request) -> Response:
        self.calls += 1
        ticket = await read_body(request, Ticket)
        if ticket.ticker == "BOOM":
            raise RuntimeError("a bug")
        if ticket.ticker == "POOR":
            raise Problem(409, "insufficient_funds", "needs 10", needed_cents=10)
        return reply({"id": "o1", "quantity": ticket.quantity}, 201)

    async def page(self, request: Request) -> Response:
        trace = current_trace()
        return reply({"limit": read_query(request, Page).limit, "trace": trace.trace_id if trace else None})

    async def shaky(self, request: Request) -> Response:
        self.calls += 1
        if self.calls <= self.failures:
            raise Problem(503, "busy", retry_after_s=3)
        return reply({"calls": self.calls})

    async def slow(self, request: Request) -> Response:
        self.calls += 1
        await asyncio.sleep(30)
        return reply({})


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    service = Target()
    context = AppContext("target", load({"MYBROKER_NAMESPACE": "local", "MYBROKER_SESSION": "test"}))
    service.context = context
    routes = [
        Route("/orders", service.orders, methods=["POST"]),
        Route("/orders/{order_id}/page", service.page),
        Route("/shaky", service.shaky, methods=["GET", "POST"]),
        Route("/slow", service.slow, methods=["GET", "POST"]),
    ]
    context.readiness.declare("database")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        service.port = free.getsockname()[1]
    app = build_app("target", routes, context.readiness, body_bytes_max=200)
    context.supervise("http", serve(app, "127.0.0.1", service.port, context))
    await until(lambda: "http" not in context.readiness.waiting_for())
    yield service
    context.stopping.set()
    assert await context.wait_until_stopped() == 0


@pytest.fixture
async def client(target: Target) -> AsyncIterator[HttpClient]:
    client = HttpClient({"target": f"http://127.0.0.1:{target.port}/", "nobody": "http://127.0.0.1:9"})
    yield client
    await client.close()


async def until(condition: Callable[[], bool], deadline_s: float = 5) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_readiness_names_the_gates_that_are_closed(target: Target, client: HttpClient) -> None:
    assert target.context is not None
    with pytest.raises(Problem) as caught:
        await client.call("GET", "target", "/readyz", idempotent=False)
    assert caught.value.status == 503
    assert caught.value.extra["waiting_for"] == ["database"]
    target.context.readiness.open("database")
    assert (await client.call("GET", "target", "/readyz", reply=dict))["ready"] is True
    assert (await client.call("GET", "target", "/healthz", reply=dict))["status"] == "alive"


BAD_BODIES = [
    (b"{", 422, "malformed_body", "$"),
    (b'{"ticker":"PETR4","quantity":"many"}', 422, "malformed_body", "$.quantity"),
    (b'{"ticker":"PETR4"}', 422, "malformed_body", "$"),
    (b'"' + b"x" * 300 + b'"', 413, "body_too_large", None),
    (b'{"ticker":"POOR","quantity":1}', 409, "insufficient_funds", None),
    (b'{"ticker":"BOOM","quantity":1}', 500, "internal_error", None),
]


@pytest.mark.parametrize(("body", "status", "code", "path"), BAD_BODIES)
async def test_what_is_wrong_comes_back_as_a_problem(
    target: Target, client: HttpClient, body: bytes, status: int, code: str, path: str | None
) -> None:
    with pytest.raises(Problem) as caught:
        await client.call("POST", "target", "/orders", body=msgspec.Raw(body))
    assert (caught.value.status, caught.value.code, caught.value.extra.get("path")) == (status, code, path)
    assert target.calls == 1


async def test_a_refusal_keeps_its_code_detail_and_extra_members(client: HttpClient, target: Target) -> None:
    with pytest.raises(Problem) as caught:
        await client.call("POST", "target", "/orders", body=Ticket("POOR", 1))
    assert caught.value.detail == "needs 10"
    assert caught.value.extra == {"needed_cents": 10}


@pytest.mark.parametrize(("path", "code"), [("/nothing", "not_found"), ("/orders", "method_not_allowed")])
async def test_an_unknown_route_is_a_problem_too(client: HttpClient, path: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        await client.call("GET", "target", path)
    assert caught.value.code == code


async def test_the_trace_goes_along_and_durations_are_counted_by_template(client: HttpClient) -> None:
    with tracing(None) as trace:
        answer = await client.call("GET", "target", "/orders/o7/page", query={"limit": 3}, reply=dict)
    assert answer == {"limit": 3, "trace": trace.trace_id}
    metrics = await client.call("GET", "target", "/metrics")
    assert b'route="/orders/{order_id}/page",status="200"' in metrics
    assert b"o7" not in metrics


async def test_a_query_that_is_no_number_is_refused_with_its_path(client: HttpClient) -> None:
    with pytest.raises(Problem) as caught:
        await client.call("GET", "target", "/orders/o7/page", query={"limit": "x"})
    assert (caught.value.code, caught.value.extra["path"]) == ("malformed_query", "$.limit")


RETRIES = [("GET", None, 2, 3), ("POST", None, 1, 1), ("POST", True, 2, 3)]


@pytest.mark.parametrize(("method", "idempotent", "failures", "calls"), RETRIES)
async def test_only_what_may_be_repeated_is_repeated(
    target: Target, client: HttpClient, method: str, idempotent: bool | None, failures: int, calls: int
) -> None:
    target.failures = failures
    if calls > failures:
        await client.call(method, "target", "/shaky", idempotent=idempotent)
    else:
        with pytest.raises(Problem, match="busy") as caught:
            await client.call(method, "target", "/shaky", idempotent=idempotent)
        assert caught.value.retry_after_s == 3
    assert target.calls == calls


async def test_a_timeout_of_a_call_that_must_not_be_repeated_says_unavailable(
    target: Target, client: HttpClient
) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        await client.call("POST", "target", "/slow", timeout_ms=50)
    assert target.calls == 1


async def test_a_dead_target_opens_its_breaker_and_a_good_answer_closes_it(target: Target) -> None:
    clock = ManualClock()
    client = HttpClient({"target": "http://127.0.0.1:9"}, clock=clock)
    breaker = client._breakers["target"]
    try:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.call("GET", "target", "/healthz")
        assert breaker.state == BreakerState.OPEN
        with pytest.raises(Unavailable, match="breaker is open") as caught:
            await client.call("GET", "target", "/healthz")
        assert caught.value.retry_after_s == 2
        client._targets["target"] = f"http://127.0.0.1:{target.port}"
        clock.advance(ms=2_000)
        await client.call("GET", "target", "/healthz")
        assert breaker.state.name == "CLOSED"
    finally:
        await client.close()


async def test_an_answer_of_another_shape_is_a_problem_of_the_target(client: HttpClient) -> None:
    with pytest.raises(Problem) as caught:
        await client.call("GET", "target", "/healthz", reply=Ticket)
    assert (caught.value.status, caught.value.code) == (502, "malformed_reply")
