"""What the broker's pair of services talks to, played by the test: identity's keys, the feed's state, the exchange.

The exchange takes what comes through the real door, answers with numbered reports, and can be told to be silent,
to refuse at the door, to lose reports or to say things twice.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from mybroker.contracts.commands import CancelOrder, PlaceOrder, ReplaceOrder
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry
from mybroker.contracts.door import (
    DayTrade,
    DayTrades,
    DayTradesRequest,
    DoorHeartbeat,
    DoorReply,
    DoorRequest,
    ExecutionReport,
    LastNumber,
    RefusedAtDoor,
    Resend,
)
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.auth import AUDIENCE, ISSUER, JWKS_PATH
from mybroker.runtime.door import Delivery
from mybroker.runtime.door_kafka import KafkaDoorServer

PARTICIPANT = "MYBROKER"
SESSION_KEY = "local.day"
LOG_ID = "log-1"
INTERNAL_TOKEN = "the-internal-token"
ROOT = Path(__file__).resolve().parents[2]
DIES_WITH_US = {"MYBROKER_DIE_WITH_PARENT": "1", "MYBROKER_PARENT_PID": str(os.getpid())}


def directory_entry(tickers: tuple[str, ...] = ("PETR4", "VALE3", "PETR4F")) -> DirectoryEntry:
    shard = ShardEntry(shard=0, tickers=tickers)
    market = MarketEntry(name="equities", commands_topic="c", events_topic="e", books_topic="b", shards=(shard,))
    return DirectoryEntry(
        namespace="local",
        session="day",
        revision=1,
        business_date="2026-11-23",
        desired_state="Open",
        clock=SessionClock(anchor_wall_ns=time.time_ns(), anchor_session_ns=1_795_449_600_000_000_000, speed=1),
        markets=(market,),
        participants=(PARTICIPANT,),
    )


class StandIns:
    """Identity and feed over HTTP."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "k1"})
        self.phase = "open"
        self.last = "30.00"
        self.url = ""
        self._runner: web.AppRunner | None = None

    def token(self, account: str, scope: str = "trade read") -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user-{account}",
            "account": account,
            "scope": scope,
            "exp": int(time.time()) + 3600,
        }
        return jwt.encode({"alg": "ES256", "kid": "k1"}, claims, self.key)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(JWKS_PATH, self._keys)
        app.router.add_get("/state", self._state)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def _state(self, _request: web.Request) -> web.Response:
        def row(ticker: str) -> dict[str, object]:
            absent = dict.fromkeys(("bid", "ask", "open", "high", "low"))
            numbers = {"trades": 0, "volume": 0, "turnover": "0.00"}
            said = {"ticker": ticker, "last": self.last, "reference": "30.00", "phase": self.phase, "at": ""}
            return {"type": "quote", **said, **absent, **numbers}

        rows = [row(ticker) for ticker in ("PETR4", "VALE3", "PETR4F")]
        return web.json_response({"session": "day", "at": "", "markets": [], "tickers": rows})


