"""A trading desk for tests: rows of text in, what the exchange said back, row by row.

    sell s1 100 @ 30.02               -> rests 100
    buy b1 300 @ 30.05                -> trades 100 @ 30.02 with s1, rests 200
    buy b2 100 @ mkt ioc account=X    -> no_opposite_price
    replace b1 200 @ 30.04            -> lost place, rests 100
    cancel b1                         -> cancelled 100
    book                              -> empty

    buy x1 100 @ 30.20 stop=30.10     -> waits             a stop_limit; @ mkt makes it a stop
    buy i1 900 @ 30.00 show=300       -> rests 900         an iceberg

Other rows: phase open, uncross, halt, resume, redrive, tick 10 (ns), tick 10:00:30, mass_cancel P1, index 129000.00
130000.00, trip 1. What stands right of the arrow must come back, word for word; nothing there means that nothing is
said. Book entries, bands and hashes are left out.
"""

from __future__ import annotations

from typing import Any

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.money import format_ticks, parse_cents, parse_price_ticks
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine
from services.b3_matcher.engine.items import ENDED, RESTING, Order

TICKER = "PETR4"
DATE = "2026-11-23"
PLAIN = Rules(lot=1, bands=False, extensions=False)
"""Single shares, no bands, calls that end on time: what the tables of the older rules are written for."""


def ticks(text: str) -> int:
    price = parse_price_ticks(text)
    assert isinstance(price, int), f"{text}: {price}"
    return price


def config(
    *,
    rules: Rules | None = None,
    instruments: tuple[c.InstrumentConfig, ...] | None = None,
    schedule: tuple[tuple[int, Phase], ...] = (),
    business_date: str = DATE,
    reference: str | None = "30.00",
    last: str | None = None,
) -> c.SessionConfig:
    one = c.InstrumentConfig(
        ticker=TICKER,
        asset=TICKER,
        group="index",
        reference_price_ticks=None if reference is None else ticks(reference),
        last_price_ticks=None if last is None else ticks(last),
    )
    return c.SessionConfig(
        session="test",
        market="equities",
        shard=0,
        business_date=business_date,
        instruments=instruments or (one,),
        schedule=tuple(c.PhaseChange(at_ns=at_ns, phase=phase) for at_ns, phase in schedule),
        rules=rules or PLAIN,
    )


def seconds(text: str) -> int:
    """Return a time of day as nanoseconds since a midnight that is the desk's epoch."""
    hours, minutes, rest = (*text.split(":"), "0")[:3]
    return (int(hours) * 3600 + int(minutes) * 60 + int(rest)) * 1_000_000_000


class Desk:
    """An engine with its log; every command is kept, so that a desk can be replayed."""

    def __init__(self, phase: Phase | None = Phase.OPEN, **settings: Any) -> None:
        self.engine = Engine()
        self.log: list[tuple[int, c.Command]] = []
        self.frames: list[list[e.Event]] = []
        self.do(c.LogStart(log_id="test"))
        self.do(c.TakeOver(owner="desk", engine_version=ENGINE_VERSION))
        self.configure(config(**settings))
        if phase is not None:
            self.do(c.SetPhase(phase=phase))

    def configure(self, wanted: c.SessionConfig) -> list[e.Event]:
        revision = self.engine.revision + 1
        return self.do(c.ConfigureSession(epoch=self.engine.epoch, revision=revision, config=wanted))

    def do(self, command: c.Command) -> list[e.Event]:
        offset = len(self.log)
        self.log.append((offset, command))
        events = self.engine.apply(offset, command)
        self.frames.append(events)
        return events

    def place(self, side: str, order_id: str, quantity: int, price: str | None, **more: Any) -> list[e.Event]:
        return self.do(order(side, order_id, quantity, price, **more))

    def tick(self, at_ns: int) -> list[e.Event]:
        return self.do(c.Tick(epoch=self.engine.epoch, at_ns=at_ns))

    def book(self, ticker: str = TICKER) -> str:
        view = self.engine.book(ticker)
        names = {order.entry: order.order_id for order in self.engine._state.instruments[ticker].live()}
        rows = [
            f"{entry.side} {names[entry.entry]} {entry.quantity_shares} @ "
            + ("mkt" if entry.price_ticks is None else format_ticks(entry.price_ticks))
            for entry in (*view.bids, *view.asks)
        ]
        return "; ".join(rows) or "empty"


