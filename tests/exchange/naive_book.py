"""An oracle: one open book as plain lists, written to be obviously right and slow, against which the engine is held.

It knows limit and market orders, stops, icebergs, day, gtc, ioc and fok, protection, self-trade prevention, cancel and
replace, and answers each command with the trades and cancels it causes. It shares no code with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mybroker.contracts.commands import CancelOrder, PlaceOrder, ReplaceOrder


@dataclass
class Resting:
    key: tuple[str, str]
    account: str
    side: str
    price: Any
    """None for a market order until it rests."""
    total: int
    done: int
    tif: str
    stp: str
    protection: int | None
    stop: Any = None
    """None for an order that is no stop."""
    display: int | None = None
    shown: int = 0

    @property
    def left(self) -> int:
        return self.total - self.done


@dataclass
class NaiveBook:
    stp: str
    queue: list[Resting] = field(default_factory=list)
    """Every resting order, oldest first."""
    waiting: list[Resting] = field(default_factory=list)
    """Every stop that waits for its price, oldest first."""
    set_off: list[Resting] = field(default_factory=list)
    last: int | None = None
    known: set[tuple[str, str]] = field(default_factory=set)
    barred: set[tuple[str, str]] = field(default_factory=set)

    def answer(self, command: object) -> list[tuple]:
        match command:
            case PlaceOrder():
                said = self._place(command)
            case CancelOrder():
                said = self._cancel(command)
            case ReplaceOrder():
                said = self._replace(command)
            case _:
                raise AssertionError(f"the oracle does not know {command}")
        while self.set_off:
            order = self.set_off.pop(0)
            said += [("triggered", order.key), *self._trade(order)]
        return said

    def _note_trade(self, price: int) -> None:
        self.last = price
        reached = [x for x in self.waiting if (price >= x.stop if x.side == "buy" else price <= x.stop)]
        buys = sorted((x for x in reached if x.side == "buy"), key=lambda x: x.stop)
        sells = sorted((x for x in reached if x.side == "sell"), key=lambda x: -x.stop)
        for order in (*buys, *sells):
            self.waiting.remove(order)
            self.set_off.append(order)

    def _rest(self, order: Resting) -> None:
        order.shown = order.left if order.display is None else min(order.display, order.left)
        self.queue.append(order)

    def _place(self, order: PlaceOrder) -> list[tuple]:
        key = (order.participant, order.order_id)
        if key in self.barred:
            return [("rejected", key, "id_barred")]
        if key in self.known:
            return [("duplicate", key)]
        self.known.add(key)
        taker = Resting(
            key=key,
            account=order.account,
            side=order.side.value,
            price=order.price_ticks,
            total=order.quantity_shares,
            done=0,
            tif=order.time_in_force.value,
            stp=self.stp if order.self_trade_prevention is None else order.self_trade_prevention.value,
            protection=order.protection_price_ticks,
            stop=order.stop_price_ticks,
            display=order.display_quantity_shares,
        )
        if taker.stop is not None:
            if self._is_wrong_side(taker, taker.price, self.last):
                return [("rejected", key, "stop_price_wrong_side")]
            self.waiting.append(taker)
            return [("accepted", key)]
        if taker.price is None and not self._opposite(taker):
            return [("rejected", key, "no_opposite_price")]
        accepted: list[tuple] = [("accepted", key)]
        if taker.tif == "fok" and self._could_have(taker) < taker.total:
            return [*accepted, ("cancelled", key, taker.total, "fok")]
        return accepted + self._trade(taker)

    def _is_wrong_side(self, order: Resting, limit: int | None, last: int | None) -> bool:
        if order.side == "buy":
            return (limit is not None and limit < order.stop) or (last is not None and order.stop <= last)
        return (limit is not None and limit > order.stop) or (last is not None and order.stop >= last)

    def _opposite(self, taker: Resting) -> list[Resting]:
        """Return what the taker agrees to trade with, in the order it would."""
        buys = taker.side == "buy"
        worst = taker.price if taker.price is not None else taker.protection
        other = [
            resting
            for resting in self.queue
            if resting.side != taker.side
            and (worst is None or (resting.price <= worst if buys else resting.price >= worst))
        ]
        return sorted(other, key=lambda resting: resting.price if buys else -resting.price)

    def _could_have(self, taker: Resting) -> int:
        shares = 0
        for resting in self._opposite(taker):
            if resting.account != taker.account or taker.stp == "none":
                shares += resting.left
            elif taker.stp != "cancel_resting" and shares < taker.left:
                break
        return shares

    def _trade(self, taker: Resting) -> list[tuple]:
        said: list[tuple] = []
        last = None
        while taker.left:
            opposite = self._opposite(taker)
            if not opposite:
                break
            maker = opposite[0]
            if maker.account == taker.account and taker.stp != "none":
                if taker.stp in {"cancel_resting", "cancel_both"}:
                    self.queue.remove(maker)
                    said.append(("cancelled", maker.key, maker.left, "self_trade"))
                if taker.stp in {"cancel_aggressor", "cancel_both"}:
                    return [*said, ("cancelled", taker.key, taker.left, "self_trade")]
                continue
            shares = min(taker.left, maker.shown)
            maker.shown -= shares
            taker.done += shares
            maker.done += shares
            last = maker.price
            said.append(("trade", taker.key, maker.key, last, shares))
            if not maker.shown:
                self.queue.remove(maker)
                if maker.left:
                    self._rest(maker)
            self._note_trade(last)
        if not taker.left:
            return said
        if taker.tif == "ioc":
            return [*said, ("cancelled", taker.key, taker.left, "ioc_remainder")]
        if taker.price is None and last is None:
            return [*said, ("cancelled", taker.key, taker.left, "no_opposite_price")]
        if taker.price is None:
            taker.price = last
        self._rest(taker)
        return said

    def _find(self, key: tuple[str, str]) -> Resting | None:
        return next((order for order in (*self.queue, *self.waiting) if order.key == key), None)

    def _take_out(self, order: Resting) -> None:
        (self.queue if order in self.queue else self.waiting).remove(order)

    def _cancel(self, command: CancelOrder) -> list[tuple]:
        key = (command.participant, command.order_id)
        resting = self._find(key)
        if key not in self.known:
            self.barred.add(key)
            return [("cancel_rejected", key, "unknown_order")]
        if resting is None:
            return [("cancel_rejected", key, "too_late")]
        self._take_out(resting)
        return [("cancelled", key, resting.left, "user")]

    def _replace(self, command: ReplaceOrder) -> list[tuple]:
        key = (command.participant, command.order_id)
        resting = self._find(key)
        if key not in self.known:
            return [("replace_rejected", key, "unknown_order")]
        if resting is None:
            return [("replace_rejected", key, "too_late")]
        waits = resting in self.waiting
        if waits and resting.price is None and command.price_ticks is not None:
            return [("replace_rejected", key, "price_not_allowed")]
        price = resting.price if command.price_ticks is None else command.price_ticks
        total = resting.total if command.quantity_shares is None else command.quantity_shares
        if waits and self._is_wrong_side(resting, price, None):
            return [("replace_rejected", key, "stop_price_wrong_side")]
        if total <= resting.done:
            self._take_out(resting)
            return [("cancelled", key, resting.left, "replaced_to_filled")]
        if price == resting.price and total <= resting.total:
            resting.total = total
            resting.shown = min(resting.shown, resting.left)
            return [("replaced", key, price, total, True)]
        self._take_out(resting)
        resting.price, resting.total = price, total
        if waits:
            self.waiting.append(resting)
            return [("replaced", key, price, total, False)]
        return [("replaced", key, price, total, False), *self._trade(resting)]

    def side(self, side: str) -> list[tuple[int | None, int]]:
        """Return one side's (price, visible shares), best first, then oldest."""
        mine = [resting for resting in self.queue if resting.side == side]
        mine.sort(key=lambda resting: -resting.price if side == "buy" else resting.price)
        return [(resting.price, resting.shown) for resting in mine]
