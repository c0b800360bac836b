"""Asking running processes how they are: /readyz of each, /state of the matchers.

One task asks everybody in turn, often while something is not ready and seldom once all is well. An answer is
believed for ANSWER_HOLDS_S; a process that was replaced starts again as not ready.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from mybroker.domain.phase import Phase
from mybroker.plan.observed import MarketSeen

ASK_EVERY_S = 0.15
ASK_READY_EVERY_S = 0.5
ANSWER_WITHIN_S = 2.0
ANSWER_HOLDS_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one process said of itself last."""

    pid: int
    ready: bool
    waiting_for: tuple[str, ...]
    at_s: float
    state: Mapping[str, Any]


class Probes:
    """Keeps the newest answer of every process."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], ports: Mapping[str, int]) -> None:
        """`pids` gives what runs now; `ports` where each listens."""
        self._pids = pids
        self._ports = ports
        self._answers: dict[str, Answer] = {}
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            asked_s: dict[str, float] = {}
            while True:
                due = [
                    name
                    for name in self._pids()
                    if time.monotonic() - asked_s.get(name, 0.0)
                    >= (ASK_READY_EVERY_S if self.ready(name) and not name.startswith("matcher/") else 0.0)
                ]
                asked_s |= dict.fromkeys(due, time.monotonic())
                await asyncio.gather(*(self._ask(http, name) for name in due))
                await asyncio.sleep(ASK_EVERY_S)

    def ready(self, name: str) -> bool:
        """Say whether the process that runs under this name now is ready."""
        answer = self._current(name)
        return answer is not None and answer.ready

    def waiting_for(self, name: str) -> tuple[str, ...]:
        """Return what a process that is not ready waits for; empty where it has not answered."""
        answer = self._current(name)
        return answer.waiting_for if answer is not None else ()

    def market(self, name: str, shard: int) -> MarketSeen:
        """Return one shard as its matcher shows it."""
        answer = self._current(f"matcher/{name}-{shard}")
        state = answer.state if answer is not None else {}
        known = state.get("seq") if state.get("business_date") else None
        return MarketSeen(
            name=name,
            shard=shard,
            phase=Phase(state["phase"]) if known is not None else None,
            business_date=state.get("business_date"),
            at_ns=state.get("at_ns"),
            epoch=state.get("epoch"),
            seq=state.get("seq"),
            snapshot_seq=state.get("snapshot_seq"),
            ready=answer is not None and answer.ready,
            message=state.get("message", ""),
        )

    def closing_prices(self) -> dict[str, int]:
        """Return the closing prices that the matchers report, by ticker."""
        return {
            ticker: price_ticks
            for name, answer in self._answers.items()
            if self._current(name) is not None
            for ticker, price_ticks in answer.state.get("closing_price_ticks", {}).items()
        }

    def highest_tick_ns(self) -> int | None:
        """Return the newest session instant that any matcher has reached."""
        ticks = [answer.state.get("at_ns") or 0 for name, answer in self._answers.items() if self._current(name)]
        return max(ticks, default=0) or None

    def _current(self, name: str) -> Answer | None:
        answer = self._answers.get(name)
        if answer is None or answer.pid != self._pids().get(name) or time.monotonic() - answer.at_s > ANSWER_HOLDS_S:
            return None
        return answer

    async def _ask(self, http: aiohttp.ClientSession, name: str) -> None:
        pid = self._pids().get(name)
        if pid is None:
            return
        base = f"http://127.0.0.1:{self._ports[name]}"
        was_ready = self.ready(name)
        try:
            async with http.get(f"{base}/readyz") as response:
                body = msgspec.json.decode(await response.read())
            state: Mapping[str, Any] = {}
            if name.startswith("matcher/"):
                async with http.get(f"{base}/state") as response:
                    state = msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, OSError):
            self._answers.pop(name, None)
        else:
            self._answers[name] = Answer(
                pid=pid,
                ready=bool(body.get("ready")),
                waiting_for=tuple(body.get("waiting_for", ())),
                at_s=time.monotonic(),
                state=state,
            )
        if self.ready(name) != was_ready:
            self.changed.set()
