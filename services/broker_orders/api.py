"""The HTTP of broker_orders: orders and private events of the account in the token, and everything for the audit.

The public paths are the gateway's `/api/v1` paths without that prefix. `/internal/*` needs the internal token.
"""

import asyncio
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mybroker.contracts.http_broker import PAGE_ITEMS, PAGE_ITEMS_MAX, NewOrderBody, ReplaceBody
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.auth import INTERNAL_HEADER, Verifier, check_internal
from mybroker.runtime.http import read_body, read_query, reply
from mybroker.runtime.problem import Problem
from mybroker.runtime.settings import Settings
from services.broker_orders.day_check import DayCheck
from services.broker_orders.desk import Listeners
from services.broker_orders.intake import Intake, refusal_problem
from services.broker_orders.lifecycle import Status
from services.broker_orders.order_view import order_view
from services.broker_orders.reads import Reads

EVENTS_WAIT_MS_MAX = 20_000

Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_ITEMS_MAX)]


class _OrdersQuery(msgspec.Struct, frozen=True, kw_only=True):
    cursor: str | None = None
    limit: Limit = PAGE_ITEMS
    status: str | None = None
    ticker: str | None = None
    client_order_id: str | None = None
    account: str | None = None


class _EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Limit = PAGE_ITEMS_MAX
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=EVENTS_WAIT_MS_MAX)] = 0
    account: str | None = None


class _Events(msgspec.Struct, frozen=True, kw_only=True):
    events: tuple[msgspec.Raw, ...]
    last: int


class OrdersApi:
    """The endpoints."""

    def __init__(
        self,
        *,
        intake: Intake,
        reads: Reads,
        listeners: Listeners,
        verifier: Verifier,
        settings: Settings,
        day_check: DayCheck,
    ) -> None:
        self._intake = intake
        self._reads = reads
        self._listeners = listeners
        self._verifier = verifier
        self._settings = settings
        self._day_check = day_check

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the service."""
        return [
            Route("/orders", self.place, methods=["POST"]),
            Route("/orders", self.list, methods=["GET"]),
            Route("/orders/{order_id}", self.read, methods=["GET"]),
            Route("/orders/{order_id}", self.cancel, methods=["DELETE"]),
            Route("/orders/{order_id}", self.replace, methods=["PUT"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/internal/orders", self.audit, methods=["GET"]),
            Route("/internal/day-check", self.check_day, methods=["POST"]),
        ]

    async def place(self, request: Request) -> Response:
        """Place an order: 201, or 200 with the first one under its client id."""
        principal = await self._verifier.verify(request, "trade")
        body = await read_body(request, NewOrderBody)
        placed = await self._intake.place(principal.account, body)
        return reply(order_view(placed.order), 201 if placed.new else 200)

    async def list(self, request: Request) -> Response:
        """Orders of the account, newest first; `status` takes several with commas between, or `open`."""
        query = read_query(request, _OrdersQuery)
        account = await self._account(request, query.account)
        page = await self._reads.page(
            account=account,
            before=query.cursor,
            limit=query.limit,
            status=_statuses(query.status),
            ticker=query.ticker,
            client_order_id=query.client_order_id,
        )
        return reply(page)

    async def read(self, request: Request) -> Response:
        """One order with its fills."""
        principal = await self._verifier.verify(request, "read")
        order_id = request.path_params["order_id"]
        order = await self._reads.order(principal.account, order_id)
        if order is None:
            raise refusal_problem(RejectReason.UNKNOWN_ORDER, order_id=order_id)
        return reply(order)

    async def cancel(self, request: Request) -> Response:
        """Ask for a cancel: 202 with the order; what became of it comes as an event."""
        principal = await self._verifier.verify(request, "trade")
        order = await self._intake.cancel(principal.account, request.path_params["order_id"])
        return reply(order_view(order), 202)

    async def replace(self, request: Request) -> Response:
        """Ask for other terms: 202 with the order; what became of it comes as an event."""
        principal = await self._verifier.verify(request, "trade")
        body = await read_body(request, ReplaceBody)
        order = await self._intake.replace(principal.account, request.path_params["order_id"], body)
        return reply(order_view(order), 202)

    async def events(self, request: Request) -> Response:
        """Private events after a number; `wait_ms` waits for the next one where there is none yet."""
        query = read_query(request, _EventsQuery)
        account = await self._account(request, query.account)
        give_up_at = asyncio.get_running_loop().time() + query.wait_ms / 1000
        while True:
            ticket = self._listeners.ticket(account)
            events, last = await self._reads.events(account, after=query.after, limit=query.limit)
            left_s = give_up_at - asyncio.get_running_loop().time()
            if events or left_s <= 0:
                return reply(_Events(events=tuple(events), last=last))
            try:
                async with asyncio.timeout(left_s):
                    await ticket.wait()
            except TimeoutError:
                return reply(_Events(events=(), last=last))

    async def audit(self, request: Request) -> Response:
        """Every account's orders with their fills, newest first."""
        check_internal(request, self._settings)
        query = read_query(request, _OrdersQuery)
        page = await self._reads.page(
            account=query.account,
            before=query.cursor,
            limit=query.limit,
            status=_statuses(query.status),
            ticker=query.ticker,
            client_order_id=query.client_order_id,
            with_fills=True,
        )
        return reply(page)

    async def check_day(self, request: Request) -> Response:
        """Compare our fills of a session's day with the exchange's trades of us."""
        check_internal(request, self._settings)
        return reply(await self._day_check.run(request.query_params.get("session")))

    async def _account(self, request: Request, named: str | None) -> str:
        if named is not None and INTERNAL_HEADER in request.headers:
            check_internal(request, self._settings)
            return named
        return (await self._verifier.verify(request, "read")).account


def _statuses(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [status.value for status in Status]
    if text == "open":
        return [name for name in names if name not in ("filled", "canceled", "rejected", "expired")]
    wanted = text.split(",")
    for name in wanted:
        if name not in names:
            expected = ", ".join(["open", *names])
            raise Problem(
                422, "malformed_query", f"status: expected one of {expected}, was {name[:40]}", path="$.status"
            )
    return wanted