class StandInExchange:
    """Behind the real door: accepts, fills at once at 29.90 what `fills` says, cancels, replaces."""

    def __init__(self, kafka_url: str) -> None:
        self._url = kafka_url
        self._server: KafkaDoorServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.number = 0
        self.trades = 0
        self.reports: dict[int, ExecutionReport] = {}
        self.orders: dict[str, PlaceOrder] = {}
        self.cum: dict[str, int] = {}
        self.revisions: dict[str, int] = {}
        self.done: set[str] = set()
        self.barred: set[str] = set()
        self.heard: list[DoorRequest] = []
        self.fills: Callable[[PlaceOrder], list[int]] = lambda order: [order.quantity_shares]
        self.price_ticks = 2990
        self.lose: Callable[[ExecutionReport], bool] = lambda _report: False
        self.refuse: RejectReason | None = None
        self.deaf = False
        self.twice = False
        self.beating = True

    async def start(self) -> None:
        self._server = await KafkaDoorServer.open(self._url, [PARTICIPANT], SESSION_KEY)
        self._tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._server is not None:
            await self._server.close()

    async def trade_now(self, order_id: str, shares: int) -> None:
        """Fill a resting order."""
        await self._send(self._fill(self.orders[order_id], shares))

    async def _beat(self) -> None:
        while True:
            if self.beating:
                last = LastNumber(market="equities", shard=0, log_id=LOG_ID, number=self.number)
                numbers = (last,) if self.number else ()
                beat = DoorHeartbeat(session_key=SESSION_KEY, at_wall_ns=time.time_ns(), last_numbers=numbers)
                await self._reply([beat])
            await asyncio.sleep(0.2)

    async def _serve(self) -> None:
        assert self._server is not None
        async for delivery in self._server.requests():
            await self._take(delivery)

    async def _take(self, delivery: Delivery[DoorRequest]) -> None:
        request = delivery.message
        self.heard.append(request)
        await delivery.ack()
        if self.deaf:
            return
        body = request.body
        if isinstance(body, Resend):
            again = [self.reports[n] for n in range(body.from_number, self.number + 1)]
            await self._reply(again)
        elif isinstance(body, DayTradesRequest):
            await self._reply([self._day_trades(request)])
        elif isinstance(body, PlaceOrder | CancelOrder | ReplaceOrder):
            if self.refuse is not None and isinstance(body, PlaceOrder):
                refused = RefusedAtDoor(
                    message_id=request.message_id, order_id=body.order_id, revision=body.revision, reason=self.refuse
                )
                await self._reply([refused])
                return
            await self._send(self.answer(body))

    def answer(self, body: PlaceOrder | CancelOrder | ReplaceOrder) -> list[ExecutionReport]:
        heard = self.revisions.get(body.order_id, 0)
        if (body.revision or 0) <= heard:
            return []
        self.revisions[body.order_id] = body.revision or 0
        known = self.orders.get(body.order_id)
        if isinstance(body, PlaceOrder):
            self.orders[body.order_id] = body
            found = [self._report(body, "accepted", quantity_shares=body.quantity_shares)]
            for shares in self.fills(body):
                found += self._fill(body, shares)
            return found
        if known is None:
            self.barred.add(body.order_id)
            stranger = PlaceOrder(
                participant=PARTICIPANT,
                account=getattr(body, "account", "") or "",
                order_id=body.order_id,
                ticker=body.ticker or "",
                side="buy",  # type: ignore[arg-type]  # nobody reads the side of a stranger
                quantity_shares=1,
            )
            kind = "cancel_rejected" if isinstance(body, CancelOrder) else "replace_rejected"
            return [self._report(stranger, kind, reason="unknown_order", ticker=None)]
        if body.order_id in self.done:
            kind = "cancel_rejected" if isinstance(body, CancelOrder) else "replace_rejected"
            return [self._report(known, kind, reason="too_late")]
        cum = self.cum.get(body.order_id, 0)
        if isinstance(body, CancelOrder):
            self.done.add(body.order_id)
            left = known.quantity_shares - cum
            return [
                self._report(known, "cancelled", quantity_shares=left, cum_shares=cum, leaves_shares=0, reason="user")
            ]
        quantity = body.quantity_shares or known.quantity_shares
        price = body.price_ticks or known.price_ticks
        self.orders[body.order_id] = replace(known, quantity_shares=quantity, price_ticks=price)
        return [
            self._report(
                known,
                "replaced",
                quantity_shares=quantity,
                price_ticks=price,
                cum_shares=cum,
                leaves_shares=quantity - cum,
            )
        ]

    def _fill(self, order: PlaceOrder, shares: int) -> list[ExecutionReport]:
        self.trades += 1
        cum = self.cum[order.order_id] = self.cum.get(order.order_id, 0) + shares
        if cum == self.orders[order.order_id].quantity_shares:
            self.done.add(order.order_id)
        return [
            self._report(
                order,
                "trade",
                trade_id=f"t{self.trades}",
                price_ticks=self.price_ticks,
                quantity_shares=shares,
                cum_shares=cum,
                leaves_shares=self.orders[order.order_id].quantity_shares - cum,
                aggressor=True,
            )
        ]

    def _report(self, order: PlaceOrder, kind: str, **facts: object) -> ExecutionReport:
        self.number += 1
        report = ExecutionReport(
            session_key=SESSION_KEY,
            market="equities",
            shard=0,
            log_id=LOG_ID,
            number=self.number,
            seq=self.number,
            offset=self.number,
            at_ns=1_795_449_600_000_000_000 + self.number,
            kind=kind,
            participant=PARTICIPANT,
            account=order.account,
            order_id=order.order_id,
            revision=self.revisions[order.order_id],
            **{"ticker": order.ticker, "side": order.side, **facts},  # type: ignore[arg-type]  # facts of one kind
        )
        self.reports[self.number] = report
        return report

    def _day_trades(self, request: DoorRequest) -> DayTrades:
        trades = tuple(
            DayTrade(
                trade_id=report.trade_id or "",
                market=report.market,
                ticker=report.ticker or "",
                order_id=report.order_id,
                account=report.account,
                side=self.orders[report.order_id].side,
                price_ticks=report.price_ticks or 0,
                quantity_shares=report.quantity_shares or 0,
            )
            for report in self.reports.values()
            if report.kind == "trade"
        )
        return DayTrades(
            message_id=request.message_id, session_key=SESSION_KEY, business_date="2026-11-23", trades=trades
        )

    async def _send(self, reports: list[ExecutionReport]) -> None:
        kept = [report for report in reports if not self.lose(report)]
        await self._reply([*kept, *kept] if self.twice else kept)

    async def _reply(self, messages: Sequence[DoorReply]) -> None:
        assert self._server is not None
        if messages:
            await self._server.reply_all(PARTICIPANT, messages)


class ServiceProcess:
    """One service as a process of its own; its output goes to a file that a failing test shows."""

    def __init__(self, name: str, env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.env = env
        self.log_path = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env={**os.environ, **self.env, **more, **DIES_WITH_US},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    async def ready(self, session: aiohttp.ClientSession, deadline_s: float = 90) -> None:
        give_up_at = time.monotonic() + deadline_s
        while time.monotonic() < give_up_at:
            assert not self.ended, f"{self.name} ended: {self.log_path.read_text()[-3000:]}"
            with suppress(aiohttp.ClientError):
                async with session.get(f"{self.url}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready: {self.log_path.read_text()[-3000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['MYBROKER_HTTP_PORT']}"
