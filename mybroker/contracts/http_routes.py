"""The public API as one table: the gateway routes by it, and OpenAPI is written from it.

Paths are those under API_PREFIX; the service behind answers under the same path unless `behind` names another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mybroker.contracts import http_assets, http_broker, http_feed, http_identity
from mybroker.contracts.feed import BookSnapshot

API_PREFIX = "/api/v1"

SCOPE_READ = "read"
SCOPE_TRADE = "trade"


class LimitClass(StrEnum):
    """Calls that share one rate limit."""

    LOGIN = "login"
    ORDERS = "orders"
    READS = "reads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter."""

    name: str
    kind: str
    """string or integer."""
    says: str


SESSION = Parameter(name="session", kind="string", says="Which session; needed only while several are open")
LIMIT = Parameter(name="limit", kind="integer", says="At most so many")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRoute:
    """One call. `scope` None: no token is needed. `body` and `reply` are msgspec types; reply None has no body."""

    method: str
    path: str
    service: str
    says: str
    limit: LimitClass = LimitClass.READS
    scope: str | None = None
    query: tuple[Parameter, ...] = ()
    body: type | None = None
    reply: type | None = None
    status: int = 200
    behind: str | None = None
    timeout_ms: int = 5_000
    fallback: bool = False
    """Public data: while the service is away the last answer is given again, marked stale."""


def _identity(path: str, says: str, body: type, reply: type | None, status: int = 200) -> PublicRoute:
    return PublicRoute(
        method="POST",
        path=path,
        service="broker_identity",
        says=says,
        limit=LimitClass.LOGIN,
        body=body,
        reply=reply,
        status=status,
        timeout_ms=10_000,
    )


def _orders(
    method: str,
    path: str,
    says: str,
    *,
    body: type | None = None,
    reply: type = http_broker.Order,
    status: int = 200,
    query: tuple[Parameter, ...] = (),
) -> PublicRoute:
    reads = method == "GET"
    return PublicRoute(
        method=method,
        path=path,
        service="broker_orders",
        says=says,
        limit=LimitClass.READS if reads else LimitClass.ORDERS,
        scope=SCOPE_READ if reads else SCOPE_TRADE,
        body=body,
        reply=reply,
        status=status,
        query=query,
        timeout_ms=5_000 if reads else 10_000,
    )


def _mine(path: str, says: str, reply: type, query: tuple[Parameter, ...] = ()) -> PublicRoute:
    return PublicRoute(
        method="GET", path=path, service="broker_wallet", says=says, scope=SCOPE_READ, reply=reply, query=query
    )


def _public(service: str, path: str, says: str, reply: type, query: tuple[Parameter, ...] = ()) -> PublicRoute:
    return PublicRoute(method="GET", path=path, service=service, says=says, reply=reply, query=query, fallback=True)


_CURSOR = Parameter(name="cursor", kind="string", says="`next` of the page before")
_AFTER_EVENT = Parameter(name="after", kind="integer", says="The last number seen; 0 for all")
_AFTER_TRADE = Parameter(name="after", kind="integer", says="Trades after this number instead of the newest")
_DEPTH = Parameter(name="depth", kind="integer", says="Levels a side")
_TICKER = Parameter(name="ticker", kind="string", says="Only orders of this ticker")
_STATUS = Parameter(name="status", kind="string", says="Only orders of this status")

_FEED = "b3_market_feed"
_ASSETS = "broker_assets"

ROUTES: tuple[PublicRoute, ...] = (
    _identity("/auth/register", "Register", http_identity.Credentials, http_identity.Registered, 201),
    _identity("/auth/token", "Log in", http_identity.Credentials, http_identity.TokenPair),
    _identity("/auth/refresh", "Exchange a refresh token, once", http_identity.RefreshToken, http_identity.TokenPair),
    _identity("/auth/logout", "End a login", http_identity.RefreshToken, None, 204),
    PublicRoute(
        method="GET",
        path="/auth/keys",
        service="broker_identity",
        says="The keys that verify access tokens (JWKS)",
        behind="/.well-known/jwks.json",
        reply=dict,
    ),
    _orders(
        "POST",
        "/orders",
        "Place an order; the same client_order_id again gives the first order back",
        body=http_broker.NewOrderBody,
        status=201,
    ),
    _orders(
        "GET",
        "/orders",
        "My orders, newest first",
        reply=http_broker.OrderList,
        query=(_CURSOR, LIMIT, _STATUS, _TICKER),
    ),
    _orders("GET", "/orders/{id}", "One order with its fills"),
    _orders("PUT", "/orders/{id}", "Replace price or total quantity", body=http_broker.ReplaceBody),
    _orders("DELETE", "/orders/{id}", "Cancel what is left of an order"),
    _orders(
        "GET",
        "/events",
        "My private events after a number, without a gap",
        reply=http_broker.EventList,
        query=(_AFTER_EVENT, LIMIT),
    ),
    _mine("/wallet", "Cash and shares: available and held", http_broker.Wallet),
    _mine("/wallet/statement", "Every movement, oldest first", http_broker.Statement, (_CURSOR, LIMIT)),
    _mine("/positions", "Positions with average price", http_broker.Positions),
    _public(
        _FEED, "/state", "A whole session: markets and the summary of every ticker", http_feed.SessionState, (SESSION,)
    ),
    _public(_FEED, "/markets", "The markets of all open sessions", http_feed.MarketList),
    _public(
        _FEED,
        "/markets/{market}/status",
        "A market's phase, and every instrument's phase and theoretical price",
        http_feed.MarketStatus,
        (SESSION,),
    ),
    _public(_FEED, "/book/{ticker}", "A book by price level", BookSnapshot, (_DEPTH, SESSION)),
    _public(_FEED, "/trades/{ticker}", "Trades, oldest first", http_feed.TradeList, (LIMIT, _AFTER_TRADE, SESSION)),
    _public(_FEED, "/candles/{ticker}", "One-minute candles of the day", http_feed.CandleList, (LIMIT, SESSION)),
    _public(_ASSETS, "/assets", "The catalogue", http_assets.AssetList),
    _public(_ASSETS, "/assets/{ticker}", "One instrument", http_assets.Asset),
    _public(_ASSETS, "/quotes", "The last quotes from outside the market", http_assets.QuoteList),
    _public(_ASSETS, "/quotes/{ticker}", "The last quote of a ticker, with its source and age", http_assets.LastQuote),
)
