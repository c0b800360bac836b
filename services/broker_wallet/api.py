"""The wallet's HTTP: holds and deposits for our own services, balances and statement for their owner.

What writes needs the internal token. Reads take the account from the access token; another service may name it in
the query together with the internal token.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mybroker.contracts.http_broker import PAGE_ITEMS, PAGE_ITEMS_MAX
from mybroker.contracts.problems import RETRY_AFTER_S, status_of, title_of
from mybroker.domain.instrument import asset_of, is_ticker
from mybroker.domain.money import notional_cents, parse_cents, parse_price_ticks
from mybroker.domain.order import Side
from mybroker.domain.schedule import parse_instant_ns
from mybroker.runtime.auth import INTERNAL_HEADER, Verifier, check_internal
from mybroker.runtime.http import read_body, read_query, reply
from mybroker.runtime.problem import Problem
from mybroker.runtime.settings import Settings
from services.broker_wallet.invariants import Invariants
from services.broker_wallet.ledger.accounts import HOUSE_PREFIX
from services.broker_wallet.ledger.operations import (
    CloseHold,
    Deposit,
    DepositShares,
    Outcome,
    OutcomeKind,
    PlaceHold,
)
from services.broker_wallet.postings import Postings
from services.broker_wallet.views import Views

AMOUNT_MAX = 10**15
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
Quantity = Annotated[int, msgspec.Meta(gt=0, le=10**10)]


class HoldBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /holds. `quantity_shares` is the order's total, `price_ticks` the worst price (0 for a sell)."""

    order_id: Name
    revision: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    account: Name
    ticker: Name
    side: Side
    quantity_shares: Quantity
    price_ticks: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    at_ns: int


class VoidBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /holds/{order_id}/void."""

    account: Name
    ticker: Name
    side: Side
    at_ns: int


class SharesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of a deposit; `price` is what one cost."""

    ticker: Name
    quantity: Quantity
    price: str | None = None


class DepositBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /deposits. All of it or nothing, once by deposit_id."""

    deposit_id: Name
    account: Name
    cash: str = "0"
    shares: tuple[SharesBody, ...] = ()
    at: str | None = None


class HoldAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an order holds now, in cents (buy) or shares (sell)."""

    order_id: str
    held: int
    outcome: str


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    cursor: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_ITEMS_MAX)] = PAGE_ITEMS
    account: str | None = None


