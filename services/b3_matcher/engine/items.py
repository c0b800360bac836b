"""The things a state is made of: orders, used-up ids, participants, trades, instruments.

Each can give an image of what may change in it, take one back, and say which facts the state hash covers.
Invariants: an id stays known for ever, as an `Order` while it lives and as a small `Ended` afterwards; entry numbers
of an instrument only grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from mybroker.contracts.commands import InstrumentConfig
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Bands, Rules
from services.b3_matcher.engine.book import Ladder, StopLadder

ABSENT, ENDED, RESTING, PARKED, STOPPED, TRIGGERED = -1, 0, 1, 2, 3, 4
"""An order's state: not there (yet), gone, in the book; outside the book: waiting for an auction to join, for its stop
price, or (set off already) for its turn to enter."""

_ORDER_CHANGES = (
    "state",
    "type",
    "tif",
    "price",
    "quantity",
    "cum",
    "leaves",
    "shown",
    "protection",
    "revision",
    "entry",
)
_order_image = attrgetter(*_ORDER_CHANGES)


class Order:
    """One order that lives. `price` is None for a market order that waits for an auction."""

    __slots__ = (
        "account",
        "cum",
        "display",
        "entry",
        "expires",
        "hashed",
        "instrument",
        "leaves",
        "member",
        "order_id",
        "price",
        "protection",
        "quantity",
        "revision",
        "shown",
        "side",
        "stamp",
        "state",
        "stop",
        "stp",
        "tif",
        "type",
    )

    def __init__(
        self,
        *,
        member: Member,
        instrument: Instrument,
        order_id: str,
        account: str,
        side: Side,
        type: OrderType,  # noqa: A002 - the trade's word
        tif: TimeInForce,
        price: int | None,
        quantity: int,
        protection: int | None,
        stp: SelfTradePrevention,
        expires: str | None,
        revision: int,
        stop: int | None = None,
        display: int | None = None,
    ) -> None:
        self.member = member
        self.instrument = instrument
        self.order_id = order_id
        self.account = account
        self.side = side
        self.type = type
        self.tif = tif
        self.price = price
        self.quantity = quantity
        self.cum = 0
        self.leaves = quantity
        self.protection = protection
        self.stp = stp
        self.expires = expires
        self.revision = revision
        self.stop = stop
        self.display = display
        self.shown = 0
        """Of an iceberg in the book: the shares it shows."""
        self.entry = 0
        self.state = ENDED
        self.stamp = -1
        self.hashed = 0

    def image(self) -> tuple[Any, ...]:
        """Return what may change."""
        image: tuple[Any, ...] = _order_image(self)
        return image

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back."""
        for name, value in zip(_ORDER_CHANGES, image, strict=True):
            setattr(self, name, value)
        if self.state == ABSENT:
            del self.member.orders[self.order_id]

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers."""
        return (
            "order",
            self.member.name,
            self.order_id,
            self.account,
            self.instrument.ticker,
            self.side._value_,
            self.stp._value_,
            self.expires,
            self.state,
            self.type._value_,
            self.tif._value_,
            self.price,
            self.quantity,
            self.cum,
            self.leaves,
            self.stop,
            self.display,
            self.shown,
            self.protection,
            self.revision,
            self.entry,
        )


class Ended:
    """What is kept of an id that is used up: enough to know it again. `barred`: there never was an order."""

    __slots__ = ("account", "barred", "hashed", "member", "order_id", "revision", "stamp", "ticker")

    state = ENDED

    def __init__(
        self, *, member: Member, order_id: str, account: str, ticker: str, revision: int, barred: bool = False
    ) -> None:
        self.member = member
        self.order_id = order_id
        self.account = account
        self.ticker = ticker
        self.revision = revision
        self.barred = barred
        self.stamp = -1
        self.hashed = 0

    def image(self) -> tuple[Any, ...]:
        """Return what may change."""
        return (ENDED, self.revision)

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back."""
        state, revision = image
        if state == ABSENT:
            del self.member.orders[self.order_id]
        else:
            self.revision = revision

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers."""
        return ("ended", self.member.name, self.order_id, self.account, self.ticker, self.revision, self.barred)


class Member:
    """A participant: its orders by id, its report numbers, its logon."""

    __slots__ = ("connected", "hashed", "logon_offset", "name", "orders", "reports", "stamp")

    def __init__(self, name: str) -> None:
        self.name = name
        self.orders: dict[str, Order | Ended] = {}
        self.reports = 0
        self.logon_offset: int | None = None
        self.connected = True
        """False after a Disconnect only: a tape needs no logon."""
        self.stamp = -1
        self.hashed = 0

    def image(self) -> tuple[Any, ...]:
        """Return what may change; orders have images of their own."""
        return (self.reports, self.logon_offset, self.connected)

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back."""
        self.reports, self.logon_offset, self.connected = image

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers."""
        if not self.reports and self.logon_offset is None and self.connected:
            return ()
        return ("member", self.name, self.reports, self.logon_offset, self.connected)


@dataclass(slots=True, kw_only=True)
class Trade:
    """A trade of the day, kept so that it can be busted."""

    trade_id: str
    price_ticks: int
    quantity_shares: int
    buy: tuple[str, str]
    """(participant, order id)"""
    sell: tuple[str, str]
    busted: bool = False
    dropped: bool = False
    """Its day is over: nothing is kept of it."""
    stamp: int = -1
    hashed: int = 0

    def image(self) -> tuple[Any, ...]:
        """Return what may change."""
        return (self.busted, self.dropped)

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back."""
        self.busted, self.dropped = image

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers."""
        if self.dropped:
            return ()
        return ("trade", self.trade_id, self.price_ticks, self.quantity_shares, self.buy, self.sell, self.busted)


Theoretical = tuple[int | None, int, int]
"""Price, shares, signed imbalance: what an auction would print."""

NO_THEORETICAL: Theoretical = (None, 0, 0)

_INSTRUMENT_CHANGES = (
    "config",
    "lot",
    "quantity_max",
    "listed",
    "reference",
    "last_price",
    "phase",
    "own_phase",
    "halted",
    "quarantined",
    "call_pending",
    "call_ends_ns",
    "call_changed_ns",
    "call_extensions",
    "call_protections",
    "theoretical",
    "entries",
    "book_seq",
    "day",
    "day_closed",
    "official_close",
    "static_step",
    "recent",
    "recent_value",
    "recent_shares",
    "trades",
    "day_trades",
    "day_shares",
    "day_cents",
    "day_open",
    "day_high",
    "day_low",
)
_instrument_image = attrgetter(*_INSTRUMENT_CHANGES)


class Instrument:
    """One ticker: its book, its phase, its day."""

    __slots__ = (
        *_INSTRUMENT_CHANGES,
        "asks",
        "bands",
        "bids",
        "buy_stops",
        "hashed",
        "parked",
        "sell_stops",
        "stamp",
        "ticker",
        "triggered",
    )

    def __init__(self, config: InstrumentConfig, rules: Rules) -> None:
        self.ticker = config.ticker
        self.clear_books()
        self.trades: dict[str, Trade] = {}
        self.stamp = -1
        self.hashed = 0
        self.listed = True
        self.configure(config, rules)
        self.reference = config.reference_price_ticks
        self.last_price = config.last_price_ticks
        self.phase = Phase.CLOSED
        """The phase in force."""
        self.own_phase: Phase | None = None
        """Set where the instrument left its market's phase by command."""
        self.halted = False
        self.quarantined = False
        self.call_pending = False
        """A call collected orders that were not uncrossed yet."""
        self.call_ends_ns: int | None = None
        """When a call of its own ends: an auction, or a call that was extended."""
        self.call_changed_ns: int | None = None
        """When last something changed that may extend the call."""
        self.call_extensions = 0
        self.call_protections = 0
        self.day: str | None = None
        """The business date it trades or traded last; a quarantined instrument may be a day behind its market."""
        self.day_closed = False
        self.official_close: int | None = None
        """The price at the end of the closing call."""
        self.static_step = 0
        self.recent: tuple[tuple[int, int, int], ...] = ()
        """(session time, price x shares, shares) of the last trades, for the mean price; one entry a tick."""
        self.recent_value = 0
        self.recent_shares = 0
        self.theoretical = NO_THEORETICAL
        self.entries = 0
        self.book_seq = 0
        self.day_trades = 0
        self.day_shares = 0
        self.day_cents = 0
        self.day_open: int | None = None
        self.day_high: int | None = None
        self.day_low: int | None = None

    def configure(self, config: InstrumentConfig, rules: Rules) -> None:
        """Take lot and maximum from a configuration."""
        self.config = config
        self.lot = rules.lot if rules.lot is not None else config.lot_shares
        limits = [rules.quantity_max_shares]
        if config.quantity_max_shares is not None:
            limits.append(config.quantity_max_shares)
        self.quantity_max = min(limits)
        self.bands = bands_of(rules, config.group)

    def clear_books(self) -> None:
        """Make the indexes over the orders empty."""
        self.bids = Ladder(1)
        self.asks = Ladder(-1)
        self.parked: dict[int, Order] = {}
        """Orders for a later auction (at_the_close, good_for_auction), oldest first."""
        self.buy_stops = StopLadder(-1)
        self.sell_stops = StopLadder(1)
        self.triggered: dict[int, Order] = {}
        """Stops that were set off, in the order in which they enter."""

    def live(self) -> list[Order]:
        """Return every order that lives, by entry number."""
        orders = [
            *self.bids.orders(),
            *self.asks.orders(),
            *self.parked.values(),
            *self.buy_stops.orders.values(),
            *self.sell_stops.orders.values(),
            *self.triggered.values(),
        ]
        return sorted(orders, key=_entry_of)

    @property
    def centre(self) -> int | None:
        """The last trade, else the adjusted close: what bands and auctions look to."""
        return self.last_price if self.last_price is not None else self.reference

    @property
    def closing_price(self) -> int | None:
        """The price at the end of the closing call, else the last trade, else the reference."""
        return self.centre if self.official_close is None else self.official_close

    def book_side(self, side: Side) -> Ladder:
        """Return the ladder where orders of this side rest."""
        return self.bids if side is Side.BUY else self.asks

    def stop_side(self, side: Side) -> StopLadder:
        """Return the ladder where stops of this side wait."""
        return self.buy_stops if side is Side.BUY else self.sell_stops

    def place(self, order: Order) -> None:
        """Enter a live order into the index that belongs to its state."""
        if order.state == RESTING:
            self.book_side(order.side).add(order)
        elif order.state == PARKED:
            self.parked[order.entry] = order
        elif order.state == STOPPED:
            self.stop_side(order.side).add(order)
        else:
            self.triggered[order.entry] = order

    def image(self) -> tuple[Any, ...]:
        """Return what may change; the books follow from the orders."""
        return (len(self.trades), _instrument_image(self))

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back; `State.undo` rebuilds the books afterwards."""
        trades, values = image
        for name, value in zip(_INSTRUMENT_CHANGES, values, strict=True):
            setattr(self, name, value)
        while len(self.trades) > trades:
            self.trades.popitem()

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers."""
        return (
            "instrument",
            self.ticker,
            self.listed,
            self.lot,
            self.quantity_max,
            self.reference,
            self.last_price,
            self.phase._value_,
            None if self.own_phase is None else self.own_phase._value_,
            self.halted,
            self.quarantined,
            self.call_pending,
            (self.call_ends_ns, self.call_changed_ns, self.call_extensions, self.call_protections),
            self.theoretical,
            self.entries,
            self.book_seq,
            (self.day, self.day_closed, self.official_close, self.static_step),
            (self.recent, self.recent_value, self.recent_shares),
            self.day_trades,
            self.day_shares,
            self.day_cents,
            self.day_open,
            self.day_high,
            self.day_low,
        )


def bands_of(rules: Rules, group: str) -> Bands:
    """Return a group's row of the bands' table; what belongs to no group is as `other`."""
    rows = dict(rules.bands_by_group)
    return rows.get(group) or rows.get("other") or Bands()


def _entry_of(order: Order) -> int:
    return order.entry
