"""The services behind: one call each, with a timeout, a breaker, and the last answer kept for public data.

Answers pass through as they are, problems included. A GET that never reached its service is tried once more. While a
service is away its breaker refuses at once; public reads are then answered from what was last known, with
`X-Stale: true` and `Age`. Kept answers are bounded in number and size.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from mybroker.runtime.breaker import Breaker
from mybroker.runtime.clock import Clock
from mybroker.runtime.problem import Unavailable
from mybroker.runtime.telemetry import child, counter, inject_mapping

CONNECT_TIMEOUT_MS = 500
ANSWER_BYTES_MAX = 8 * 1024 * 1024
CONNECTIONS_MAX = 200
KEPT_ANSWERS_MAX = 512
KEPT_BYTES_MAX = 256 * 1024
PASSED_BACK = ("Content-Type", "Retry-After", "WWW-Authenticate", "Cache-Control", "Location")

_STALE = counter("mbb3_stale_answers_total", "Public reads answered from what was last known", ["service"])
_FAILED = counter("mbb3_upstream_failures_total", "Calls a service did not answer", ["service", "why"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    answer: Answer
    at_ns: int


class Upstreams:
    """All services behind the gateway. Close it at the end."""

    def __init__(self, urls: Mapping[str, str], clock: Clock) -> None:
        self._urls = {service: url.rstrip("/") for service, url in urls.items()}
        self._breakers = {service: Breaker(service) for service in urls}
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str],
        timeout_ms: int,
        fallback: bool = False,
    ) -> Answer:
        """Call a service. Raises Unavailable when it does not answer and nothing is known to fall back to."""
        target = path + (f"?{query}" if query else "")
        try:
            answer = await self._guarded(service, method, target, body, headers, timeout_ms)
        except Unavailable:
            kept = self._kept.get(f"{service} {target}") if fallback else None
            if kept is None:
                raise
            _STALE.labels(service).inc()
            age_s = (self._clock.monotonic_ns() - kept.at_ns) // 1_000_000_000
            marks = {"X-Stale": "true", "Age": str(age_s)}
            return Answer(status=kept.answer.status, headers={**kept.answer.headers, **marks}, body=kept.answer.body)
        if fallback and answer.status == 200 and len(answer.body) <= KEPT_BYTES_MAX:
            self._keep(f"{service} {target}", answer)
        return answer

    async def connect_stream(self, service: str, path: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket to a service. Raises Unavailable."""
        headers = inject_mapping(child())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_MS * 4 / 1000):
                return await self._client().ws_connect(
                    self._urls[service] + path, headers=headers, max_msg_size=ANSWER_BYTES_MAX, autoping=True
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _FAILED.labels(service, "stream").inc()
            raise Unavailable(service, f"{service} takes no stream: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _guarded(
        self, service: str, method: str, target: str, body: bytes, headers: Mapping[str, str], timeout_ms: int
    ) -> Answer:
        breaker = self._breakers[service]
        sent = {**headers, **inject_mapping(child())}
        for attempt in (1, 2):
            now_ns = self._clock.monotonic_ns()
            if not breaker.allows(now_ns):
                _FAILED.labels(service, "breaker_open").inc()
                wait_s = -(-breaker.retry_after_ms(now_ns) // 1000)
                raise Unavailable(service, f"{service} is not answering; try again soon", retry_after_s=wait_s)
            try:
                answer = await self._once(method, self._urls[service] + target, body, sent, timeout_ms)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                breaker.failed(self._clock.monotonic_ns())
                why = type(error).__name__
                _FAILED.labels(service, "timeout" if isinstance(error, TimeoutError) else "connection").inc()
                never_arrived = isinstance(error, aiohttp.ClientConnectorError)
                if attempt == 1 and (never_arrived or (method == "GET" and not isinstance(error, TimeoutError))):
                    await asyncio.sleep(0.05)
                    continue
                detail = f"{service} did not answer ({why})"
                if method != "GET" and not never_arrived:
                    detail += "; whether the call took effect is not known"
                raise Unavailable(service, detail) from error
            except BaseException:
                breaker.succeeded()  # the caller went away; that says nothing against the service
                raise
            # 503 with a reason is an answer; what a dying proxy or a bug says is not.
            if answer.status in (500, 502, 504):
                breaker.failed(self._clock.monotonic_ns())
            else:
                breaker.succeeded()
            return answer
        raise AssertionError("expected the second attempt to return or raise")

    async def _once(self, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> Answer:
        timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000, sock_connect=CONNECT_TIMEOUT_MS / 1000)
        async with self._client().request(
            method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            taken = await response.content.read(ANSWER_BYTES_MAX + 1)
            while len(taken) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                taken += await response.content.read(ANSWER_BYTES_MAX + 1 - len(taken))
            if len(taken) > ANSWER_BYTES_MAX:
                raise aiohttp.ClientPayloadError(f"expected at most {ANSWER_BYTES_MAX} bytes")
            passed = {name: response.headers[name] for name in PASSED_BACK if name in response.headers}
            return Answer(status=response.status, headers=passed, body=taken)

    def _keep(self, key: str, answer: Answer) -> None:
        self._kept[key] = _Kept(answer=answer, at_ns=self._clock.monotonic_ns())
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_ANSWERS_MAX:
            self._kept.popitem(last=False)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session