class WalletApi:
    """The endpoints."""

    def __init__(
        self,
        *,
        postings: Postings,
        views: Views,
        verifier: Verifier,
        settings: Settings,
        check: Callable[[], Awaitable[Invariants]],
        session_now_ns: Callable[[], int],
    ) -> None:
        self._postings = postings
        self._views = views
        self._verifier = verifier
        self._settings = settings
        self._check = check
        self._session_now_ns = session_now_ns

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the service."""
        return [
            Route("/holds", self.hold, methods=["POST"]),
            Route("/holds/{order_id}/void", self.void, methods=["POST"]),
            Route("/deposits", self.deposit, methods=["POST"]),
            Route("/wallet", self.wallet),
            Route("/wallet/statement", self.statement),
            Route("/positions", self.positions),
            Route("/internal/invariants", self.check),
        ]

    async def hold(self, request: Request) -> Response:
        """Hold for a revision of an order; the same again gives the same answer."""
        check_internal(request, self._settings)
        body = await read_body(request, HoldBody)
        if body.side is Side.BUY and body.price_ticks == 0:
            raise Problem(422, "malformed_body", "expected price_ticks above 0 for a buy, was 0", path="$.price_ticks")
        asked = PlaceHold(
            order_id=body.order_id,
            revision=body.revision,
            account=_owner(body.account),
            asset=_asset(body.ticker),
            side=body.side,
            quantity_shares=body.quantity_shares,
            price_ticks=body.price_ticks if body.side is Side.BUY else 0,
            at_ns=body.at_ns,
        )
        outcome = await self._postings.post(asked)
        _refuse(outcome, "hold_conflict", asked.key, asked.content)
        return reply(HoldAnswer(order_id=body.order_id, held=outcome.held, outcome=outcome.kind))

    async def void(self, request: Request) -> Response:
        """Let go what an order holds and bar its id. Only for an order that is known to be done at the exchange."""
        check_internal(request, self._settings)
        body = await read_body(request, VoidBody)
        order_id = request.path_params["order_id"]
        asked = CloseHold(
            order_id=order_id,
            account=_owner(body.account),
            asset=_asset(body.ticker),
            side=body.side,
            at_ns=body.at_ns,
        )
        outcome = await self._postings.post(asked)
        return reply(HoldAnswer(order_id=order_id, held=outcome.held, outcome=outcome.kind))

    async def deposit(self, request: Request) -> Response:
        """Pay in cash and shares: 201, or 200 when this deposit was made before."""
        check_internal(request, self._settings)
        body = await read_body(request, DepositBody)
        cash_cents = parse_cents(body.cash)
        if cash_cents is None or not 0 <= cash_cents <= AMOUNT_MAX:
            raise Problem(422, "malformed_body", f"expected reais as 1000.00, was {body.cash!r}", path="$.cash")
        if cash_cents == 0 and not body.shares:
            raise Problem(422, "malformed_body", "expected cash or shares, was neither", path="$")
        shares = tuple(_shares(part) for part in body.shares)
        if len({part.asset for part in shares}) != len(shares):
            raise Problem(422, "malformed_body", "expected each asset once", path="$.shares")
        asked = Deposit(
            deposit_id=body.deposit_id,
            account=_owner(body.account),
            cash_cents=cash_cents,
            shares=shares,
            at_ns=self._instant(body.at),
        )
        outcome = await self._postings.post(asked)
        _refuse(outcome, "deposit_conflict", asked.key, asked.content)
        wallet = await self._views.wallet(body.account)
        return reply(wallet, 201 if outcome.kind is OutcomeKind.DONE else 200)

    async def wallet(self, request: Request) -> Response:
        """Cash and shares of the account in the token."""
        page = read_query(request, _Page)
        return reply(await self._views.wallet(await self._account(request, page)))

    async def positions(self, request: Request) -> Response:
        """Positions of the account in the token."""
        page = read_query(request, _Page)
        return reply(await self._views.positions(await self._account(request, page)))

    async def statement(self, request: Request) -> Response:
        """Entries of the account in the token, oldest first, after `cursor`."""
        page = read_query(request, _Page)
        account = await self._account(request, page)
        return reply(await self._views.statement(account, after=page.cursor, limit=page.limit))

    async def check(self, request: Request) -> Response:
        """All invariants, recomputed from entries now."""
        check_internal(request, self._settings)
        return reply(await self._check())

    async def _account(self, request: Request, page: _Page) -> str:
        if page.account is not None and INTERNAL_HEADER in request.headers:
            check_internal(request, self._settings)
            return page.account
        return (await self._verifier.verify(request, "read")).account

    def _instant(self, text: str | None) -> int:
        if text is None:
            return self._session_now_ns()
        at_ns = parse_instant_ns(text)
        if at_ns is None:
            raise Problem(422, "malformed_body", f"expected an RFC 3339 time, was {text!r}", path="$.at")
        return at_ns


def _refuse(outcome: Outcome, conflict_code: str, key: str, content: str) -> None:
    """Raise the problem of an outcome that is none of the good ones."""
    if outcome.kind is OutcomeKind.CONFLICT:
        detail = f"{key}: expected {outcome.expected}, was {content}"
        raise Problem(409, conflict_code, detail)
    if outcome.reason is not None:
        status = status_of(outcome.reason)
        wait_s = RETRY_AFTER_S if status in (429, 503) else None
        raise Problem(status, outcome.reason.value, f"{title_of(outcome.reason)} ({key})", retry_after_s=wait_s)


def _asset(ticker: str) -> str:
    if not is_ticker(ticker):
        raise Problem(422, "malformed_body", f"expected a ticker as PETR4, was {ticker!r}", path="$.ticker")
    return asset_of(ticker)


def _owner(account: str) -> str:
    if account.startswith(HOUSE_PREFIX):
        raise Problem(422, "malformed_body", f"expected a customer's account, was {account!r}", path="$.account")
    return account


def _shares(part: SharesBody) -> DepositShares:
    price_ticks = 0 if part.price is None else parse_price_ticks(part.price)
    if not isinstance(price_ticks, int):
        raise Problem(422, "malformed_body", f"price: {price_ticks.value}, was {part.price!r}", path="$.shares")
    return DepositShares(
        asset=_asset(part.ticker),
        quantity_shares=part.quantity,
        cost_cents=notional_cents(price_ticks, part.quantity),
    )
