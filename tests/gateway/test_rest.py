"""The REST door: what it checks, in which order, and what it does when something behind it is away."""

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mybroker.contracts.generate import stale
from mybroker.contracts.http_routes import API_PREFIX, ROUTES, LimitClass
from mybroker.contracts.openapi import openapi_text
from mybroker.runtime.auth import Verifier
from mybroker.runtime.clock import WallClock
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.settings import SettingsError, load
from services.broker_gateway.api import Api, allowed_methods
from services.broker_gateway.app import PAGE
from services.broker_gateway.limits import DEFAULTS, Allowance, Limit, RateLimits, connect, limits_of
from services.broker_gateway.upstream import Upstreams
from services.broker_identity.tokens import SigningKeys

ENVIRON = {"MYBROKER_NAMESPACE": "local", "MYBROKER_SESSION": "pregao"}
SERVICES = tuple(dict.fromkeys(route.service for route in ROUTES))
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Behind:
    """Every service behind the gateway: remembers what it was asked and answers what it is told to."""

    def __init__(self):
        self.asked = []
        self.answer = lambda request: JSONResponse({"path": request.url.path})
        self.app = Starlette(
            routes=[Route("/{rest:path}", self.hear, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]
        )

    async def hear(self, request):
        self.asked.append((request.method, request.url.path, request.url.query, dict(request.headers)))
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer


class Counted:
    """A limiter that refuses after so many calls."""

    def __init__(self, calls):
        self.left = calls

    async def take(self, class_, caller):
        self.left -= 1
        limit = Limit(per_second=1, burst=2)
        return Allowance(limit=limit, remaining=max(0, self.left), reset_ms=1500, wait_ms=0 if self.left >= 0 else 2100)


class Gateway:
    def __init__(self, session, port, keys, behind, url):
        self.session, self.port, self.keys, self.behind = session, port, keys, behind
        self.behind_url = url

    def token(self, *scopes):
        now_s = WallClock().now_ns() // 1_000_000_000
        return self.keys.issue(user="u1", account="100001", scopes=scopes, token_id="t", now_s=now_s).text

    async def call(self, method, path, *scopes, **more):
        headers = more.pop("headers", {})
        if scopes:
            headers = headers | {"Authorization": f"Bearer {self.token(*scopes)}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, headers=headers, **more) as response:
            body = await response.read()
            return response, (json.loads(body) if body and "json" in response.content_type else body)


@asynccontextmanager
async def listening(context, app, port):
    task = asyncio.create_task(serve(app, "127.0.0.1", port, context))
    while not task.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        break
    yield
    context.stopping.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def open_gateway(tmp_path):
    @asynccontextmanager
    async def opened(limits=None):
        context, behind_context = (AppContext("test", load(ENVIRON)) for _ in range(2))
        behind, port, behind_port = Behind(), free_port(), free_port()
        url = f"http://127.0.0.1:{behind_port}"
        upstreams = Upstreams(dict.fromkeys(SERVICES, url), WallClock())
        keys = SigningKeys(tmp_path)

        async def published():
            return keys.published()

        redis = connect(f"redis://127.0.0.1:{free_port()}/0")
        limits = limits or RateLimits(redis, DEFAULTS, WallClock())
        api = Api(upstreams, Verifier(published), limits, PAGE)
        app = build_app("gateway", api.routes(), context.readiness)
        behind_app = build_app("behind", behind.app.routes, behind_context.readiness)
        async with (
            listening(behind_context, behind_app, behind_port),
            listening(context, app, port),
            aiohttp.ClientSession() as session,
        ):
            yield Gateway(session, port, keys, behind, url)
        await upstreams.close()
        await redis.aclose()

    return opened


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_call_of_the_table_reaches_its_service(open_gateway, route):
    path = re.sub(r"{\w+}", "PETR4", route.path)
    async with open_gateway() as gateway:
        body = b"{}" if route.body is not None else None
        response, _ = await gateway.call(
            route.method, f"{API_PREFIX}{path}?limit=7&after=3", *filter(None, [route.scope]), data=body
        )
        assert response.status == 200
        (asked,) = gateway.behind.asked
        assert asked[:3] == (route.method, re.sub(r"{\w+}", "PETR4", route.behind or route.path), "limit=7&after=3")
        assert asked[3]["x-forwarded-for"] == "127.0.0.1"
        assert asked[3]["traceparent"].split("-")[1] == response.headers["traceparent"].split("-")[1]


@pytest.mark.parametrize(
    ("method", "path", "scopes", "status", "code"),
    [
        ("GET", "/wallet", (), 401, "token_missing"),
        ("POST", "/orders", ("read",), 403, "scope_missing"),
        ("GET", "/nothing", (), 404, "not_found"),
        ("PATCH", "/orders", (), 405, "method_not_allowed"),
        ("GET", "/orders/..%2f..%2finternal", ("read",), 404, "not_found"),
        ("GET", "/book/PETR4%20OR%201", (), 404, "not_found"),
    ],
)
async def test_what_is_refused_at_the_door_never_reaches_a_service(open_gateway, method, path, scopes, status, code):
    async with open_gateway() as gateway:
        response, body = await gateway.call(method, API_PREFIX + path, *scopes)
        assert (response.status, body["code"], response.content_type) == (status, code, "application/problem+json")
        assert all(name in response.headers for name in LIMIT_HEADERS)
        assert gateway.behind.asked == []


async def test_a_wrong_token_is_refused_and_says_so(open_gateway):
    async with open_gateway() as gateway:
        response, body = await gateway.call(
            "GET", f"{API_PREFIX}/wallet", headers={"Authorization": "Bearer not.a.token"}
        )
        assert (response.status, body["code"]) == (401, "token_invalid")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_one_call_too_many_is_told_when_to_come_back(open_gateway):
    async with open_gateway(Counted(1)) as gateway:
        first, _ = await gateway.call("GET", f"{API_PREFIX}/markets")
        second, body = await gateway.call("GET", f"{API_PREFIX}/markets")
        assert (first.status, second.status, body["code"]) == (200, 429, "rate_limited")
        assert second.headers["Retry-After"] == "3"
        assert (second.headers["X-RateLimit-Limit"], second.headers["X-RateLimit-Remaining"]) == ("2", "0")
        assert len(gateway.behind.asked) == 1


async def test_a_body_that_is_too_large_is_refused_with_the_headers_of_every_answer(open_gateway):
    async with open_gateway() as gateway:
        response, body = await gateway.call("POST", f"{API_PREFIX}/orders", "trade", data=b"x" * 100_000)
        assert (response.status, body["code"]) == (413, "body_too_large")
        assert all(name in response.headers for name in LIMIT_HEADERS)


async def test_a_refusal_of_a_service_passes_as_it_is(open_gateway):
    refusal = {"type": "urn:x", "title": "Conflict", "status": 409, "code": "insufficient_funds", "detail": "more"}
    async with open_gateway() as gateway:
        gateway.behind.answer = lambda _: Response(
            json.dumps(refusal), 409, {"Retry-After": "9"}, media_type="application/problem+json"
        )
        response, body = await gateway.call("POST", f"{API_PREFIX}/orders", "trade", data=b"{}")
        assert (response.status, body) == (409, refusal)
        assert (response.headers["Retry-After"], response.content_type) == ("9", "application/problem+json")


def broken(_request):
    return Response("<html>boom</html>", 500)


async def test_a_failing_service_opens_its_breaker_and_is_left_alone(open_gateway):
    async with open_gateway() as gateway:
        gateway.behind.answer = broken
        for _ in range(11):
            await gateway.call("GET", f"{API_PREFIX}/wallet", "read")
        response, body = await gateway.call("GET", f"{API_PREFIX}/wallet", "read")
        assert (response.status, body["code"], body["target"]) == (503, "service_unavailable", "broker_wallet")
        assert int(response.headers["Retry-After"]) >= 1
        assert len(gateway.behind.asked) == 5


async def test_public_data_is_answered_from_what_was_known_and_marked(open_gateway):
    async with open_gateway() as gateway:
        gateway.behind.answer = lambda _: JSONResponse({"bids": [1]})
        await gateway.call("GET", f"{API_PREFIX}/book/PETR4?depth=3")
        gateway.behind.answer = broken
        for _ in range(5):
            await gateway.call("GET", f"{API_PREFIX}/book/PETR4?depth=3")
        known, body = await gateway.call("GET", f"{API_PREFIX}/book/PETR4?depth=3")
        other, problem = await gateway.call("GET", f"{API_PREFIX}/book/VALE3")
        assert (known.status, body, known.headers["X-Stale"]) == (200, {"bids": [1]}, "true")
        assert int(known.headers["Age"]) >= 0
        assert (other.status, problem["code"]) == (503, "service_unavailable")


async def test_an_order_is_never_sent_twice_by_the_gateway(open_gateway, monkeypatch):
    monkeypatch.setattr("services.broker_gateway.api.ROUTES", [one for one in ROUTES if one.path == "/orders"])

    async def too_slow(_request):
        await asyncio.sleep(0.5)
        return JSONResponse({})

    async with open_gateway() as gateway:
        upstreams = Upstreams({"broker_orders": gateway.behind_url}, WallClock())
        gateway.behind.answer = too_slow
        with pytest.raises(Exception, match="whether the call took effect is not known"):
            await upstreams.call("broker_orders", "POST", "/orders", body=b"{}", headers={}, timeout_ms=100)
        await upstreams.close()
        assert len(gateway.behind.asked) == 1


async def test_while_redis_is_away_calls_pass(open_gateway):
    async with open_gateway() as gateway:
        for _ in range(20):
            response, _ = await gateway.call("GET", f"{API_PREFIX}/markets")
            assert response.status == 200
            assert response.headers["X-RateLimit-Limit"] == str(DEFAULTS[LimitClass.READS].burst)


async def test_the_page_loads_nothing_from_elsewhere(open_gateway):
    async with open_gateway() as gateway:
        response, page = await gateway.call("GET", "/")
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        text = page.decode()
        assert "Mercado simulado" in text
        assert re.findall(r"""(?:src|href|@import|url\()\s*=?\s*["']?(https?:)?//""", text) == []


async def test_the_served_openapi_is_the_committed_one(open_gateway):
    assert stale() == [], "run python -m mybroker.contracts.generate"
    async with open_gateway() as gateway:
        _, document = await gateway.call("GET", f"{API_PREFIX}/openapi.json")
        assert document == json.loads(openapi_text())
        assert set(document["paths"]) == {API_PREFIX + route.path for route in ROUTES} | {f"{API_PREFIX}/stream"}


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/orders", ["GET", "POST"]), ("/orders/x", ["DELETE", "GET", "PUT"]), ("/orders/x/y", []), ("/elsewhere", [])],
)
def test_the_table_knows_the_methods_of_a_path(path, methods):
    assert allowed_methods(path) == methods


def test_limits_are_settable_and_a_wrong_one_is_named():
    given = limits_of(load(ENVIRON | {"MYBROKER_LIMIT_LOGIN": "3:9"}))
    assert given[LimitClass.LOGIN] == Limit(per_second=3, burst=9)
    assert given[LimitClass.READS] == DEFAULTS[LimitClass.READS]
    with pytest.raises(SettingsError, match="MYBROKER_LIMIT_ORDERS"):
        limits_of(load(ENVIRON | {"MYBROKER_LIMIT_ORDERS": "many"}))
