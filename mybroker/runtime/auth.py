"""Who is asking: access tokens verified offline, and the shared secret between services.

Identity signs short-lived tokens; everyone else checks them against its published key set, which is cached, fetched
again when it is old, and at once when a token names a key that is not in it (rotation). When identity is away the
cached keys go on working. The account always comes from the token, never from a body or a path.

Codes of refusals: `token_missing`, `token_invalid`, `token_expired` (401), `scope_missing` (403),
`internal_token_invalid` (401).
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from mybroker.runtime.clock import Clock, WallClock
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.logging import get_logger
from mybroker.runtime.problem import Problem, Unavailable
from mybroker.runtime.settings import Settings
from mybroker.runtime.telemetry import counter

ISSUER = "mybroker-identity"
AUDIENCE = "mybroker"
ALGORITHMS = ("ES256", "EdDSA", "Ed25519")

JWKS_PATH = "/.well-known/jwks.json"
KEYS_AGE_MAX_MS = 300_000
"""Keys older than this are fetched again, in the background of the first request that notices."""
KEYS_FETCH_GAP_MS = 2_000
"""At most one fetch in this time, however many tokens name unknown keys."""
LEEWAY_S = 5
TOKEN_BYTES_MAX = 4_096
VERIFIED_TOKENS_MAX = 10_000

INTERNAL_HEADER = "X-Internal-Token"
INTERNAL_SECRET = "internal_token"

_REFUSED = counter("mbb3_tokens_refused_total", "Requests refused for their token", ["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a token speaks for. `expires_at_s` is the token's end, seconds since 1970."""

    account: str
    user: str
    scopes: frozenset[str]
    expires_at_s: int = 0


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    iss: str
    aud: str
    sub: str
    account: str
    scope: str
    exp: int


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    alg: str
    kid: str


FetchKeys = Callable[[], Awaitable[bytes]]
Endpoint = Callable[[Request, Principal], Awaitable[Response]]


