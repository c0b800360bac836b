"""The pair of broker_orders and broker_wallet as processes, and a customer who trades through them."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from mybroker.contracts import topics
from mybroker.local.engines.facade import Engines
from mybroker.local.engines.ports import PortClaims
from mybroker.runtime.directory import publish
from mybroker.runtime.kafka import AsyncProducer, ensure_topics
from tests.broker.stand_ins import (
    INTERNAL_TOKEN,
    ServiceProcess,
    StandInExchange,
    StandIns,
    directory_entry,
)

Json = dict[str, Any]
IN_DOUBT_AFTER_MS = 5_000


class Broker:
    """The pair with everything around it."""

    def __init__(self, engines: Engines, folder: Path) -> None:
        self.stand_ins = StandIns()
        self.exchange = StandInExchange(engines.urls.kafka)
        self.engines = engines
        self.folder = folder
        self.ports = PortClaims()
        self.session: aiohttp.ClientSession
        self.orders: ServiceProcess
        self.wallet: ServiceProcess

    async def start(self) -> None:
        self.session = aiohttp.ClientSession()
        await self.stand_ins.start()
        kafka_url = self.engines.urls.kafka
        await asyncio.to_thread(ensure_topics, kafka_url, topics.SHARED_TOPICS)
        producer = AsyncProducer(kafka_url)
        await publish(producer, directory_entry())
        await producer.close()
        await self.exchange.start()
        port = self.ports.choose(["orders", "wallet"], {})
        env = self.engines.urls.as_env() | {
            "MYBROKER_NAMESPACE": "local",
            "MYBROKER_SESSION": "day",
            "MYBROKER_SECRET_INTERNAL_TOKEN": INTERNAL_TOKEN,
            "MYBROKER_URL_BROKER_IDENTITY": self.stand_ins.url,
            "MYBROKER_URL_B3_MARKET_FEED": self.stand_ins.url,
            "MYBROKER_URL_BROKER_WALLET": f"http://127.0.0.1:{port['wallet']}",
            "MYBROKER_IN_DOUBT_AFTER_MS": str(IN_DOUBT_AFTER_MS),
        }
        self.wallet = ServiceProcess("broker_wallet", env | {"MYBROKER_HTTP_PORT": str(port["wallet"])}, self.folder)
        self.orders = ServiceProcess("broker_orders", env | {"MYBROKER_HTTP_PORT": str(port["orders"])}, self.folder)
        self.wallet.start()
        self.orders.start()
        await self.wallet.ready(self.session)
        await self.orders.ready(self.session)

    async def stop(self) -> None:
        codes = [self.orders.stop(), self.wallet.stop()]
        await self.exchange.stop()
        await self.stand_ins.stop()
        await self.session.close()
        self.ports.release()
        assert codes == [0, 0]

    async def account(self, cash: str = "10000.00", shares: int = 0) -> "Customer":
        name = f"acc-{secrets.token_hex(4)}"
        body = {"deposit_id": f"open-{name}", "account": name, "cash": cash}
        if shares:
            body["shares"] = [{"ticker": "PETR4", "quantity": shares, "price": "28.00"}]  # type: ignore[assignment]
        status, answer = await self.internal("POST", self.wallet, "/deposits", body)
        assert status == 201, answer
        return Customer(self, name)

    async def internal(
        self, method: str, service: ServiceProcess, path: str, body: Json | None = None
    ) -> tuple[int, Any]:
        headers = {"X-Internal-Token": INTERNAL_TOKEN}
        async with self.session.request(method, service.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def invariants(self) -> Json:
        status, answer = await self.internal("GET", self.wallet, "/internal/invariants")
        assert status == 200, answer
        found: Json = answer
        return found


class Customer:
    """One account, with its token."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.name = name
        self.headers = {"Authorization": f"Bearer {broker.stand_ins.token(name)}"}

    async def call(self, method: str, path: str, body: Json | None = None, *, patient: bool = True) -> tuple[int, Json]:
        """Ask; a patient customer asks again after a 503, which a machine with much else to do may give."""
        service = self.broker.wallet if path.startswith(("/wallet", "/positions")) else self.broker.orders
        give_up_at = time.monotonic() + 60
        while True:
            async with self.broker.session.request(
                method, service.url + path, json=body, headers=self.headers
            ) as answer:
                if answer.status != 503 or not patient or time.monotonic() > give_up_at:
                    return answer.status, await answer.json()
            await asyncio.sleep(0.5)

    async def buy(self, *, patient: bool = True, **fields: object) -> tuple[int, Json]:
        order = {"ticker": "PETR4", "side": "buy", "quantity": 100, "price": "30.00"}
        return await self.call("POST", "/orders", {**order, **fields}, patient=patient)

    async def order(self, order_id: str) -> Json:
        status, order = await self.call("GET", f"/orders/{order_id}")
        assert status == 200, order
        return order

    async def until_status(self, order_id: str, status: str) -> Json:
        async def look() -> Json | None:
            order = await self.order(order_id)
            return order if order["status"] == status else None

        return await until(look, f"order {order_id} {status}")

    async def until_cash(self, available: str, held: str) -> Json:
        async def look() -> Json | None:
            _, wallet = await self.call("GET", "/wallet")
            cash = wallet["cash"]
            return wallet if (cash["available"], cash["held"]) == (available, held) else None

        return await until(look, f"cash {available}/{held}")

    async def events(self) -> list[Json]:
        _, answer = await self.call("GET", "/events?after=0")
        events: list[Json] = answer["events"]
        assert [event["seq"] for event in events] == list(range(1, answer["last"] + 1))
        return events

    async def until_events(self, *kinds: str) -> list[Json]:
        async def look() -> list[Json] | None:
            events = await self.events()
            return events if sorted(e["kind"] for e in events) == sorted(kinds) else None

        return await until(look, f"events {kinds}")


async def until(look: Callable[[], Awaitable[Any]], what: str, deadline_s: float = 60) -> Any:
    give_up_at = time.monotonic() + deadline_s
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < give_up_at, f"waited {deadline_s} s for {what}"
        await asyncio.sleep(0.02)
