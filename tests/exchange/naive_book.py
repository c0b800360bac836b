"""An oracle: one open book as plain lists, written to be obviously right and slow, against which the engine is held.

It knows limit and market orders, day, gtc, ioc and fok, protection, self-trade prevention, cancel and replace, and
answers each command with the trades and cancels it causes. It shares no code with the engine.
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

    @property
    def left(self) -> int:
        return self.total - self.done


@dataclass
class NaiveBook:
    stp: str
    queue: list[Resting] = field(default_factory=list)
    """Every resting order, oldest first."""
    known: set[tuple[str, str]] = field(default_factory=set)
    barred: set[tuple[str, str]] = field(default_factory=set)

    def answer(self, command: object) -> list[tuple]:
        match command:
            case PlaceOrder():
                return self._place(command)
            case CancelOrder():
                return self._cancel(command)
            case ReplaceOrder():
                return self._replace(command)
            case _:
                raise AssertionError(f"the oracle does not know {command}")

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
        )
        if taker.price is None and not self._opposite(taker):
            return [("rejected", key, "no_opposite_price")]
        accepted: list[tuple] = [("accepted", key)]
        if taker.tif == "fok" and self._could_have(taker) < taker.total:
            return [*accepted, ("cancelled", key, taker.total, "fok")]
        return accepted + self._trade(taker)

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
            shares = min(taker.left, maker.left)
            taker.done += shares
            maker.done += shares
            last = maker.price
            said.append(("trade", taker.key, maker.key, last, shares))
            if not maker.left:
                self.queue.remove(maker)
        if not taker.left:
            return said
        if taker.tif == "ioc":
            return [*said, ("cancelled", taker.key, taker.left, "ioc_remainder")]
        if taker.price is None and last is None:
            return [*said, ("cancelled", taker.key, taker.left, "no_opposite_price")]
        if taker.price is None:
            taker.price = last
        self.queue.append(taker)
        return said

    def _find(self, key: tuple[str, str]) -> Resting | None:
        return next((resting for resting in self.queue if resting.key == key), None)

    def _cancel(self, command: CancelOrder) -> list[tuple]:
        key = (command.participant, command.order_id)
        resting = self._find(key)
        if key not in self.known:
            self.barred.add(key)
            return [("cancel_rejected", key, "unknown_order")]
        if resting is None:
            return [("cancel_rejected", key, "too_late")]
        self.queue.remove(resting)
        return [("cancelled", key, resting.left, "user")]

    def _replace(self, command: ReplaceOrder) -> list[tuple]:
        key = (command.participant, command.order_id)
        resting = self._find(key)
        if key not in self.known:
            return [("replace_rejected", key, "unknown_order")]
        if resting is None:
            return [("replace_rejected", key, "too_late")]
        price = resting.price if command.price_ticks is None else command.price_ticks
        total = resting.total if command.quantity_shares is None else command.quantity_shares
        if total <= resting.done:
            self.queue.remove(resting)
            return [("cancelled", key, resting.left, "replaced_to_filled")]
        if price == resting.price and total <= resting.total:
            resting.total = total
            return [("replaced", key, price, total, True)]
        self.queue.remove(resting)
        resting.price, resting.total = price, total
        return [("replaced", key, price, total, False), *self._trade(resting)]

    def side(self, side: str) -> list[tuple[int | None, int]]:
        """Return one side's (price, shares left), best first, then oldest."""
        mine = [resting for resting in self.queue if resting.side == side]
        mine.sort(key=lambda resting: -resting.price if side == "buy" else resting.price)
        return [(resting.price, resting.left) for resting in mine]
