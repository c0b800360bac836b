"""Seeded clients that trade over the public API of one session, and write down what they were told.

Each client has an account of its own and one order under way at a time; what it does next comes from its own seeded
generator and from what it has heard, so a seed gives the same kind of day, not the same orders. Orders whose outcome
stays unknown are asked again under the same client_order_id. Limits: only 127.0.0.1, `orders_per_second` over all
clients, OPEN_ORDERS_MAX open orders a client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from mybroker.contracts.http_broker import PrivateEvent
from mybroker.domain.instrument import FRACTIONAL_QUANTITY_MAX_SHARES, asset_of, is_fractional_ticker
from mybroker.domain.money import format_ticks, parse_price_ticks
from mybroker.testing.load_journal import JournalWriter
from mybroker.testing.private_stream import PrivateStream
from mybroker.testing.public_api import Answer, Unknown, User

OPEN_ORDERS_MAX = 40
TRIES_MAX = 40
TRY_AGAIN_S = 0.25
LOTS_MAX = 5
PRICES_EVERY_S = 0.5
CONNECTIONS_MAX = 200
DONE = frozenset({"filled", "canceled", "rejected", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Who trades what, how fast, from which seed. `lots` gives each ticker's lot."""

    base_url: str
    session: str
    tickers: Sequence[str]
    lots: dict[str, int]
    journal: Path
    seed: int
    clients: int = 8
    orders_per_second: float = 20.0

    def __post_init__(self) -> None:
        host = urlsplit(self.base_url).hostname
        assert host == "127.0.0.1", f"load goes to this machine only, was {host}"


@dataclass(slots=True, kw_only=True)
class LoadFigures:
    """What was done so far. `acknowledged_ms` are the times of acknowledged orders."""

    counts: Counter[str] = field(default_factory=Counter)
    acknowledged_ms: list[int] = field(default_factory=list)


class Prices:
    """What each ticker costs now, by the public feed; polled, so that a client need not ask for each order."""

    def __init__(self, http: aiohttp.ClientSession, options: LoadOptions) -> None:
        self.price_ticks: dict[str, int] = {}
        self.phases: dict[str, str] = {}
        self._http = http
        self._url = f"{options.base_url.rstrip('/')}/api/v1/state"
        self._query = {"session": options.session}

    async def run(self) -> None:
        """Poll until cancelled; what does not answer leaves the last prices."""
        while True:
            try:
                async with asyncio.timeout(5), self._http.get(self._url, params=self._query) as response:
                    if response.status == 200:
                        self._take(await response.json())
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            await asyncio.sleep(PRICES_EVERY_S)

    def _take(self, state: dict[str, Any]) -> None:
        for ticker in state["tickers"]:
            self.phases[ticker["ticker"]] = ticker["phase"]
            text = ticker["last"] or ticker["reference"]
            price = parse_price_ticks(text) if text else None
            if isinstance(price, int):
                self.price_ticks[ticker["ticker"]] = price


