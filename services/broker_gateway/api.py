"""The REST side: each row of the route table becomes a route that checks, limits and forwards.

The order of checks is fixed: the path, the token, the rate, the body's size, then the service. Every answer under the
API's prefix, refusals included, carries X-RateLimit-*.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mybroker.contracts.http_routes import API_PREFIX, ROUTES, LimitClass, PublicRoute
from mybroker.contracts.openapi import openapi_text
from mybroker.runtime.auth import Verifier
from mybroker.runtime.problem import Problem
from services.broker_gateway.limits import Allowance, RateLimits
from services.broker_gateway.upstream import Upstreams

PASSED_ON = ("authorization", "content-type", "accept", "idempotency-key", "x-request-id")
PATH_ARGUMENT_LENGTH_MAX = 80
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:;"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """The handlers of the gateway."""

    def __init__(self, upstreams: Upstreams, verifier: Verifier, limits: RateLimits, page: Path) -> None:
        self._upstreams = upstreams
        self._verifier = verifier
        self._limits = limits
        self._page = page
        self._openapi = openapi_text()

    def routes(self) -> list[BaseRoute]:
        """Return the page, the API, and what answers every other path under the prefix."""
        routes: list[BaseRoute] = [
            Route("/", self.page),
            Route(f"{API_PREFIX}/openapi.json", self._limited(LimitClass.READS, None, self._document)),
        ]
        for route in ROUTES:
            endpoint = self._limited(route.limit, route.scope, self._forwarding(route))
            routes.append(Route(API_PREFIX + route.path, endpoint, methods=[route.method]))
        unknown = self._limited(LimitClass.READS, None, _unknown)
        routes.append(Route(API_PREFIX + "/{rest:path}", unknown, methods=list(METHODS)))
        return routes

    async def page(self, _request: Request) -> Response:
        """The page: one file, read at each call so that an edit shows at once."""
        if not self._page.exists():
            raise Problem(404, "no_page", "the page is not installed here")
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return Response(self._page.read_bytes(), headers=headers, media_type="text/html; charset=utf-8")

    async def _document(self, _request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    def _limited(self, class_: LimitClass, scope: str | None, endpoint: Endpoint) -> Endpoint:
        """Check token and rate before `endpoint`, and put the limit's headers on whatever comes back."""

        async def limited(request: Request) -> Response:
            address = address_of(request)
            caller, refusal = address, None
            if scope is not None:
                try:
                    caller = (await self._verifier.verify(request, scope)).account
                except Problem as problem:
                    refusal = problem
            allowance = await self._limits.take(class_, caller)
            if allowance.refused:
                raise _too_many(allowance)
            try:
                if refusal is not None:
                    raise refusal
                response = await endpoint(request)
            except Problem as problem:
                problem.headers.update(allowance.headers())
                raise
            response.headers.update(allowance.headers())
            return response

        return limited

    def _forwarding(self, route: PublicRoute) -> Endpoint:
        template = route.behind or route.path

        async def forward(request: Request) -> Response:
            answer = await self._upstreams.call(
                route.service,
                route.method,
                filled(template, request),
                query=request.url.query,
                body=await request.body() if route.body is not None else b"",
                headers=headers_for(request),
                timeout_ms=route.timeout_ms,
                fallback=route.fallback,
            )
            return Response(answer.body, answer.status, dict(answer.headers))

        return forward


def filled(template: str, request: Request) -> str:
    """Put the request's path arguments into a service's path. Raises Problem 404 for what no id looks like."""
    path = template
    for name, value in request.path_params.items():
        text = str(value)
        if not re.fullmatch(r"[\w.:@+-]+", text) or len(text) > PATH_ARGUMENT_LENGTH_MAX or text in (".", ".."):
            raise Problem(404, "not_found", f"there is no such {name}")
        path = path.replace("{" + name + "}", text)
    return path


def headers_for(request: Request) -> dict[str, str]:
    """Return what of the caller's headers a service may see, with the caller's address."""
    passed = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    return {**passed, "X-Forwarded-For": address_of(request)}


def address_of(request: Request) -> str:
    """Return the caller's address. Behind an ingress uvicorn resolves it; headers of clients are not believed."""
    return request.client.host if request.client else "unknown"


def allowed_methods(path: str, routes: Sequence[PublicRoute] = ROUTES) -> list[str]:
    """Return the methods a path under the prefix knows."""
    return sorted(
        {route.method for route in routes if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), path) is not None}
    )


async def _unknown(request: Request) -> Response:
    methods = allowed_methods("/" + str(request.path_params["rest"]))
    if methods:
        allow = ", ".join(methods)
        raise Problem(405, "method_not_allowed", f"expected {allow}", headers={"Allow": allow})
    raise Problem(404, "not_found", f"see {API_PREFIX}/openapi.json for what there is")


def _too_many(allowance: Allowance) -> Problem:
    return Problem(
        429,
        "rate_limited",
        f"expected at most {allowance.limit.per_second} calls a second",
        retry_after_s=-(-allowance.wait_ms // 1000),
        headers=allowance.headers(),
    )
