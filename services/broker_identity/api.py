"""Identity over HTTP: register, log in, refresh, log out, and the public keys."""

import re
import secrets
from collections.abc import Awaitable, Callable

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.http_identity import (
    Credentials,
    RefreshToken,
    Registered,
    TokenPair,
)
from mybroker.runtime.http import read_body, reply
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.postgres import is_connection_loss
from mybroker.runtime.problem import Problem, Unavailable
from mybroker.runtime.telemetry import counter
from services.broker_identity.opening import Openings
from services.broker_identity.passwords import PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN, Passwords, PasswordsBusy
from services.broker_identity.store import RefreshRefusal, Store, User
from services.broker_identity.tokens import SCOPES_OF_A_USER, SigningKeys

REFRESH_TOKEN_LIFE_S = 14 * 24 * 3600
OPENING_WAIT_MS = 2_000
JWKS_CACHE_S = 60
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{2,63}\Z")

Endpoint = Callable[[Request], Awaitable[Response]]

_LOGINS = counter("mbb3_logins_total", "Logins by outcome", ["outcome"])


class Api:
    """The handlers of identity."""

    def __init__(
        self,
        context: AppContext,
        store: Store,
        keys: SigningKeys,
        passwords: Passwords,
        openings: Openings,
        *,
        opening_cash_cents: int,
    ) -> None:
        self._context = context
        self._store = store
        self._keys = keys
        self._passwords = passwords
        self._openings = openings
        self._opening_cash_cents = opening_cash_cents

    def routes(self) -> list[Route]:
        """Return the routes of this service."""
        return [
            Route("/auth/register", _answering(self.register), methods=["POST"]),
            Route("/auth/token", _answering(self.token), methods=["POST"]),
            Route("/auth/refresh", _answering(self.refresh), methods=["POST"]),
            Route("/auth/logout", _answering(self.logout), methods=["POST"]),
            Route("/.well-known/jwks.json", self.jwks),
        ]

    async def register(self, request: Request) -> Response:
        """Add a user and its account; the opening balance follows, normally before the answer."""
        given = await read_body(request, Credentials)
        username = given.username.strip().lower()
        if not _USERNAME.match(username):
            raise Problem(
                422, "username_malformed", "expected 3 to 64 of a-z, 0-9 and . _ @ + -, a letter or digit first"
            )
        if not PASSWORD_LENGTH_MIN <= len(given.password) <= PASSWORD_LENGTH_MAX:
            detail = f"expected a password of {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters"
            raise Problem(422, "password_length", detail)
        user = await self._store.add_user(
            user_id=self._context.ids.new_id(),
            username=username,
            password_hash=await self._hash(given.password),
            cash_cents=self._opening_cash_cents,
            shares_each=0,
            address=address_of(request),
        )
        if user is None:
            raise Problem(409, "username_taken", "this name is taken")
        paid = await self._openings.pay_soon(user.account, wait_ms=OPENING_WAIT_MS)
        body = Registered(user_id=user.id, account=user.account, username=user.username, opening_paid=paid)
        return reply(body, 201)

    async def token(self, request: Request) -> Response:
        """Log in with name and password."""
        given = await read_body(request, Credentials)
        username, address = given.username.strip().lower(), address_of(request)
        if len(given.password) > PASSWORD_LENGTH_MAX:
            raise _wrong()
        user = await self._store.find_user(username)
        if user is not None and user.locked_s > 0:
            _LOGINS.labels("locked").inc()
            raise Problem(
                429, "account_locked", "too many wrong passwords; wait before the next try", retry_after_s=user.locked_s
            )
        if not await self._verify(user, given.password) or user is None:
            await self._store.login_failed(user, username[:64], address)
            _LOGINS.labels("refused").inc()
            raise _wrong()
        renewed = await self._hash(given.password) if self._passwords.is_outdated(user.password_hash) else None
        refresh = secrets.token_urlsafe(32)
        await self._store.login(
            user,
            family=self._context.ids.new_id(),
            token=refresh,
            life_s=REFRESH_TOKEN_LIFE_S,
            new_hash=renewed,
            address=address,
        )
        _LOGINS.labels("accepted").inc()
        return self._answer(user, refresh)

    async def refresh(self, request: Request) -> Response:
        """Exchange a refresh token for new tokens; it is void afterwards."""
        given = await read_body(request, RefreshToken)
        new = secrets.token_urlsafe(32)
        outcome = await self._store.refresh(
            given.refresh_token, new, life_s=REFRESH_TOKEN_LIFE_S, address=address_of(request)
        )
        if isinstance(outcome, RefreshRefusal):
            raise Problem(401, outcome.value, "log in again", headers={"WWW-Authenticate": "Bearer"})
        return self._answer(outcome, new)

    async def logout(self, request: Request) -> Response:
        """Revoke the session of a refresh token; an unknown token is no error."""
        given = await read_body(request, RefreshToken)
        await self._store.logout(given.refresh_token, address_of(request))
        return Response(status_code=204)

    async def jwks(self, _request: Request) -> Response:
        """Publish the keys that verify our tokens."""
        headers = {"Cache-Control": f"public, max-age={JWKS_CACHE_S}"}
        return Response(self._keys.published(), headers=headers, media_type="application/jwk-set+json")

    def _answer(self, user: User, refresh: str) -> Response:
        token = self._keys.issue(
            user=user.id,
            account=user.account,
            scopes=SCOPES_OF_A_USER,
            token_id=self._context.ids.new_id(),
            now_s=self._context.clock.now_ns() // 1_000_000_000,
        )
        body = TokenPair(
            access_token=token.text,
            expires_in=token.expires_in_s,
            refresh_token=refresh,
            refresh_expires_in=REFRESH_TOKEN_LIFE_S,
            scope=token.scope,
            account=user.account,
        )
        return reply(body, headers={"Cache-Control": "no-store"})

    async def _verify(self, user: User | None, password: str) -> bool:
        try:
            return await self._passwords.verify(user.password_hash if user else None, password)
        except PasswordsBusy as error:
            raise _busy() from error

    async def _hash(self, password: str) -> str:
        try:
            return await self._passwords.hash(password)
        except PasswordsBusy as error:
            raise _busy() from error


def _answering(endpoint: Endpoint) -> Endpoint:
    """Answer 503 instead of 500 while the database is away."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (psycopg.Error, PoolTimeout) as error:
            if not is_connection_loss(error):
                raise
            raise Unavailable("identity_database", "the database is not answering") from error

    return guarded


def address_of(request: Request) -> str:
    """Return the client's address, as the gateway names it."""
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
    return (forwarded or (request.client.host if request.client else ""))[:64]


def _wrong() -> Problem:
    return Problem(401, "credentials_invalid", "name or password is wrong", headers={"WWW-Authenticate": "Bearer"})


def _busy() -> Problem:
    return Problem(503, "login_busy", "too many logins at once", retry_after_s=1)
