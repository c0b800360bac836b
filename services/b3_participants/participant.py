"""One participant at the exchange's door: logs on, clears what an earlier life left, then trades as it decides.

Order ids carry the boot's id, so that they never meet those of an earlier life. Whatever was lost (a gap, a silent
question) is met the same way as a start: mass cancel, forget, quote again. What was locked in a call when the start's
mass cancel came is cleared by a second one once the market trades continuously.
Limits: UNDERWAY_MAX answers awaited, the pace's commands a second, ACTIONS_MAX per look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from mybroker.contracts.commands import CancelOrder, MassCancel, PlaceOrder, ReplaceOrder
from mybroker.contracts.door import DoorBody, DoorRequest, RefusedAtDoor, Sequenced, SessionLogon
from mybroker.domain.instrument import Instrument
from mybroker.domain.phase import CALL_PHASES, CONTINUOUS_PHASES
from mybroker.runtime.clock import Clock
from mybroker.runtime.door import DoorClient
from mybroker.runtime.logging import get_logger
from mybroker.runtime.telemetry import counter, current_trace, tracing
from services.b3_participants.decision import Action, Cancel, Decide, Place, Replace, View
from services.b3_participants.market_eye import MarketEye
from services.b3_participants.own_orders import Order, OwnOrders
from services.b3_participants.pace import Pace

UNDERWAY_MAX = 20
ACTIONS_MAX = 12
LOGON_RETRY_S = 1.0
FRESH_START_PAUSE_NS = 10_000_000_000

_SENT = counter("mbb3_participant_commands_total", "Commands sent by participants", ["kind", "command"])
_TRADES = counter("mbb3_participant_trades_total", "Trades of participants", ["kind"])
_FRESH_STARTS = counter("mbb3_participant_fresh_starts_total", "Mass cancels after something was lost", ["kind"])


class Participant:
    """One market maker or noise trader. `kind` is only for metrics."""

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        boot: str,
        session_key: str,
        door: DoorClient,
        eye: MarketEye,
        instruments: Sequence[Instrument],
        decide: Decide,
        one_at_a_time: bool,
        pace: Pace,
        rng: Random,
        clock: Clock,
    ) -> None:
        """`one_at_a_time`: look at one ticker drawn by chance, as a noise trader does, instead of at all in turn."""
        self.name = name
        self.own = OwnOrders()
        self.logged_on = asyncio.Event()
        self._kind = kind
        self._boot = boot
        self._session_key = session_key
        self._door = door
        self._eye = eye
        self._instruments = list(instruments)
        self._decide = decide
        self._one_at_a_time = one_at_a_time
        self._pace = pace
        self._rng = rng
        self._clock = clock
        self._numbers = 0
        self._logon_id = ""
        self._leftovers_locked = False
        self._fresh_at_ns: int | None = None
        self._log = get_logger()

    async def hear_replies(self) -> None:
        """Keep the own orders by the door's replies, until cancelled."""
        async for delivery in self._door.replies():
            reply, trades = delivery.message, self.own.trades
            if isinstance(reply, Sequenced) and reply.message_id == self._logon_id:
                self.logged_on.set()
            if isinstance(reply, RefusedAtDoor) and reply.message_id == self._logon_id:
                self._log.info("logon_refused", participant=self.name, reason=reply.reason.value, text=reply.text)
            self.own.hear(reply)
            _TRADES.labels(self._kind).inc(self.own.trades - trades)
            await delivery.ack()

    async def trade(self) -> None:
        """Log on, clear, then look and act at the pace, until cancelled."""
        await self.log_on()
        await self.start_fresh()
        while True:
            await self._pace.wait(self._clock)
            if self.own.logged_off:
                self.own.logged_off = False
                await self.log_on()
                await self.start_fresh()
            underway = self.own.underway(self._clock.monotonic_ns())
            if self.own.lost and self._may_start_fresh():
                _FRESH_STARTS.labels(self._kind).inc()
                self._log.info("participant_started_fresh", participant=self.name, underway=underway)
                await self.start_fresh()
            if self._eye.running and underway < UNDERWAY_MAX:
                await self.look()

    async def log_on(self) -> None:
        """Log on, again and again until the door has it in every log."""
        self.logged_on.clear()
        while not self.logged_on.is_set():
            self._logon_id = self._next_id()
            await self._send([(self._logon_id, SessionLogon())])
            try:
                async with asyncio.timeout(LOGON_RETRY_S):
                    await self.logged_on.wait()
            except TimeoutError:
                continue

    async def start_fresh(self) -> None:
        """Cancel everything there may be, and forget it. Commands sent later come later in every log."""
        self._fresh_at_ns = self._clock.monotonic_ns()
        mass_id = self._next_id()
        await self._send([(mass_id, MassCancel(participant=self.name, mass_id=mass_id))])
        self.own.forget()
        views = [self._eye.view(instrument.ticker) for instrument in self._instruments]
        self._leftovers_locked = any(view is None or view.phase in CALL_PHASES for view in views)

    async def look(self) -> None:
        """Look at one ticker, or at each in turn, and do what was decided."""
        instruments = [self._rng.choice(self._instruments)] if self._one_at_a_time else self._instruments
        left = 1 if self._one_at_a_time else ACTIONS_MAX
        for instrument in instruments:
            view = self._eye.view(instrument.ticker)
            if view is None:
                continue
            if self._leftovers_locked and view.phase in CONTINUOUS_PHASES:
                await self.start_fresh()
                return
            actions = self._decide(view, self.own.holding(instrument.ticker), instrument, self._rng)[:left]
            if not actions:
                continue
            requests = [self._request(action, view) for action in actions]
            await self._send(requests)
            self._pace.spent(len(requests))
            left -= len(requests)
            if left <= 0:
                break
        # The next look begins with the next ticker, so that a busy one does not starve the others.
        self._instruments.append(self._instruments.pop(0))

    def _may_start_fresh(self) -> bool:
        now_ns = self._clock.monotonic_ns()
        return self._fresh_at_ns is None or now_ns - self._fresh_at_ns >= FRESH_START_PAUSE_NS

    def _request(self, action: Action, view: View) -> tuple[str, DoorBody]:
        now_ns = self._clock.monotonic_ns()
        match action:
            case Place():
                order_id = self._next_id()
                self.own.orders[order_id] = Order(
                    order_id=order_id,
                    ticker=view.ticker,
                    side=action.side,
                    price_ticks=action.price_ticks,
                    quantity_shares=action.quantity_shares,
                    asked_at_ns=now_ns,
                )
                return f"{order_id}.1", PlaceOrder(
                    participant=self.name,
                    account=self.name,
                    order_id=order_id,
                    ticker=view.ticker,
                    side=action.side,
                    quantity_shares=action.quantity_shares,
                    type=action.type,
                    time_in_force=action.time_in_force,
                    price_ticks=action.price_ticks,
                    protection_price_ticks=action.protection_price_ticks,
                )
            case Replace():
                order = self._asked(action.order_id, now_ns)
                return f"{order.order_id}.{order.revision}", ReplaceOrder(
                    participant=self.name,
                    order_id=order.order_id,
                    revision=order.revision,
                    ticker=order.ticker,
                    price_ticks=action.price_ticks,
                    quantity_shares=action.quantity_shares,
                )
            case Cancel():
                order = self._asked(action.order_id, now_ns)
                return f"{order.order_id}.{order.revision}", CancelOrder(
                    participant=self.name, order_id=order.order_id, revision=order.revision, ticker=order.ticker
                )

    def _asked(self, order_id: str, now_ns: int) -> Order:
        order = self.own.orders[order_id]
        order.revision += 1
        order.asked_at_ns = now_ns
        return order

    def _next_id(self) -> str:
        self._numbers += 1
        return f"{self.name}-{self._boot}-{self._numbers}"

    async def _send(self, bodies: Sequence[tuple[str, DoorBody]]) -> None:
        with tracing(None):
            trace = current_trace()
            await self._door.send_all(
                [
                    DoorRequest(
                        participant=self.name,
                        session_key=self._session_key,
                        message_id=message_id,
                        body=body,
                        traceparent=None if trace is None else trace.traceparent,
                    )
                    for message_id, body in bodies
                ]
            )
        for _message_id, body in bodies:
            _SENT.labels(self._kind, type(body).__name__).inc()
