"""Following one account's private events over the WebSocket, with resume; each number is checked against the last.

A connection that ends is opened again from the last number heard. What comes out of turn is written to the journal:
`next` for the following number, `gap` or `repeated` with the number expected and the one that came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import msgspec

from mybroker.contracts.http_broker import PrivateEvent
from mybroker.contracts.http_gateway import EventMessage
from mybroker.testing.load_journal import JournalWriter
from mybroker.testing.public_api import User

RECONNECT_WAIT_S = 0.2
RENEW_EVERY_S = 45.0
SILENCE_MAX_S = 30.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


class _Kind(msgspec.Struct, frozen=True):
    type: str


_KIND = msgspec.json.Decoder(_Kind)
_EVENT = msgspec.json.Decoder(EventMessage)


class PrivateStream:
    """Follows one user's events; `last_seq` is the newest number heard. Cancel `run` to end it."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        user: User,
        journal: JournalWriter,
        hear: Callable[[PrivateEvent], None],
    ) -> None:
        self.last_seq = 0
        self.connections = 0
        self._http = http
        self._user = user
        self._journal = journal
        self._hear = hear

    async def run(self) -> None:
        """Follow until cancelled, over any number of connections."""
        while True:
            try:
                await self._follow()
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def _follow(self) -> None:
        token = await self._user.token()
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.ws_connect(
            self._user.stream_url, headers=headers, max_msg_size=MESSAGE_BYTES_MAX, heartbeat=10
        ) as socket:
            self.connections += 1
            await socket.send_json({"op": "subscribe", "channels": ["events"], "after": self.last_seq})
            renewing = asyncio.create_task(self._renew(socket))
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._take(message.data)
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await socket.send_json({"op": "authenticate", "token": await self._user.token()})

    def _take(self, text: str) -> None:
        data = text.encode()
        kind = _KIND.decode(data).type
        if kind == "error":
            raise aiohttp.ClientError(text)  # the subscription ended: connect again and resume
        if kind != "event":
            return
        event = _EVENT.decode(data)
        expected = self.last_seq + 1
        outcome = "next" if event.seq == expected else ("gap" if event.seq > expected else "repeated")
        self._journal.write(self._user.account, "events", outcome, expected_seq=expected, seq=event.seq)
        if event.seq > self.last_seq:
            self.last_seq = event.seq
            self._hear(event.event)