class Verifier:
    """Verifies access tokens. `fetch` gets the JWKS document; `over_http` makes one that asks identity."""

    def __init__(self, fetch: FetchKeys, *, clock: Clock | None = None) -> None:
        self._fetch = fetch
        self._clock: Clock = clock or WallClock()
        self._keys: KeySet | None = None
        self._document = b""
        self._fetched_at_ns = 0
        self._asked_at_ns = 0
        self._fetching = asyncio.Lock()
        self._refresh: asyncio.Task[None] | None = None
        self._verified: OrderedDict[str, Principal] = OrderedDict()

    async def verify(self, request: HTTPConnection, scope: str | None = None) -> Principal:
        """Return who is asking by the Authorization header. Raises Problem 401, 403 or 503."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("token_missing", "expected an Authorization header: Bearer and an access token")
        return await self.verify_token(token.strip(), scope)

    async def verify_token(self, token: str, scope: str | None = None) -> Principal:
        """Return who a token speaks for; `scope` must be among its scopes. Raises Problem 401, 403 or 503."""
        principal = self._verified.get(token)
        if principal is None:
            principal = await self._check(token)
            self._verified[token] = principal
            if len(self._verified) > VERIFIED_TOKENS_MAX:
                self._verified.popitem(last=False)
        if principal.expires_at_s + LEEWAY_S <= self._clock.now_ns() // 1_000_000_000:
            self._verified.pop(token, None)
            raise _unauthorized("token_expired", "the access token has expired; refresh it")
        if scope is not None and scope not in principal.scopes:
            _REFUSED.labels("scope_missing").inc()
            raise Problem(403, "scope_missing", f"expected a token with the scope {scope}", scope=scope)
        return principal

    def require(self, scope: str) -> Callable[[Endpoint], Callable[[Request], Awaitable[Response]]]:
        """Decorate `endpoint(request, principal)` so that it is called only with a token of this scope."""

        def decorate(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
            async def guarded(request: Request) -> Response:
                return await endpoint(request, await self.verify(request, scope))

            return guarded

        return decorate

    async def _check(self, token: str) -> Principal:
        if len(token) > TOKEN_BYTES_MAX:
            raise _unauthorized("token_invalid", f"expected a token of at most {TOKEN_BYTES_MAX} bytes")
        keys = await self._keys_for(_kid(token))
        try:
            decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            claims = msgspec.convert(decoded.claims, _Claims)
        except (JoseError, ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
            raise _unauthorized("token_invalid", "the access token cannot be verified") from error
        if claims.iss != ISSUER or claims.aud != AUDIENCE:
            raise _unauthorized("token_invalid", "the access token was not issued for this broker")
        return Principal(
            account=claims.account, user=claims.sub, scopes=frozenset(claims.scope.split()), expires_at_s=claims.exp
        )

    async def _keys_for(self, kid: str) -> KeySet:
        now_ns = self._clock.monotonic_ns()
        if self._keys is None or not _has(self._keys, kid):
            await self._fetch_once(waiting_for=kid)
        elif now_ns - self._fetched_at_ns > KEYS_AGE_MAX_MS * 1_000_000 and self._refresh is None:
            self._refresh = asyncio.create_task(self._fetch_once())
            self._refresh.add_done_callback(self._refreshed)
        if self._keys is None:
            raise Unavailable("broker_identity", "no signing keys are known yet: identity is not answering")
        if not _has(self._keys, kid):
            raise _unauthorized("token_invalid", "the access token names a key that is not published")
        return self._keys

    async def _fetch_once(self, waiting_for: str | None = None) -> None:
        async with self._fetching:
            if waiting_for is not None and self._keys is not None and _has(self._keys, waiting_for):
                return
            now_ns = self._clock.monotonic_ns()
            if self._asked_at_ns and now_ns - self._asked_at_ns < KEYS_FETCH_GAP_MS * 1_000_000:
                return
            self._asked_at_ns = now_ns
            try:
                document = await self._fetch()
                keys = KeySet.import_key_set(msgspec.json.decode(document, type=dict[str, Any]))  # type: ignore[arg-type]
            except (Problem, JoseError, ValueError, KeyError) as error:
                get_logger().warning("signing_keys_not_fetched", reason=str(error))
                if self._keys is None:
                    self._asked_at_ns = 0
                return
            if document != self._document:
                self._verified.clear()
            self._keys, self._document, self._fetched_at_ns = keys, document, self._clock.monotonic_ns()

    def _refreshed(self, task: "asyncio.Task[None]") -> None:
        self._refresh = None
        if not task.cancelled() and task.exception() is not None:
            get_logger().error("signing_keys_refresh_failed", exc_info=task.exception())


def over_http(settings: Settings, *, clock: Clock | None = None) -> Verifier:
    """Return a verifier that fetches keys from MYBROKER_URL_BROKER_IDENTITY."""
    client = HttpClient({"broker_identity": settings.service_url("broker_identity")})

    async def fetch() -> bytes:
        return await client.call("GET", "broker_identity", JWKS_PATH)

    return Verifier(fetch, clock=clock)


def internal_headers(settings: Settings) -> dict[str, str]:
    """Return the header with which one service proves to another that it is one of us."""
    return {INTERNAL_HEADER: settings.secret(INTERNAL_SECRET)}


def check_internal(request: HTTPConnection, settings: Settings) -> None:
    """Refuse a request that another service did not send. Raises Problem 401 `internal_token_invalid`."""
    given = request.headers.get(INTERNAL_HEADER, "").encode()
    if not hmac.compare_digest(given, settings.secret(INTERNAL_SECRET).encode()):
        _REFUSED.labels("internal_token_invalid").inc()
        raise Problem(401, "internal_token_invalid", f"expected the header {INTERNAL_HEADER} of one of our services")


def _kid(token: str) -> str:
    head = token.partition(".")[0]
    try:
        header = msgspec.json.decode(_base64url(head), type=_Header)
    except (ValueError, msgspec.MsgspecError) as error:
        raise _unauthorized("token_invalid", "expected a signed token with a key id") from error
    if header.alg not in ALGORITHMS:
        raise _unauthorized("token_invalid", f"expected a token signed with {' or '.join(ALGORITHMS)}")
    return header.kid


def _base64url(text: str) -> bytes:
    import base64

    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _has(keys: KeySet, kid: str) -> bool:
    return any(key.kid == kid for key in keys.keys)


def _unauthorized(code: str, detail: str) -> Problem:
    _REFUSED.labels(code).inc()
    challenge = "Bearer" if code == "token_missing" else 'Bearer error="invalid_token"'
    return Problem(401, code, detail, headers={"WWW-Authenticate": challenge})
