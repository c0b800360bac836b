"""All the engine knows, the frame it is making, and the journal that can undo a command.

Everything that changes is `touch`ed before its first change in a command, which appends a before-image to the
journal. The journal is the undo (see `guard`) and, between two state hashes, the list of what must be hashed again.
Iteration is over dicts and lists in insertion order, never over sets.
"""

from __future__ import annotations

from typing import Any

from mybroker.contracts.events import Event, OrderRef
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.items import ABSENT, ENDED, Ended, Instrument, Member, Order, Trade
from services.b3_matcher.engine.market import Market

JOURNAL_LENGTH_MAX = 20_000
"""Between commands a longer journal is folded into the hash, so it cannot grow with the day."""


class State:
    """All of it, with the frame being made and the journal."""

    __slots__ = (
        "hash_total",
        "instruments",
        "journal",
        "live_orders",
        "market",
        "members",
        "offset",
        "out",
        "phase_changed",
        "rules",
        "stamp",
        "to_settle",
        "trade_index",
    )

    def __init__(self, engine_version: int) -> None:
        self.market = Market(engine_version)
        self.rules = Rules()
        self.members: dict[str, Member] = {}
        self.instruments: dict[str, Instrument] = {}
        self.journal: list[tuple[Any, tuple[Any, ...]]] = []
        self.out: list[Event] = []
        self.live_orders = 0
        self.stamp = 0
        self.offset = -1
        self.trade_index = 0
        self.phase_changed = False
        self.to_settle: dict[str, Instrument] = {}
        """Instruments whose triggered stops may enter once the command is through."""
        self.hash_total = 0

    def begin(self, offset: int) -> None:
        """Start the frame of the command at this offset."""
        self.offset = offset
        self.out = []
        self.trade_index = 0
        self.phase_changed = False
        if self.to_settle:
            self.to_settle = {}

    def touch(self, item: Order | Ended | Member | Instrument | Trade | Market) -> None:
        """Keep an item's image before it changes; once per command is enough."""
        if item.stamp != self.stamp:
            item.stamp = self.stamp
            self.journal.append((item, item.image()))

    def member(self, name: str) -> Member:
        """Return a participant, known from its first command on."""
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = Member(name)
        return member

    def list_instrument(self, instrument: Instrument) -> None:
        """Enter a new instrument; its empty image means that it was not there."""
        self.instruments[instrument.ticker] = instrument
        instrument.stamp = self.stamp
        self.journal.append((instrument, ()))

    def know(self, item: Order | Ended) -> None:
        """Enter a new id."""
        item.member.orders[item.order_id] = item
        item.stamp = self.stamp
        self.journal.append((item, (ABSENT, *item.image()[1:])))

    def reference(self, order: Order | Ended) -> OrderRef:
        """Name an order in an event and count the owner's next report."""
        member = order.member
        if member.stamp != self.stamp:
            member.stamp = self.stamp
            self.journal.append((member, member.image()))
        member.reports = number = member.reports + 1
        return OrderRef(
            participant=member.name,
            account=order.account,
            order_id=order.order_id,
            revision=order.revision,
            report_number=number,
        )

    def mark(self) -> tuple[int, int]:
        """Open a stretch that `undo` can take back."""
        self.stamp += 1
        return len(self.journal), len(self.out)

    def undo(self, mark: tuple[int, int]) -> None:
        """Take back everything since the mark: images in reverse, then the books of what was touched."""
        journal_length, out_length = mark
        instruments: dict[str, Instrument] = {}
        while len(self.journal) > journal_length:
            item, image = self.journal.pop()
            if isinstance(item, Instrument) and not image:
                del self.instruments[item.ticker]
                instruments.pop(item.ticker, None)
                continue
            item.restore(image)
            if isinstance(item, Instrument):
                instruments[item.ticker] = item
            elif isinstance(item, Order):
                instruments[item.instrument.ticker] = item.instrument
        del self.out[out_length:]
        self.stamp += 1
        for instrument in instruments.values():
            self.rebuild(instrument)
        self.count_live_orders()
        config = self.market.config
        self.rules = Rules() if config is None else config.rules

    def rebuild(self, instrument: Instrument) -> None:
        """Make an instrument's books again from its orders; slow, for an undo and for loading only."""
        instrument.clear_books()
        for order in self.live_orders_of(instrument):
            instrument.place(order)

    def count_live_orders(self) -> None:
        """Count again what `live_orders` counts along the way."""
        self.live_orders = sum(
            order.state > ENDED for member in self.members.values() for order in member.orders.values()
        )

    def live_orders_of(self, instrument: Instrument) -> list[Order]:
        """Return an instrument's orders by entry number, from the ids and not from its books."""
        live = [
            order
            for member in self.members.values()
            for order in member.orders.values()
            if isinstance(order, Order) and order.instrument is instrument and order.state > ENDED
        ]
        return sorted(live, key=_entry_of)


def _entry_of(order: Order) -> int:
    return order.entry