class LoadClient:
    """One account and what it does."""

    def __init__(
        self,
        number: int,
        http: aiohttp.ClientSession,
        options: LoadOptions,
        prices: Prices,
        journal: JournalWriter,
        figures: LoadFigures,
    ) -> None:
        self._random = random.Random(f"{options.seed}:{number}")
        self._options = options
        self._prices = prices
        self._journal = journal
        self._figures = figures
        stamp = time.time_ns() % 1_000_000_000_000
        self.user = User(http, options.base_url, f"load{number}.{stamp}", f"password-{number}-{options.seed}")
        self.stream = PrivateStream(http, self.user, journal, self._hear)
        self._shares: dict[str, int] = {}
        self._open: dict[str, tuple[str, int]] = {}
        self._placed = 0

    async def trade(self, wait_s: float) -> None:
        """Do one thing after another, `wait_s` apart on average, until cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / wait_s))
            draw = self._random.random()
            if self._open and (draw < 0.15 or len(self._open) >= OPEN_ORDERS_MAX):
                await self._cancel()
            elif self._open and draw < 0.25:
                await self._replace()
            else:
                await self._place()

    async def _place(self) -> None:
        body = self._new_order()
        if body is None:
            return
        self._placed += 1
        client_order_id = f"{self.user.username}-{self._placed}"
        body["client_order_id"] = client_order_id
        account = self.user.account
        self._journal.write(
            account,
            "place",
            "asked",
            client_order_id=client_order_id,
            ticker=body["ticker"],
            side=body["side"],
            quantity_shares=body["quantity"],
        )
        answer = await self._until_known("POST", "/orders", body, "place", client_order_id)
        if isinstance(answer, Answer) and answer.status < 300:
            self._figures.acknowledged_ms.append(answer.took_ms)
            if self._random.random() < 0.05:  # a program that did not see the answer asks again
                await self._until_known("POST", "/orders", body, "place", client_order_id)

    async def _cancel(self) -> None:
        order_id = self._random.choice(sorted(self._open))
        answer = await self._until_known("DELETE", f"/orders/{order_id}", None, "cancel", None, order_id)
        if isinstance(answer, Answer) and answer.status in (404, 409):
            self._open.pop(order_id, None)

    async def _replace(self) -> None:
        order_id = self._random.choice(sorted(self._open))
        ticker, quantity = self._open[order_id]
        price = self._price_near(ticker)
        lot = self._options.lots[ticker]
        body: dict[str, Any] = {"price": format_ticks(price)} if price is not None else {}
        if self._random.random() < 0.5:
            changed = max(lot, quantity + self._random.choice((-1, 1, 2)) * lot)
            body["quantity"] = min(changed, FRACTIONAL_QUANTITY_MAX_SHARES) if is_fractional_ticker(ticker) else changed
        if body:
            # A replace that was done but not answered may be done again: the order ends as asked either way.
            await self._until_known("PUT", f"/orders/{order_id}", body, "replace", None, order_id)

    async def _until_known(
        self,
        method: str,
        path: str,
        body: object,
        action: str,
        client_order_id: str | None,
        order_id: str | None = None,
    ) -> Answer | Unknown:
        answer: Answer | Unknown = Unknown(why="not asked")
        account = self.user.account
        for _ in range(TRIES_MAX):
            answer = await self.user.call(method, path, body)
            if isinstance(answer, Answer):
                outcome = "acknowledged" if answer.status < 300 else "refused"
                known_id = answer.body.get("id") if outcome == "acknowledged" else order_id
                self._journal.write(
                    account,
                    action,
                    outcome,
                    client_order_id=client_order_id,
                    order_id=known_id,
                    status=answer.status,
                    code=answer.code,
                    took_ms=answer.took_ms,
                )
                self._figures.counts[f"{action} {outcome}"] += 1
                if outcome == "refused":
                    self._figures.counts[f"{action} refused: {answer.code}"] += 1
                return answer
            self._figures.counts[f"{action} unknown"] += 1
            self._journal.write(
                account, action, "unknown", client_order_id=client_order_id, order_id=order_id, code=answer.why
            )
            await asyncio.sleep(TRY_AGAIN_S)
        return answer

    def _new_order(self) -> dict[str, Any] | None:
        """Return an order that fits what the account has, the ticker's phase and price; None where there is none."""
        trading = [t for t in self._options.tickers if self._prices.phases.get(t) not in (None, "closed")]
        if not trading:
            return None
        ticker = self._random.choice(trading)
        price = self._price_near(ticker)
        if price is None:
            return None
        lot = self._options.lots[ticker]
        quantity = lot * self._random.randint(1, LOTS_MAX)
        owned = self._shares.get(asset_of(ticker), 0)
        side = "sell" if owned >= quantity and self._random.random() < 0.5 else "buy"
        body: dict[str, Any] = {
            "ticker": ticker,
            "side": side,
            "quantity": quantity,
            "session": self._options.session,
            "type": "limit",
            "time_in_force": "day",
        }
        kind = self._random.random()
        if kind < 0.12 and self._prices.phases[ticker] == "open":
            body["type"] = "market"
            return body
        if kind < 0.25 and self._prices.phases[ticker] == "open":
            body["time_in_force"] = "ioc"
        return body | {"price": format_ticks(price)}

    def _price_near(self, ticker: str) -> int | None:
        price = self._prices.price_ticks.get(ticker)
        if price is None:
            return None
        # Half a percent to either side: some cross, some rest.
        return max(1, price + self._random.randint(-price // 200, price // 200))

    def _hear(self, event: PrivateEvent) -> None:
        if event.wallet is not None:
            for balance in event.wallet.balances:
                if balance.asset != "BRL":
                    self._shares[balance.asset] = int(balance.available)
        order = event.order
        if order is not None:
            if order.status in DONE:
                self._open.pop(order.id, None)
            else:
                self._open[order.id] = (order.ticker, order.quantity)


class Load:
    """All clients. `run` trades until `stop`; then it waits until every client heard its last event."""

    def __init__(self, options: LoadOptions) -> None:
        self.figures = LoadFigures()
        self.trading = asyncio.Event()
        """Set once every client is registered and trades."""
        self._options = options
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for no more new orders."""
        self._stopping.set()

    async def run(self, *, hear_within_s: float = 30.0) -> None:
        """Register, trade until stopped, then hear the rest."""
        journal = JournalWriter(self._options.journal)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        async with aiohttp.ClientSession(connector=connector) as http:
            prices = Prices(http, self._options)
            clients = [
                LoadClient(number, http, self._options, prices, journal, self.figures)
                for number in range(1, self._options.clients + 1)
            ]
            background = [asyncio.create_task(prices.run())]
            trading: list[asyncio.Task[None]] = []
            try:
                await asyncio.gather(*(client.user.register() for client in clients))
                background += [asyncio.create_task(client.stream.run()) for client in clients]
                wait_s = self._options.clients / self._options.orders_per_second
                trading = [asyncio.create_task(client.trade(wait_s)) for client in clients]
                self.trading.set()
                await self._until_stopped([*background, *trading])
                await _cancelled(trading)
                await self._hear_the_rest(clients, hear_within_s)
            finally:
                await _cancelled([*trading, *background])
                journal.close()

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done:
            if task is not stopping:
                task.result()

    async def _hear_the_rest(self, clients: Sequence[LoadClient], within_s: float) -> None:
        """Wait until each stream is at its account's newest number; what is missing then shows as a gap."""
        give_up_at = time.monotonic() + within_s
        for client in clients:
            while True:
                answer = await client.user.call("GET", "/events?after=0&limit=1")
                newest = answer.body["last"] if isinstance(answer, Answer) and answer.status == 200 else None
                if newest is not None and client.stream.last_seq >= newest:
                    break
                if time.monotonic() > give_up_at:
                    self.figures.counts["streams behind"] += 1
                    break
                await asyncio.sleep(0.2)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
