"""The day as `mybroker up` tells it: how services come, each phase, the auction's results, the summary.

Polls the runner in its own loop; what it tells beside that it asks of the public feed and the gateway, in threads.
A question that is not answered in time leaves its lines out, never the day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from mybroker.cli.client import Client
from mybroker.cli.failure import Failure
from mybroker.cli.screen import Screen
from mybroker.cli.up_news import (
    auction_line,
    phase_line,
    summary_facts,
    summary_lines,
    wallet_line,
    where_to_look,
)
from mybroker.contracts.http_broker import OrderList, Wallet
from mybroker.contracts.http_feed import SessionState, TradeList
from mybroker.contracts.http_identity import Credentials, TokenPair
from mybroker.domain.phase import Phase
from mybroker.local.runner import GATEWAY, Runner

LOOK_EVERY_S = 0.1
ANSWER_WITHIN_S = 10.0
AUCTION_TRADES_MAX = 500
DEMO_ORDERS_MAX = 500
FEED = "b3/market_feed"
DEMO = "demo"
SCHEDULED = "Scheduled"

Found = TypeVar("Found")


class DayTeller:
    """Tells one session's day to a screen. `run` ends when cancelled."""

    def __init__(self, runner: Runner, screen: Screen, is_stopping: Callable[[], bool]) -> None:
        """Begin to count: the time to pre-open is told. Once the runner stops there is nothing more to tell."""
        self._runner = runner
        self._is_stopping = is_stopping
        self._screen = screen
        self._started_s = time.monotonic()
        self._phase: str | None = None
        self._ready = -1
        self._all_ready = False
        self._page_told = False

    async def run(self) -> None:
        """Look and tell until cancelled or the runner stops."""
        while not self._is_stopping():
            self._tell_services()
            self._tell_page()
            await self._tell_phase()
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell_services(self) -> None:
        plan = self._runner.plan
        if plan is None or self._all_ready:
            return
        wanted = [workload.name for workload in plan.workloads]
        ready = sum(self._runner.probes.ready(name) for name in wanted)
        if ready == self._ready:
            return
        self._ready = ready
        self._all_ready = ready == len(wanted)
        waiting = [name for name in wanted if not self._runner.probes.ready(name)]
        text = "ready" if self._all_ready else f"waiting for {', '.join(waiting[:3])}{' …' if waiting[3:] else ''}"
        self._screen.progress("services", text, ready, len(wanted))
        if self._all_ready:
            self._screen.settle()
            facts = {"ready": ready, "after_s": round(time.monotonic() - self._started_s, 1)}
            self._screen.say("services_ready", facts, f"services ready: {ready} of {len(wanted)}")

    def _tell_page(self) -> None:
        runner = self._runner
        if self._page_told or self._phase is None or not runner.probes.ready(GATEWAY):
            return
        self._page_told = True
        demo = runner.options.environ.get("MYBROKER_DEMO_USER", "1") == "1"
        ticker = runner.session.spec.markets[0].instruments[0]
        text = where_to_look(runner.gateway_url, ticker, demo=demo)
        self._screen.say("page_ready", {"url": runner.gateway_url}, text)

    async def _tell_phase(self) -> None:
        plan = self._runner.plan
        if plan is None or plan.status.phase in (self._phase, "Pending"):
            return
        before, phase = self._phase, plan.status.phase
        self._phase = phase
        facts: dict[str, object] = {"phase": phase, "business_date": plan.status.business_date}
        text = phase_line(phase, plan.status.next_transition, time.time_ns())
        if phase != SCHEDULED and before in (None, SCHEDULED):
            facts["after_s"] = round(time.monotonic() - self._started_s, 1)
            text += f" ({facts['after_s']} s after the start)"
        self._screen.say("phase_changed", facts, text)
        if phase == "Open" and before == "PreOpen":
            await self._tell_auction()
        if phase == "Closed":
            if before is not None:
                await self._tell_summary()
            text = "the day is over; everything stays up to look at, until ctrl-C (`mybroker up --new-day` starts over)"
            self._screen.say("day_over", {"date": str(plan.status.business_date)}, text)

    async def _tell_auction(self) -> None:
        state = await self._asked(lambda: self._state_in(Phase.OPEN))
        if state is None:
            return
        lines = []
        results: dict[str, object] = {}
        for one in state.tickers:
            listed = await self._asked(lambda ticker=one.ticker: self._trades(ticker))  # type: ignore[misc]
            if listed is None:
                return
            in_auction = [trade for trade in listed.trades if trade.aggressor == "auction"]
            price = in_auction[0].price if in_auction else None
            results[one.ticker] = {"price": price, "quantity": sum(trade.quantity for trade in in_auction)}
            if in_auction:
                lines.append(auction_line(one.ticker, in_auction))
        text = "the opening auction gave\n" + "\n".join(lines) if lines else "nothing traded in the opening auction"
        self._screen.say("opening_auction", {"results": results}, text)

    async def _tell_summary(self) -> None:
        state = await self._asked(lambda: self._state_in(Phase.CLOSED))
        if state is None:
            return
        facts = summary_facts(state.tickers, None)
        table = summary_lines(state.tickers, facts)
        tickers = {
            one.ticker: {
                "open": one.open,
                "high": one.high,
                "low": one.low,
                "close": one.last,
                "trades": one.trades,
                "volume": one.volume,
                "turnover": one.turnover,
            }
            for one in state.tickers
        }
        self._screen.say("day_summary", facts | {"tickers": tickers}, f"the day {state.at[:10]}\n{table}")
        demo = await self._asked(self._demo)
        if demo is not None:
            wallet, orders = demo
            counted = len(orders.orders)
            facts = {
                "account": wallet.account,
                "cash": wallet.cash.total,
                "orders": counted,
                "shares": {one.asset: one.total for one in wallet.shares},
            }
            self._screen.say("account_summary", facts, wallet_line(DEMO, wallet, orders.orders))

    def _feed(self) -> Client:
        return Client(f"http://127.0.0.1:{self._runner.ports[FEED]}")

    def _state_in(self, phase: Phase) -> SessionState:
        """Wait until the feed has every market in this phase, then return what it shows."""
        give_up_s = time.monotonic() + ANSWER_WITHIN_S
        while True:
            state = self._feed().get("/state", SessionState, {"session": self._runner.session.key})
            if all(market.phase is phase for market in state.markets) or time.monotonic() > give_up_s:
                return state
            time.sleep(LOOK_EVERY_S)

    def _trades(self, ticker: str) -> TradeList:
        query = {"session": self._runner.session.key, "limit": AUCTION_TRADES_MAX}
        return self._feed().get(f"/trades/{ticker}", TradeList, query)

    def _demo(self) -> tuple[Wallet, OrderList]:
        gateway = Client(f"{self._runner.gateway_url}/api/v1")
        tokens = gateway.post("/auth/token", TokenPair, Credentials(username=DEMO, password=DEMO))
        mine = gateway.with_headers(Authorization=f"Bearer {tokens.access_token}")
        return mine.get("/wallet", Wallet), mine.get("/orders", OrderList, {"limit": DEMO_ORDERS_MAX})

    async def _asked(self, question: Callable[[], Found]) -> Found | None:
        try:
            return await asyncio.wait_for(asyncio.to_thread(question), ANSWER_WITHIN_S * 2)
        except (Failure, TimeoutError) as error:
            self._screen.say("not_told", {"why": str(error)}, None)
            return None
