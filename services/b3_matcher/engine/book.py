"""One side of one book: price levels, each a queue in time; and the stops that wait beside it.

Invariants: `keys` is sorted and holds exactly the levels that have orders; the best level is the last one (a key
is the price for buys and minus the price for sells, so that "better" is "greater" on both sides). Within a level
orders stand by entry number, which only grows, so a dict in insertion order is the queue. The ladders are an index
over the orders: they can be rebuilt from the orders' own fields, and after an undo they are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.b3_matcher.engine.items import Order


class Level:
    """All orders at one price, oldest first, and the shares they leave open."""

    __slots__ = ("orders", "shares")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.shares = 0
        """All shares, those an iceberg does not show included."""


class Ladder:
    """The buy side (sign 1) or the sell side (sign -1)."""

    __slots__ = ("keys", "levels", "sign", "unpriced")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.unpriced: dict[int, Order] = {}
        """Market orders that wait for an auction, oldest first."""

    def add(self, order: Order) -> None:
        """Put an order at the end of its queue."""
        if order.price is None:
            self.unpriced[order.entry] = order
            return
        key = order.price * self.sign
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = Level()
            insort(self.keys, key)
        level.orders[order.entry] = order
        level.shares += order.leaves

    def remove(self, order: Order) -> None:
        """Take an order out; its `leaves` must be what the level counted."""
        if order.price is None:
            del self.unpriced[order.entry]
            return
        key = order.price * self.sign
        level = self.levels[key]
        del level.orders[order.entry]
        level.shares -= order.leaves
        if not level.orders:
            del self.levels[key]
            keys = self.keys
            if keys[-1] == key:
                keys.pop()
            else:
                del keys[bisect_left(keys, key)]

    def reduce(self, order: Order, shares: int) -> None:
        """Take `shares` off an order's `leaves`; it keeps its place, and leaves the book when nothing is left."""
        if order.price is not None and shares < order.leaves:
            self.levels[order.price * self.sign].shares -= shares
            order.leaves -= shares
        elif shares < order.leaves:
            order.leaves -= shares
        else:
            self.remove(order)
            order.leaves = 0

    def best_price(self) -> int | None:
        """Return the best price in ticks; None without limit orders."""
        return self.keys[-1] * self.sign if self.keys else None

    def depth(self) -> Iterator[tuple[int, Level]]:
        """Yield (price in ticks, level), best first."""
        for key in reversed(self.keys):
            yield key * self.sign, self.levels[key]

    def orders(self) -> Iterator[Order]:
        """Yield every order: market orders, then by price, then by time."""
        yield from self.unpriced.values()
        for key in reversed(self.keys):
            yield from self.levels[key].orders.values()


class StopLadder:
    """One side's stops that wait for their price (sign 1: sells, -1: buys). The next to be set off is the last key."""

    __slots__ = ("keys", "orders", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[tuple[int, int]] = []
        self.orders: dict[int, Order] = {}

    def add(self, order: Order) -> None:
        """Let a stop wait."""
        assert order.stop is not None, f"{order.order_id} waits for a price"
        insort(self.keys, (order.stop * self.sign, -order.entry))
        self.orders[order.entry] = order

    def remove(self, order: Order) -> None:
        """Take a stop out."""
        assert order.stop is not None, f"{order.order_id} waits for a price"
        del self.orders[order.entry]
        del self.keys[bisect_left(self.keys, (order.stop * self.sign, -order.entry))]

    def next_at(self, price: int) -> Order | None:
        """Return the stop that a trade at this price sets off first: the nearest, then the oldest."""
        if self.keys and self.keys[-1][0] >= price * self.sign:
            return self.orders[-self.keys[-1][1]]
        return None