def order(side: str, order_id: str, quantity: int, price: str | None, **more: Any) -> c.PlaceOrder:
    """Build an order; the account is the id and the participant P1 where nothing else is said."""
    protection, stop = more.pop("protection", None), more.pop("stop", None)
    if stop is not None:
        more["type"] = OrderType.STOP if price is None else OrderType.STOP_LIMIT
        more["stop_price_ticks"] = ticks(stop)
    return c.PlaceOrder(
        **{
            "participant": "P1",
            "account": order_id,
            "order_id": order_id,
            "ticker": TICKER,
            "side": Side(side),
            "quantity_shares": quantity,
            "type": OrderType.MARKET if price is None else OrderType.LIMIT,
            "price_ticks": None if price is None else ticks(price),
            "protection_price_ticks": None if protection is None else ticks(protection),
            **more,
        }
    )


_WORDS: dict[str, Any] = {
    **{word.value: ("time_in_force", word) for word in TimeInForce},
    **{word.value: ("self_trade_prevention", word) for word in SelfTradePrevention if word.value != "none"},
    "stp_none": ("self_trade_prevention", SelfTradePrevention.NONE),
}


def check_book(table: str, **settings: Any) -> Desk:
    """Play a table on a new desk and compare every answer; returns the desk for more."""
    desk = Desk(**settings)
    play(desk, table)
    return desk


def play(desk: Desk, table: str) -> None:
    for number, text in enumerate(table.strip().splitlines(), start=1):
        row = text.split("#")[0].strip()
        if not row:
            continue
        command, _, expected = row.partition(" -> ")
        expected = expected.strip()
        words = command.split()
        if words[0] == "book":
            answer = desk.book()
        else:
            events = desk.do(parse(" ".join(words), desk))
            answer = say(desk, events, words)
        assert answer == expected, f"row {number}: {row!r}\n  expected: {expected}\n  was:      {answer}"


def parse(row: str, desk: Desk) -> c.Command:
    words = row.split()
    if words[0] in {"buy", "sell"}:
        return _parse_order(words)
    match words[0]:
        case "cancel":
            return c.CancelOrder(**{"participant": "P1", "order_id": words[1], **_more(words[2:])})
        case "replace":
            return _parse_replace(words)
        case "mass_cancel":
            return c.MassCancel(participant=words[1])
        case "phase":
            return c.SetPhase(phase=Phase(words[1]), ticker=words[2] if len(words) > 2 else None)
        case "uncross":
            return c.Uncross(ticker=TICKER)
        case "halt":
            return c.Halt(ticker=words[1] if len(words) > 1 else None)
        case "resume":
            return c.Resume(ticker=words[1] if len(words) > 1 else None)
        case "tick":
            at_ns = seconds(words[1]) if ":" in words[1] else int(words[1])
            return c.Tick(epoch=desk.engine.epoch, at_ns=at_ns)
        case "redrive":
            return c.Redrive(ticker=words[1])
        case "index":
            value, previous = parse_cents(words[1]), parse_cents(words[2])
            assert value is not None
            assert previous is not None
            return c.IndexLevel(number=len(desk.log), value_hundredths=value, previous_close_hundredths=previous)
        case "trip":
            return c.Trip(day=words[2] if len(words) > 2 else DATE, level=int(words[1]))
        case _:
            raise AssertionError(f"{row!r} is no command of the desk")


def _parse_order(words: list[str]) -> c.PlaceOrder:
    side, order_id, quantity, _, price, *rest = words
    return order(side, order_id, int(quantity), None if price == "mkt" else price, **_more(rest))


def _parse_replace(words: list[str]) -> c.ReplaceOrder:
    _, order_id, quantity, _, price, *rest = words
    more = _more(rest)
    if "protection" in more:
        more["protection_price_ticks"] = ticks(more.pop("protection"))
    return c.ReplaceOrder(
        **{
            "participant": "P1",
            "order_id": order_id,
            "quantity_shares": None if quantity == "-" else int(quantity),
            "price_ticks": None if price == "-" else ticks(price),
            **more,
        }
    )


