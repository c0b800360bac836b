"""One ticker's visible book, built from absolute book events: orders in, price levels out.

Invariants: a level's quantity is the sum of its orders; a level without orders is gone; `book_seq` grows by one with
each event, so one heard twice changes nothing and a missing one raises `BookGap`. What changed since the last look is
kept as a set of levels, because deltas carry absolute quantities: merging two deltas is the union of their levels.
"""

from collections.abc import Collection, Iterable

from mybroker.contracts.events import BookEntry
from mybroker.contracts.feed import BookDelta, BookRecord, BookSnapshot, Level
from mybroker.domain.money import format_ticks
from mybroker.domain.order import Side

MARKET_ORDER_PRICE = "market"

LevelKey = tuple[Side, int | None]
"""(side, price in ticks); None is where market orders wait for an auction."""


class BookGap(Exception):
    """A book event is missing: whoever goes on would show a wrong book."""


class TickerBook:
    """The visible book of one ticker."""

    __slots__ = ("_changed", "_levels", "_orders", "book_seq", "ticker")

    def __init__(self, ticker: str) -> None:
        self.ticker = ticker
        self.book_seq = 0
        self._orders: dict[int, tuple[Side, int | None, int]] = {}
        self._levels: dict[LevelKey, list[int]] = {}
        self._changed: set[LevelKey] = set()

    def load(self, record: BookRecord) -> None:
        """Begin with a full book instead of an empty one."""
        assert self.book_seq == 0 and not self._orders, f"{self.ticker}: expected an empty book to load into"
        for order in record.orders:
            self._put(order.entry, order.side, order.price_ticks, order.quantity_shares)
        self.book_seq = record.book_seq

    def apply(self, event: BookEntry) -> bool:
        """Take one event; False when it was heard before. Raises BookGap."""
        if event.book_seq <= self.book_seq:
            return False
        if event.book_seq != self.book_seq + 1:
            raise BookGap(f"{self.ticker}: expected book event {self.book_seq + 1}, was {event.book_seq}")
        self.book_seq = event.book_seq
        self._put(event.entry, event.side, event.price_ticks, event.quantity_shares)
        return True

    def take_changes(self) -> frozenset[LevelKey]:
        """Return the levels that changed since the last call, and forget them."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    @property
    def changes(self) -> Collection[LevelKey]:
        """The levels that changed and were not yet taken."""
        return self._changed

    @property
    def levels(self) -> int:
        """How many levels the book has."""
        return len(self._levels)

    def best(self, side: Side) -> int | None:
        """Return the best limit price of a side in ticks."""
        prices = [price for level_side, price in self._levels if level_side is side and price is not None]
        if not prices:
            return None
        return max(prices) if side is Side.BUY else min(prices)

    def snapshot(self, depth: int | None = None) -> BookSnapshot:
        """Return the whole book, best level first, or its best `depth` levels a side."""
        return BookSnapshot(
            ticker=self.ticker,
            seq=self.book_seq,
            bids=self._side(self._levels, Side.BUY)[:depth],
            asks=self._side(self._levels, Side.SELL)[:depth],
        )

    def delta(self, prev: int, changed: Iterable[LevelKey]) -> BookDelta:
        """Return what these levels are now, for a client whose book is at `prev`."""
        keys = set(changed)
        return BookDelta(
            ticker=self.ticker,
            prev=prev,
            seq=self.book_seq,
            bids=self._side(keys, Side.BUY),
            asks=self._side(keys, Side.SELL),
        )

    def _put(self, entry: int, side: Side, price_ticks: int | None, quantity_shares: int) -> None:
        before = self._orders.pop(entry, None)
        if before is not None:
            self._add((before[0], before[1]), -before[2], -1)
        if quantity_shares > 0:
            self._orders[entry] = (side, price_ticks, quantity_shares)
            self._add((side, price_ticks), quantity_shares, 1)

    def _add(self, key: LevelKey, quantity_shares: int, orders: int) -> None:
        level = self._levels.setdefault(key, [0, 0])
        level[0] += quantity_shares
        level[1] += orders
        assert level[0] >= 0 and level[1] >= 0, f"{self.ticker} {key}: expected no negative level, was {level}"
        if level[1] == 0:
            del self._levels[key]
        self._changed.add(key)

    def _side(self, keys: Iterable[LevelKey], side: Side) -> tuple[Level, ...]:
        own = [key[1] for key in keys if key[0] is side]
        own.sort(key=lambda price: _rank(side, price))
        shown = []
        for price in own:
            quantity_shares, orders = self._levels.get((side, price), (0, 0))
            text = MARKET_ORDER_PRICE if price is None else format_ticks(price)
            shown.append((text, quantity_shares, orders))
        return tuple(shown)


def _rank(side: Side, price: int | None) -> int:
    """Market orders stand before every limit price."""
    if price is None:
        return -(1 << 62)
    return -price if side is Side.BUY else price
