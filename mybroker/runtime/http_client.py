"""The HTTP client side: one aiohttp session, a timeout on every hop, traces, retries, a breaker per target.

A call is retried only when the request certainly did not arrive (no connection), or when the caller says that
repeating it is harmless (`idempotent`; GET, PUT and DELETE are by default) and the target was unable (5xx,
timeout). What the target refused (4xx) is raised as the same `Problem` and never retried. When the target stays
unreachable the call raises `Unavailable`; the effect of a call that is not idempotent is then not known.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import TypeVar, overload

import aiohttp
import msgspec

from mybroker.runtime.breaker import Breaker, BreakerState
from mybroker.runtime.clock import Clock, WallClock
from mybroker.runtime.problem import Problem, Unavailable, problem_from
from mybroker.runtime.telemetry import child, inject_mapping

T = TypeVar("T")

TIMEOUT_MS = 2_000
CONNECT_TIMEOUT_MS = 500
ATTEMPTS_MAX = 3
BACKOFF_MS = 50
REPLY_BYTES_MAX = 8 * 1024 * 1024
CONNECTIONS_MAX = 100


class HttpClient:
    """Calls to named targets. `targets` maps a name to a base URL. Close it at the end."""

    def __init__(self, targets: Mapping[str, str], *, clock: Clock | None = None) -> None:
        self._targets = {name: url.rstrip("/") for name, url in targets.items()}
        self._breakers = {name: Breaker(name) for name in targets}
        self._clock: Clock = clock or WallClock()
        self._session: aiohttp.ClientSession | None = None

    @overload
    async def call(
        self,
        method: str,
        target: str,
        path: str,
        *,
        reply: type[T],
        body: object = ...,
        query: Mapping[str, str | int] | None = ...,
        headers: Mapping[str, str] | None = ...,
        timeout_ms: int = ...,
        idempotent: bool | None = ...,
    ) -> T: ...

    @overload
    async def call(
        self,
        method: str,
        target: str,
        path: str,
        *,
        reply: None = ...,
        body: object = ...,
        query: Mapping[str, str | int] | None = ...,
        headers: Mapping[str, str] | None = ...,
        timeout_ms: int = ...,
        idempotent: bool | None = ...,
    ) -> bytes: ...

    async def call(
        self,
        method: str,
        target: str,
        path: str,
        *,
        reply: type[T] | None = None,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int = TIMEOUT_MS,
        idempotent: bool | None = None,
    ) -> T | bytes:
        """Call `target` and decode the answer as `reply` (None: the bytes). `timeout_ms` is for each attempt.

        Raises Problem with the target's own status and code for what it refused, Unavailable when it could not
        be reached or its breaker is open.
        """
        repeatable = method in ("GET", "HEAD", "PUT", "DELETE") if idempotent is None else idempotent
        sent = dict(headers or {}) | inject_mapping(child())
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            sent.setdefault("Content-Type", "application/json")
        breaker = self._breakers[target]
        url = self._targets[target] + path
        last = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await asyncio.sleep(BACKOFF_MS * 2**attempt * (0.5 + random.random()) / 1000)
            now_ns = self._clock.monotonic_ns()
            if not breaker.allows(now_ns):
                wait_s = -(-breaker.retry_after_ms(now_ns) // 1000)
                raise Unavailable(target, f"{target} is not answering; its breaker is open", retry_after_s=wait_s)
            try:
                status, answer, retry_after = await self._attempt(method, url, query, data, sent, timeout_ms)
            except aiohttp.ClientConnectorError as error:
                breaker.failed(self._clock.monotonic_ns())
                last = f"{target} cannot be reached: {type(error).__name__}"
                continue
            except (aiohttp.ClientError, TimeoutError) as error:
                breaker.failed(self._clock.monotonic_ns())
                last = f"{target} did not answer: {type(error).__name__}"
                if not repeatable:
                    break
                continue
            except BaseException:
                breaker.succeeded()  # the caller went away; that says nothing against the target
                raise
            if status < 500:
                breaker.succeeded()
                return _decoded(target, status, answer, retry_after, reply)
            breaker.failed(self._clock.monotonic_ns())
            problem = problem_from(status, answer, retry_after)
            last = f"{target} answered {status}"
            if not repeatable or attempt + 1 == ATTEMPTS_MAX:
                raise problem
        raise Unavailable(target, last)

    def closed_for_ms(self, target: str) -> int | None:
        """Return how long calls to `target` will be refused by its open breaker; None when one may go out now.

        For callers that would rather refuse their own caller early than begin what they cannot finish.
        """
        breaker = self._breakers[target]
        if breaker.state is not BreakerState.OPEN:
            return None
        wait_ms = breaker.retry_after_ms(self._clock.monotonic_ns())
        return wait_ms if wait_ms > 1 else None

    async def close(self) -> None:
        """Close the session; calls that are under way fail."""
        if self._session is not None:
            await self._session.close()

    async def _attempt(
        self,
        method: str,
        url: str,
        query: Mapping[str, str | int] | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout_ms: int,
    ) -> tuple[int, bytes, str | None]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX))
        timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000, sock_connect=CONNECT_TIMEOUT_MS / 1000)
        async with self._session.request(
            method, url, params=query, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            answer = await response.content.read(REPLY_BYTES_MAX + 1)
            while len(answer) <= REPLY_BYTES_MAX and not response.content.at_eof():
                answer += await response.content.read(REPLY_BYTES_MAX + 1 - len(answer))
            if len(answer) > REPLY_BYTES_MAX:
                raise aiohttp.ClientPayloadError(f"expected at most {REPLY_BYTES_MAX} bytes")
            return response.status, answer, response.headers.get("Retry-After")


def _decoded(target: str, status: int, answer: bytes, retry_after: str | None, reply: type[T] | None) -> T | bytes:
    if status >= 300:
        raise problem_from(status, answer, retry_after)
    if reply is None:
        return answer
    try:
        return msgspec.json.decode(answer, type=reply)
    except msgspec.MsgspecError as error:
        raise Problem(502, "malformed_reply", f"{target} answered what is not {reply}: {error}") from error
