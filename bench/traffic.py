"""Accounts that trade with each other over the public API, and when each thing was heard.

Orders come in pairs: one account sells and another buys a lot of the same share at the middle of the market, so
about every pair trades and the one that came second is the aggressor. Who sells to whom goes round, so that cash and
shares last. What is measured of an order counts from the instant at which it was due:

    acknowledged   POST /orders was answered 201
    trade          its first private trade event as the aggressor came over the WebSocket
    public trade   the same trade came over the public channel of the WebSocket

Every client order is asked for once; a refusal for the rate limit is repeated by the client and counts as latency.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.open_loop import Sent, due_offsets_ns, send_all
from mybroker.cli.client import Client
from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.http_broker import PrivateEvent
from mybroker.domain.money import format_ticks, parse_price_ticks
from mybroker.testing.load_journal import JournalWriter
from mybroker.testing.private_stream import PrivateStream
from mybroker.testing.public_api import Answer, User

ACCOUNTS = 16
TICKERS = ("PETR4", "VALE3", "ITUB4", "BBDC4", "BBAS3", "ABEV3")
CASH = "100000000.00"
SHARES_EACH = 1_000_000
IN_FLIGHT_MAX = 2_000
CONNECTIONS_MAX = 256
PRICES_EVERY_S = 0.5
PRICES_WITHIN_S = 5.0
HEARD_WITHIN_S = 30.0
QUIET_S = 1.0
POLL_S = 0.05
MESSAGE_BYTES_MAX = 4 << 20
BROKERS_OWN = frozenset({"routed", "wallet"})
"""Kinds of private events that say nothing about the exchange."""

NOWHERE = Path("/dev/null")


class _PublicTrade(msgspec.Struct, frozen=True):
    type: str
    trade_id: str = ""


_PUBLIC = msgspec.json.Decoder(_PublicTrade)


@dataclass(slots=True, kw_only=True)
class Step:
    """What was heard of the orders of one step. Times are latencies from the due instant, in nanoseconds."""

    rate_per_second: int
    sent: Sent | None = None
    acknowledged_ns: list[int] = field(default_factory=list)
    traded_ns: list[int] = field(default_factory=list)
    public_ns: list[int] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    last_acknowledged_at_ns: int = 0
    due_ns: dict[str, int] = field(default_factory=dict)
    """When each order was due, by its client_order_id."""

    trades: dict[str, int] = field(default_factory=dict)
    """When the aggressor of a trade was due, by trade id."""

    unanswered: set[str] = field(default_factory=set)
    """Acknowledged orders of which nothing was heard from the exchange yet, by client_order_id."""

    answered: set[str] = field(default_factory=set)


class Traffic:
    """The accounts of one session. Make it with `open_traffic`."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, session_key: str) -> None:
        self.phase = ""
        self.disconnections = 0
        self._http = http
        self._base_url = base_url
        self._session_key = session_key
        stamp = time.time_ns() % 1_000_000_000
        self.users = [User(http, base_url, f"bench{number}.{stamp}", "bench-password") for number in range(ACCOUNTS)]
        self._middle_ticks: dict[str, int] = {}
        self._public_heard_ns: dict[str, int] = {}
        self._private_heard_s = time.monotonic()
        self._step = Step(rate_per_second=0)
        self._number = 0
        lots = shipped_catalogue().instruments
        self._lots = {ticker: lots[ticker].lot_shares for ticker in TICKERS}

    async def open_accounts(self, wallet: Client) -> None:
        """Register everyone and deposit cash and shares for each, by the wallet's internal door."""
        await asyncio.gather(*(user.register() for user in self.users))
        shares = [{"ticker": ticker, "quantity": SHARES_EACH, "price": "10.00"} for ticker in TICKERS]
        for user in self.users:
            body = {"deposit_id": f"bench-{user.account}", "account": user.account, "cash": CASH, "shares": shares}
            await asyncio.to_thread(wallet.post, "/deposits", dict[str, Any], body)

    async def play(self, rate_per_second: int, seconds: int, on_answered: Callable[[], None] = lambda: None) -> Step:
        """Send at a rate for some seconds, then wait until nothing more comes; return what was heard.

        `on_answered` is called when every request has its answer, before the wait for late events.
        """
        step = self._step = Step(rate_per_second=rate_per_second)
        step.sent = await send_all(due_offsets_ns(rate_per_second, seconds), self._send, in_flight_max=IN_FLIGHT_MAX)
        on_answered()
        give_up_s = time.monotonic() + HEARD_WITHIN_S
        while step.unanswered or time.monotonic() - self._private_heard_s < QUIET_S:
            if time.monotonic() > give_up_s:
                break
            await asyncio.sleep(POLL_S)
        for trade_id, due_ns in step.trades.items():
            heard_ns = self._public_heard_ns.pop(trade_id, None)
            if heard_ns is not None:
                step.public_ns.append(heard_ns - due_ns)
        self._public_heard_ns.clear()
        return step

    async def _send(self, _number: int, due_ns: int) -> None:
        # Numbered over all steps: what a former step left in the book must not pass for this one's.
        number = self._number
        self._number += 1
        user, body = self._order(number)
        step = self._step
        step.due_ns[body["client_order_id"]] = due_ns
        answer = await user.call("POST", "/orders", body)
        now_ns = time.monotonic_ns()
        if not isinstance(answer, Answer):
            step.outcomes[f"unknown: {answer.why}"] += 1
        elif answer.status == 201:
            step.outcomes["acknowledged"] += 1
            step.acknowledged_ns.append(now_ns - due_ns)
            step.last_acknowledged_at_ns = now_ns
            if body["client_order_id"] not in step.answered:
                step.unanswered.add(body["client_order_id"])
        else:
            step.outcomes[f"refused: {answer.code}"] += 1

    def _order(self, number: int) -> tuple[User, dict[str, Any]]:
        pair, leg = divmod(number, 2)
        ticker = TICKERS[pair % len(TICKERS)]
        seller = (pair + pair // ACCOUNTS) % ACCOUNTS
        buyer = (seller + 1 + pair // ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS
        user = self.users[(seller, buyer)[leg]]
        body = {
            "ticker": ticker,
            "side": ("sell", "buy")[leg],
            "type": "limit",
            "time_in_force": "day",
            "quantity": self._lots[ticker],
            "price": format_ticks(self._middle_ticks[ticker]),
            "session": self._session_key,
            "client_order_id": f"bench-{number}",
        }
        return user, body

    def hear_private(self, event: PrivateEvent) -> None:
        """Take one private event of any account."""
        now_ns = time.monotonic_ns()
        self._private_heard_s = time.monotonic()
        if event.order is None or event.kind in BROKERS_OWN:
            return
        self._step.answered.add(event.order.client_order_id)
        self._step.unanswered.discard(event.order.client_order_id)
        if event.kind != "trade" or event.trade is None or not event.trade.aggressor:
            return
        due_ns = self._step.due_ns.pop(event.order.client_order_id, None)
        if due_ns is not None:
            self._step.traded_ns.append(now_ns - due_ns)
            self._step.trades[event.trade.trade_id] = due_ns

    async def hear_public(self) -> None:
        """Note when each public trade came, until cancelled; a connection that ends is opened again and counted."""
        while True:
            try:
                await self._hear_public_once()
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            self.disconnections += 1
            await asyncio.sleep(PRICES_EVERY_S)

    async def _hear_public_once(self) -> None:
        url = self._base_url.replace("http", "ws", 1) + "/api/v1/stream"
        async with self._http.ws_connect(url, heartbeat=10, max_msg_size=MESSAGE_BYTES_MAX) as socket:
            await socket.send_json(
                {"op": "subscribe", "channels": ["trades"], "tickers": list(TICKERS), "session": self._session_key}
            )
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    now_ns = time.monotonic_ns()
                    trade = _PUBLIC.decode(message.data)
                    if trade.type == "trade":
                        self._public_heard_ns.setdefault(trade.trade_id, now_ns)

    async def follow_prices(self) -> None:
        """Keep the middle of each market up to date, until cancelled; what does not answer leaves the last one."""
        url, query = f"{self._base_url}/api/v1/state", {"session": self._session_key}
        while True:
            try:
                async with asyncio.timeout(PRICES_WITHIN_S), self._http.get(url, params=query) as response:
                    if response.status == 200:
                        self._take_prices(await response.json())
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.disconnections += 1
            await asyncio.sleep(PRICES_EVERY_S)

    def _take_prices(self, state: dict[str, Any]) -> None:
        for one in state["tickers"]:
            if one["ticker"] not in TICKERS:
                continue
            self.phase = one["phase"]
            sides = [parse_price_ticks(one[side]) for side in ("bid", "ask") if one[side]]
            known = [price for price in sides if isinstance(price, int)]
            if not known:
                last = parse_price_ticks(one["last"] or one["reference"] or "")
                known = [last] if isinstance(last, int) else []
            if known:
                self._middle_ticks[one["ticker"]] = sum(known) // len(known)

    def is_ready(self) -> bool:
        """Say whether the market is open and every price is known."""
        return self.phase == "open" and len(self._middle_ticks) == len(TICKERS)


@asynccontextmanager
async def open_traffic(
    base_url: str, session_key: str, wallet: Client, *, ready_within_s: float = 60.0
) -> AsyncIterator[Traffic]:
    """Open the accounts, listen to everything, and wait until the market can be traded."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    journal = JournalWriter(NOWHERE)
    async with aiohttp.ClientSession(connector=connector) as http:
        traffic = Traffic(http, base_url, session_key)
        await traffic.open_accounts(wallet)
        streams = [PrivateStream(http, user, journal, traffic.hear_private) for user in traffic.users]
        work = [*(stream.run() for stream in streams), traffic.hear_public(), traffic.follow_prices()]
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            async with asyncio.timeout(ready_within_s):
                while not traffic.is_ready() or not all(stream.connections for stream in streams):
                    await asyncio.sleep(POLL_S)
            yield traffic
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            journal.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
