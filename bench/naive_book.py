"""The baseline of the engine: the least Python that matches limit orders, cancels and replaces.

No events, numbering, undo, phases, checks or hash: the engine's ratio to it says what the rules cost, whatever the
machine. Prices are signed inside, so that the best is the greatest on both sides.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from mybroker.contracts.commands import CancelOrder, Command, PlaceOrder, ReplaceOrder
from mybroker.domain.order import Side, TimeInForce


class NaiveBook:
    """A dict of price levels and a sorted list of prices a side, and nothing else."""

    def __init__(self) -> None:
        self.levels: tuple[dict[int, dict[str, list[int]]], ...] = ({}, {})
        self.prices: tuple[list[int], ...] = ([], [])
        self.where: dict[str, tuple[int, int]] = {}
        self.totals: dict[str, int] = {}
        self.trades = 0

    def place(self, side: int, order_id: str, price: int, left: int, rests: bool) -> None:
        """Match, then rest."""
        other, others = self.levels[1 - side], self.prices[1 - side]
        while left and others and price >= -others[-1]:
            level = other[others[-1]]
            maker_id, maker = next(iter(level.items()))
            shares = min(left, maker[0])
            left -= shares
            maker[0] -= shares
            self.trades += 1
            if not maker[0]:
                self.take_out(maker_id)
        if left and rests:
            if price not in self.levels[side]:
                self.levels[side][price] = {}
                insort(self.prices[side], price)
            self.levels[side][price][order_id] = [left]
            self.where[order_id] = (side, price)

    def take_out(self, order_id: str) -> int:
        """Remove an order; return what was left of it."""
        side, price = self.where.pop(order_id)
        level = self.levels[side][price]
        left = level.pop(order_id)[0]
        if not level:
            del self.levels[side][price]
            self.prices[side].remove(price)
        return left

    def play(self, commands: Iterable[Command]) -> None:
        """Do what limit orders, cancels and replaces of live orders ask; everything else is passed over."""
        for command in commands:
            match command:
                case PlaceOrder():
                    side = 0 if command.side is Side.BUY else 1
                    price = command.price_ticks or 0
                    self.totals[command.order_id] = command.quantity_shares
                    rests = command.time_in_force is TimeInForce.DAY
                    self.place(side, command.order_id, -price if side else price, command.quantity_shares, rests)
                case CancelOrder():
                    self.take_out(command.order_id)
                case ReplaceOrder() if command.price_ticks is not None:
                    side = self.where[command.order_id][0]
                    price = -command.price_ticks if side else command.price_ticks
                    self.place(side, command.order_id, price, self.take_out(command.order_id), True)
                case ReplaceOrder():
                    self._reduce(command.order_id, command.quantity_shares or 0)

    def _reduce(self, order_id: str, total_shares: int) -> None:
        less = self.totals[order_id] - total_shares
        self.totals[order_id] = total_shares
        side, price = self.where[order_id]
        resting = self.levels[side][price][order_id]
        resting[0] -= less
        if resting[0] <= 0:
            self.take_out(order_id)
