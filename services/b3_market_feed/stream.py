"""The WebSocket side: reads what a client asks, sends what is in its mail.

A connection belongs to the session of its first subscription. Sending waits for the client, so mail gathers and is
conflated meanwhile; one that takes nothing for SEND_TIMEOUT_S, or has too many prints waiting, is closed with 1013 and
comes back where it was (trades by number, the book by a snapshot).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from mybroker.contracts.feed import (
    Authenticate,
    ClientMessage,
    FeedError,
    Ping,
    Pong,
    ServerMessage,
    Subscribe,
    Unsubscribe,
)
from mybroker.runtime.problem import Problem
from mybroker.runtime.telemetry import counter, gauge
from services.b3_market_feed.fanout import CLIENTS_MAX, Client, Hub, encode

if TYPE_CHECKING:
    from services.b3_market_feed.sessions import Sessions

SEND_TIMEOUT_S = 30
CLOSE_TRY_AGAIN = 1013
CLOSE_POLICY = 1008
REFUSALS_MAX = 50

_CLIENTS = gauge("mbb3_ws_clients", "Connected clients of the feed")
_CONFLATED = counter("mbb3_ws_conflated_total", "States replaced before a slow client took them")
_CLOSED = counter("mbb3_ws_closed_total", "Connections the feed ended", ["why"])
_DECODER: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class Connection(Client):
    """A client with a wake-up call."""

    def __init__(self) -> None:
        super().__init__()
        self.hub: Hub | None = None
        self.waiting = asyncio.Event()

    def answer(self, message: ServerMessage) -> None:
        """Put an answer into the mail and wake the sender."""
        self.print(encode(message))
        self.waiting.set()


def wake(clients: Iterable[Client]) -> None:
    """Start sending what clients have in their mail."""
    for client in clients:
        assert isinstance(client, Connection)
        client.waiting.set()


class Stream:
    """The endpoint."""

    def __init__(self, sessions: Callable[[], Sessions]) -> None:
        self._sessions = sessions
        self._connected = 0

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it leaves or is closed."""
        await websocket.accept()
        if self._connected >= CLIENTS_MAX or not self._sessions().serving:
            _CLOSED.labels("full" if self._connected >= CLIENTS_MAX else "starting").inc()
            await websocket.close(CLOSE_TRY_AGAIN, "try again in a moment")
            return
        connection = Connection()
        self._connected += 1
        _CLIENTS.set(self._connected)
        sender = asyncio.create_task(_send(websocket, connection), name="feed sender")
        receiver = asyncio.create_task(self._receive(websocket, connection), name="feed receiver")
        try:
            await asyncio.wait([sender, receiver], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connected -= 1
            _CLIENTS.set(self._connected)
            if connection.hub is not None:
                connection.hub.clients.pop(connection, None)
            for task in (sender, receiver):
                task.cancel()
            for outcome in await asyncio.gather(sender, receiver, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError):
                    raise outcome

    async def _receive(self, websocket: WebSocket, connection: Connection) -> None:
        refused = 0
        while refused < REFUSALS_MAX:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            raw = message.get("text") or message.get("bytes") or ""
            refusal = self._hear(connection, raw)
            if refusal is not None:
                refused += 1
                connection.answer(refusal)
            connection.waiting.set()
        _CLOSED.labels("refusals").inc()
        with contextlib.suppress(RuntimeError):
            await websocket.close(CLOSE_POLICY, "too many messages that cannot be understood")

    def _hear(self, connection: Connection, raw: str | bytes) -> FeedError | None:
        try:
            message = _DECODER.decode(raw)
        except msgspec.MsgspecError as error:
            return FeedError(code="malformed", detail=str(error))
        match message:
            case Ping():
                connection.answer(Pong())
                return None
            case Authenticate():
                return FeedError(code="not_here", detail="this is public data; private events are at the gateway")
            case Subscribe():
                if connection.hub is None:
                    try:
                        connection.hub = self._sessions().choose(message.session).hub
                    except Problem as problem:
                        return FeedError(code=problem.code, detail=problem.detail)
                    connection.hub.clients[connection] = None
                elif message.session is not None and self._sessions().choose(message.session).hub is not connection.hub:
                    return FeedError(code="session_fixed", detail="open another connection for another session")
                return connection.hub.subscribe(connection, message)
            case Unsubscribe():
                if connection.hub is None:
                    return FeedError(code="not_subscribed", detail="nothing is subscribed")
                return connection.hub.unsubscribe(connection, message)


async def _send(websocket: WebSocket, connection: Connection) -> None:
    counted = 0
    while True:
        await connection.waiting.wait()
        connection.waiting.clear()
        if connection.overflowed:
            _CLOSED.labels("overflow").inc()
            await websocket.close(CLOSE_TRY_AGAIN, "too slow: come back and resume by number")
            return
        _CONFLATED.inc(connection.conflated - counted)
        counted = connection.conflated
        texts = connection.take(connection.hub.view) if connection.hub else connection.take_prints()
        try:
            for text in texts:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await websocket.send_text(text)
        except TimeoutError:
            _CLOSED.labels("stalled").inc()
            await websocket.close(CLOSE_TRY_AGAIN, "nothing was taken for too long")
            return