def _more(words: list[str]) -> dict[str, Any]:
    more: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            key, meaning = _WORDS[name]
            more[key] = meaning
        elif name == "rev":
            more["revision"] = None if value == "none" else int(value)
        elif name == "min":
            more["min_quantity_shares"] = int(value)
        elif name == "show":
            more["display_quantity_shares"] = int(value)
        else:
            more[name] = value
    return more


def say(desk: Desk, events: list[e.Event], words: list[str]) -> str:
    """Put a frame into a desk's words; book entries and hashes are left out, what rests is said of the taker."""
    own = words[1] if words[0] in {"buy", "sell", "replace", "cancel"} else None
    said: list[str] = []
    for event in events:
        text = _say(event, own)
        if text:
            said.append(text)
    if own is not None and any(isinstance(event, (e.OrderAccepted, e.OrderReplaced)) for event in events):
        said += _what_is_left(desk, own)
    return ", ".join(said)


def _what_is_left(desk: Desk, order_id: str) -> list[str]:
    for member in desk.engine._state.members.values():
        known = member.orders.get(order_id)
        if isinstance(known, Order) and known.state != ENDED:
            return [f"rests {known.leaves}" if known.state == RESTING else "waits"]
    return []


def _say(event: e.Event, own: str | None) -> str:
    match event:
        case e.TradeExecuted():
            price = f"{event.quantity_shares} @ {format_ticks(event.price_ticks)}"
            buy, sell = event.buy.order.order_id, event.sell.order.order_id
            if event.aggressor.value == "auction":
                return f"{buy} x {sell} {price}"
            taker, maker = (buy, sell) if event.aggressor.value == "buy" else (sell, buy)
            return f"{'' if own == taker else taker + ' '}trades {price} with {maker}"
        case e.OrderRejected() | e.CancelRejected() | e.ReplaceRejected():
            return event.reason.value
        case e.DuplicateIgnored():
            return "duplicate"
        case e.OrderCancelled():
            whose = "" if event.order.order_id == own else f" {event.order.order_id}"
            reason = "" if event.reason.value == "user" else f" {event.reason.value}"
            return f"cancelled{whose} {event.quantity_shares}{reason}"
        case e.OrderReplaced():
            return "kept place" if event.kept_priority else "lost place"
        case e.OrderExpired():
            return f"expired {event.order.order_id} {event.quantity_shares}"
        case e.OrderRestated():
            return f"restated {event.order.order_id}"
        case e.TheoreticalChanged():
            if event.price_ticks is None:
                return "theo none"
            surplus = f" {event.imbalance_side}+{event.imbalance_shares}" if event.imbalance_side else ""
            return f"theo {event.quantity_shares} @ {format_ticks(event.price_ticks)}{surplus}"
        case e.AuctionUncrossed():
            if event.price_ticks is None:
                return "no print"
            return f"prints {event.quantity_shares} @ {format_ticks(event.price_ticks)}"
        case e.Quarantined():
            return f"quarantined {event.ticker} {event.command}"
        case e.CommandIgnored():
            return f"ignored {event.command}"
        case e.MassCancelled():
            return f"mass cancelled {event.orders}"
        case e.OrderTriggered():
            return f"triggered {event.order.order_id}"
        case _:
            return _say_of_market(event)


def _say_of_market(event: e.Event) -> str:
    match event:
        case e.PhaseChanged():
            return event.phase.value if event.ticker is None else f"{event.ticker} {event.phase}"
        case e.StatusChanged():
            until = "" if event.until_ns is None else f" until {_clock(event.until_ns)}"
            return f"{event.reason}{until}"
        case e.CircuitBreakerTripped():
            until = "" if event.until_ns is None else f" until {_clock(event.until_ns)}"
            return f"tripped {event.level}{until}"
        case e.DayClosed():
            closing = "none" if event.closing_price_ticks is None else format_ticks(event.closing_price_ticks)
            return f"day closed at {closing}"
        case _:
            return ""


def _clock(at_ns: int) -> str:
    total = at_ns // 1_000_000_000
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"
