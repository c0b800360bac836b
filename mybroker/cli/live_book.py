"""A book kept from the stream: a snapshot, then deltas, each of which must follow the one before. Pure."""

from __future__ import annotations

from mybroker.contracts.feed import BookDelta, BookSnapshot, Level
from mybroker.domain.money import parse_price_ticks
from mybroker.domain.refusal import RejectReason

MARKET = "market"


class Gap(Exception):
    """A delta does not follow what is known: take a new snapshot."""


class LiveBook:
    """One instrument's visible book by price level."""

    def __init__(self) -> None:
        """Know nothing yet; the first message must be a snapshot."""
        self.seq: int | None = None
        self._bids: dict[str, Level] = {}
        self._asks: dict[str, Level] = {}

    def hear(self, message: BookSnapshot | BookDelta) -> None:
        """Take a snapshot, or the delta that follows; an older one changes nothing. Raises Gap."""
        if isinstance(message, BookSnapshot):
            self._bids = {level[0]: level for level in message.bids}
            self._asks = {level[0]: level for level in message.asks}
            self.seq = message.seq
            return
        if self.seq is not None and message.seq <= self.seq:
            return
        if self.seq is None or message.prev != self.seq:
            raise Gap(f"{message.ticker}: expected a delta after {self.seq}, was one after {message.prev}")
        _apply(self._bids, message.bids)
        _apply(self._asks, message.asks)
        self.seq = message.seq

    @property
    def bids(self) -> list[Level]:
        """Return the buyers' levels, best first."""
        return sorted(self._bids.values(), key=lambda level: (level[0] != MARKET, -_ticks(level[0])))

    @property
    def asks(self) -> list[Level]:
        """Return the sellers' levels, best first."""
        return sorted(self._asks.values(), key=lambda level: (level[0] != MARKET, _ticks(level[0])))


def _apply(side: dict[str, Level], levels: tuple[Level, ...]) -> None:
    for level in levels:
        if level[1] == 0:
            side.pop(level[0], None)
        else:
            side[level[0]] = level


def _ticks(price: str) -> int:
    ticks = parse_price_ticks(price)
    return 0 if isinstance(ticks, RejectReason) else ticks
