"""One user of the public API, as a trading program would be: tokens that refresh, calls whose outcome may stay unknown.

`call` answers with what the server said, or `Unknown` where no answer came or the answer does not say what happened
(timeouts, connection losses, 5xx): the caller asks again under the same client_order_id. A refusal for the rate or for
an old token says for sure that nothing happened; it is repeated here.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from mybroker.contracts.http_identity import TokenPair

TIMEOUT_S = 12.0
REFRESH_AFTER_S = 60.0
RATE_WAITS_MAX = 50
RETRY_WAIT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said."""

    status: int
    body: Any
    took_ms: int

    @property
    def code(self) -> str | None:
        """Return the problem's code; None where there is none."""
        return self.body.get("code") if isinstance(self.body, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No answer that says what happened."""

    why: str


class User:
    """A registered user with its tokens. Make it with `register`."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, username: str, password: str) -> None:
        self.username = username
        self.account = ""
        self._http = http
        self._base_url = base_url.rstrip("/") + "/api/v1"
        self._password = password
        self._tokens: TokenPair | None = None
        self._refreshed_s = 0.0
        self._refreshing = asyncio.Lock()

    @property
    def stream_url(self) -> str:
        """Return where the private events come from."""
        return self._base_url.replace("http", "ws", 1) + "/stream"

    async def register(self, *, within_s: float = 60.0) -> None:
        """Register (again where the answer was lost) and log in; raises TimeoutError."""
        credentials = {"username": self.username, "password": self._password}
        async with asyncio.timeout(within_s):
            while True:
                answer = await self._once("POST", "/auth/register", credentials, None)
                # 409: an earlier try was done although its answer was lost.
                if isinstance(answer, Answer) and answer.status in (201, 409):
                    break
                await asyncio.sleep(RETRY_WAIT_S)
            await self._log_in()

    async def token(self) -> str:
        """Return a token that is fresh enough; waits while identity is away."""
        async with self._refreshing:
            if self._tokens is None or time.monotonic() - self._refreshed_s > REFRESH_AFTER_S:
                await self._refresh()
            assert self._tokens is not None, "refreshed"
            return self._tokens.access_token

    async def call(self, method: str, path: str, body: object = None) -> Answer | Unknown:
        """Call once; waits and repeats only what certainly was not done."""
        for _ in range(RATE_WAITS_MAX):
            answer = await self._once(method, path, body, await self.token())
            if isinstance(answer, Unknown):
                return answer
            if answer.status == 401:
                self._refreshed_s = 0.0
            elif answer.status != 429:
                return Unknown(why=f"{answer.status} {answer.code}") if answer.status >= 500 else answer
            await asyncio.sleep(RETRY_WAIT_S)
        return Unknown(why="limited for too long")

    async def _refresh(self) -> None:
        if self._tokens is not None:
            body = {"refresh_token": self._tokens.refresh_token}
            answer = await self._once("POST", "/auth/refresh", body, None)
            if isinstance(answer, Answer) and answer.status == 200:
                self._take(answer)
                return
        # The answer was lost, so the refresh token may be void: log in again.
        await self._log_in()

    async def _log_in(self) -> None:
        credentials = {"username": self.username, "password": self._password}
        while True:
            answer = await self._once("POST", "/auth/token", credentials, None)
            if isinstance(answer, Answer) and answer.status == 200:
                self._take(answer)
                return
            await asyncio.sleep(RETRY_WAIT_S)

    def _take(self, answer: Answer) -> None:
        self._tokens = msgspec.convert(answer.body, TokenPair)
        self._refreshed_s = time.monotonic()
        self.account = self._tokens.account

    async def _once(self, method: str, path: str, body: object, token: str | None) -> Answer | Unknown:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async with self._http.request(method, self._base_url + path, data=data, headers=headers) as response:
                    raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Unknown(why=type(error).__name__)
        took_ms = round((time.monotonic() - started_s) * 1000)
        try:
            return Answer(status=response.status, body=msgspec.json.decode(raw or b"null"), took_ms=took_ms)
        except msgspec.DecodeError:
            return Unknown(why=f"{response.status} with a body that is no JSON")
