"""The OpenAPI document of the public API, written from the route table. Pure: the same table gives the same text."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mybroker.contracts.http_gateway import Authenticated, EventMessage, EventsFrom, ProblemBody
from mybroker.contracts.http_routes import API_PREFIX, ROUTES, PublicRoute

TITLE = "My Broker B3"
VERSION = "1"

_LIMIT_HEADERS = {
    "X-RateLimit-Limit": "Calls that may be made at once",
    "X-RateLimit-Remaining": "Calls left now",
    "X-RateLimit-Reset": "Seconds until all are back",
}
_STREAM_SAYS = (
    "WebSocket. Send `{op: subscribe, channels, tickers}` with channels of book, trades, phase, quotes, candles; after"
    " `{op: authenticate, token}` also `events` with `after` = the last private event seen. Books come as a snapshot,"
    " then deltas whose `prev` is the last `seq`; quantities are absolute and 0 deletes a level."
)


def openapi_document() -> dict[str, Any]:
    """Return the document as plain values."""
    types = [route.reply for route in ROUTES if route.reply not in (None, dict)]
    types += [route.body for route in ROUTES if route.body is not None]
    types += [ProblemBody, Authenticated, EventMessage, EventsFrom]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(unique, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(API_PREFIX + route.path, {})[route.method.lower()] = _operation(route, schema_of)
    paths[f"{API_PREFIX}/stream"] = {
        "get": {
            "operationId": "stream",
            "tags": ["stream"],
            "summary": "Market data and private events, live",
            "description": _STREAM_SAYS,
            "responses": {"101": {"description": "Switching protocols"}},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": "Mercado simulado: nothing here is a real market."},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def openapi_text() -> str:
    """Return the document as it is committed and served."""
    return msgspec.json.format(msgspec.json.encode(openapi_document(), order="deterministic"), indent=2).decode() + "\n"


def _operation(route: PublicRoute, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [route.service],
        "summary": route.says,
        "responses": _responses(route, schema_of),
    }
    if route.scope is not None:
        operation["security"] = [{"token": []}]
        operation["description"] = f"Needs a token with the scope `{route.scope}`."
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": query.name, "in": "query", "description": query.says, "schema": {"type": query.kind}}
        for query in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[route.body]}},
        }
    return operation


def _responses(route: PublicRoute, schema_of: dict[Any, Any]) -> dict[str, Any]:
    headers = {name: {"description": says, "schema": {"type": "integer"}} for name, says in _LIMIT_HEADERS.items()}
    good: dict[str, Any] = {"description": "Done", "headers": headers}
    if route.reply is not None:
        schema = {"type": "object"} if route.reply is dict else schema_of[route.reply]
        good["content"] = {"application/json": {"schema": schema}}
    problem = {
        "description": "A problem; `code` is stable",
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema_of[ProblemBody]}},
    }
    return {str(route.status): good, "default": problem}


def _operation_id(route: PublicRoute) -> str:
    words = re.sub(r"[{}]", "", route.path).strip("/").replace("/", "_")
    return f"{route.method.lower()}_{words}"
