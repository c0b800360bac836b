"""The WebSocket at the door: public channels from the feed and private events, on one connection.

A client may come with an Authorization header or send `authenticate` as a message; a fresh token for the same account
may follow at any time. Private events end with the token (`token_expired`), market data does not need one.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from mybroker.contracts.feed import Authenticate, ClientMessage, FeedError, Ping, Pong, Subscribe, Unsubscribe
from mybroker.contracts.http_gateway import Authenticated
from mybroker.contracts.http_routes import SCOPE_READ
from mybroker.runtime.auth import Principal, Verifier
from mybroker.runtime.clock import Clock
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.logging import get_logger
from mybroker.runtime.problem import Problem
from mybroker.runtime.telemetry import counter, gauge
from services.broker_gateway.feed_link import FeedLink
from services.broker_gateway.private_events import PrivateEvents, Wakeups
from services.broker_gateway.upstream import Upstreams

EVENTS = "events"
CLIENTS_MAX = 2_000
REFUSALS_MAX = 50
SEND_TIMEOUT_S = 30
CLOSE_TRY_AGAIN = 1013
CLOSE_POLICY = 1008

_CLIENTS = gauge("mbb3_gateway_ws_clients", "Connected clients of the stream")
_REFUSED = counter("mbb3_gateway_ws_refused_total", "Client messages that were refused", ["code"])
_DECODER: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_ENCODER = msgspec.json.Encoder()


class Door:
    """What every connection shares."""

    def __init__(
        self, upstreams: Upstreams, orders: HttpClient, verifier: Verifier, wakeups: Wakeups, clock: Clock
    ) -> None:
        self.upstreams = upstreams
        self.orders = orders
        self.verifier = verifier
        self.wakeups = wakeups
        self.clock = clock
        self._connected = 0

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it leaves or is closed."""
        await websocket.accept()
        if self._connected >= CLIENTS_MAX:
            await websocket.close(CLOSE_TRY_AGAIN, "too many clients; try again")
            return
        self._connected += 1
        _CLIENTS.set(self._connected)
        try:
            await Connection(self, websocket).run()
        finally:
            self._connected -= 1
            _CLIENTS.set(self._connected)


class Connection:
    """One client."""

    def __init__(self, door: Door, websocket: WebSocket) -> None:
        self._door = door
        self._websocket = websocket
        self._sending = asyncio.Lock()
        self._principal: Principal | None = None
        self._token = ""
        self._feed: FeedLink | None = None
        self._tasks: dict[str, asyncio.Task[object]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until the client leaves; whatever else ends a task closes the connection."""
        receiving = asyncio.create_task(self._receive(), name="gateway receiver")
        try:
            await asyncio.wait([receiving, self._failed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [receiving, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception) and not isinstance(outcome, _GONE):
                    get_logger().error("stream_failed", exc_info=outcome)
            self._failed.cancel()
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(CLOSE_TRY_AGAIN, "come back and resume")

    async def send_text(self, text: str) -> None:
        """Send one message; waits for the client, and not for ever."""
        async with self._sending, asyncio.timeout(SEND_TIMEOUT_S):
            await self._websocket.send_text(text)

    async def send(self, message: msgspec.Struct) -> None:
        """Send one of our own messages."""
        await self.send_text(_ENCODER.encode(message).decode())

    async def _receive(self) -> None:
        if "authorization" in self._websocket.headers:
            _, _, token = self._websocket.headers["authorization"].partition(" ")
            await self._refusing(self._authenticate(token.strip()))
        refused = 0
        while refused < REFUSALS_MAX:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            refused += not await self._refusing(self._hear(message.get("text") or message.get("bytes") or ""))
        await self._websocket.close(CLOSE_POLICY, "too many messages that cannot be understood")

    async def _refusing(self, handling: Coroutine[Any, Any, None]) -> bool:
        try:
            await handling
        except Problem as problem:
            _REFUSED.labels(problem.code).inc()
            await self.send(FeedError(code=problem.code, detail=problem.detail))
            return False
        return True

    async def _hear(self, raw: str | bytes) -> None:
        try:
            message = _DECODER.decode(raw)
        except msgspec.MsgspecError as error:
            raise Problem(422, "malformed", str(error)) from error
        match message:
            case Ping():
                await self.send(Pong())
            case Authenticate():
                await self._authenticate(message.token)
            case Subscribe():
                public = tuple(channel for channel in message.channels if channel != EVENTS)
                if EVENTS in message.channels:
                    self._follow_events(message.after)
                if public or not message.channels:
                    await self._ask_feed(msgspec.structs.replace(message, channels=public))
            case Unsubscribe():
                public = tuple(channel for channel in message.channels if channel != EVENTS)
                if EVENTS in message.channels:
                    self._stop("events")
                if public:
                    await self._ask_feed(msgspec.structs.replace(message, channels=public))

    async def _authenticate(self, token: str) -> None:
        principal = await self._door.verifier.verify_token(token, SCOPE_READ)
        if self._principal is not None and self._principal.account != principal.account:
            raise Problem(403, "account_fixed", "open another connection for another account")
        self._principal, self._token = principal, token
        now_s = self._door.clock.now_ns() // 1_000_000_000
        await self.send(Authenticated(account=principal.account, expires_in=max(0, principal.expires_at_s - now_s)))

    def _follow_events(self, after: int | None) -> None:
        if self._principal is None:
            raise Problem(401, "token_missing", "authenticate first, then subscribe to events")
        if after is not None and after < 0:
            raise Problem(422, "malformed", "expected `after` to be 0 or more")
        self._stop("events")
        events = PrivateEvents(self._door.orders, self._door.wakeups, self._principal.account, lambda: self._token)
        self._start("events", self._run_events(events, after))

    async def _run_events(self, events: PrivateEvents, after: int | None) -> None:
        try:
            await events.run(after, self.send)
        except Problem as problem:
            await self.send(FeedError(code=problem.code, detail=f"private events ended: {problem.detail}"))

    async def _ask_feed(self, message: Subscribe | Unsubscribe) -> None:
        if self._feed is None:
            self._feed = FeedLink(self._door.upstreams, self.send_text)
            await self._feed.ask(message)
            self._start("feed", self._feed.run())
        else:
            await self._feed.ask(message)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"gateway {name}")
        self._tasks[name] = task

        def ended(task: asyncio.Task[object]) -> None:
            if not task.cancelled() and task.exception() is not None and not self._failed.done():
                self._failed.set_result(None)

        task.add_done_callback(ended)

    def _stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()


_GONE = (WebSocketDisconnect, TimeoutError, RuntimeError, ConnectionError)
