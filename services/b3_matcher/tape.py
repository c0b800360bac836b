"""The tape: one JSON line for each command; both directions, so that a log exported and read again is the same log.

People write the short form (`session`, `new`, `tick` …); `command_to_line` writes any command of a log so that
`TapeReader` gives it back exactly, at its offset: an exported day replays to the same events and the same hash.
A line that is no command raises `NotACommand` with what was expected. A price that is a number but no price of the
market (finer than a tick, not positive) is a refusal, as it is at the exchange's door.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar, cast

import msgspec

from mybroker.contracts import commands as c
from mybroker.domain.instrument import FRACTIONAL_QUANTITY_MAX_SHARES, asset_of, is_fractional_ticker
from mybroker.domain.money import format_cents, format_ticks, parse_price_ticks
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason
from mybroker.domain.rules import Rules
from mybroker.domain.schedule import HOURS_PRESETS, day_schedule
from services.b3_matcher.engine.engine import ENGINE_VERSION
from services.b3_matcher.tape_fields import Fields, NotACommand, RefusedPrice, format_instant_ns

TAPE_OWNER = "tape"
PARTICIPANT_DEFAULT = "P"
HOURS_DEFAULT = "b3-summer"
GROUPS_THAT_TRADE_UNITS = frozenset({"etf"})

_LOG_KINDS: dict[str, type] = {
    kind: c.COMMAND_KINDS[kind]
    for kind in ("log_start", "take_over", "hand_over", "configure", "logon", "disconnect", "redrive", "trip")
}
"""Lines only an exported log has: the command's own fields under their own names."""

Word = TypeVar("Word", SelfTradePrevention, TimeInForce)

_KIND_OF = {cls: kind for kind, cls in c.COMMAND_KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line's commands, each with the offset at which it stands in the log."""

    offset: int
    commands: tuple[c.Command, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A line that is a command but whose price the market's door refuses; the engine never hears of it."""

    event: str
    order_id: str
    reason: RejectReason


class TapeReader:
    """Turns lines into commands; remembers what later lines leave unsaid (epoch, revision, participants)."""

    def __init__(self) -> None:
        self._next_offset = 0
        self._epoch = -1
        self._revision = 0
        self._index_number = 0
        self._participant_of: dict[str, str] = {}

    def read(self, line: str) -> Step | Refused | None:
        """Read one line; None for a blank one. Raises NotACommand."""
        if not line.strip():
            return None
        fields = Fields.parse(line)
        offset = fields.integer("offset", default=self._next_offset)
        kind = fields.choice("cmd", ("session", *c.COMMAND_KINDS))
        self._next_offset = offset + 1
        try:
            commands = self._commands(kind, fields, offset)
        except RefusedPrice as refused:
            event = {"new": "rejected", "replace": "replace_rejected"}[kind]
            return Refused(event=event, order_id=fields.text("id"), reason=refused.reason)
        fields.expect_nothing_else()
        for command in commands:
            self._remember(command, offset)
        return Step(offset=offset, commands=commands)

    def _commands(self, kind: str, fields: Fields, offset: int) -> tuple[c.Command, ...]:
        if kind == "session":
            return self._session(fields, offset)
        if kind in _LOG_KINDS:
            return (cast("c.Command", fields.rest_as(_LOG_KINDS[kind])),)
        return (getattr(self, f"_{kind}")(fields),)

    def _remember(self, command: c.Command, offset: int) -> None:
        match command:
            case c.TakeOver():
                self._epoch = offset
            case c.ConfigureSession():
                self._revision = max(self._revision, command.revision)
            case c.IndexLevel():
                self._index_number = command.number
            case c.PlaceOrder():
                self._participant_of[command.order_id] = command.participant
            case _:
                pass

    def _session(self, fields: Fields, offset: int) -> tuple[c.Command, ...]:
        """The human form of a takeover and a configuration, both at this line's offset."""
        business_date = fields.date("date")
        rules = fields.as_type("rules", Rules, default=Rules())
        config = c.SessionConfig(
            session=fields.text("session", default="tape"),
            market=fields.text("market"),
            shard=fields.integer("shard", default=0),
            business_date=business_date,
            instruments=tuple(_instrument(item) for item in fields.objects("instruments")),
            schedule=_schedule(fields, business_date),
            rules=rules,
        )
        return (
            c.TakeOver(owner=TAPE_OWNER, engine_version=ENGINE_VERSION),
            c.ConfigureSession(epoch=offset, revision=self._revision + 1, config=config),
        )

    def _tick(self, fields: Fields) -> c.Command:
        return c.Tick(at_ns=fields.instant("at"), epoch=fields.integer("epoch", default=self._epoch))

    def _new(self, fields: Fields) -> c.Command:
        order_id = fields.text("id")
        return c.PlaceOrder(
            order_id=order_id,
            account=fields.text("account", default=order_id),
            participant=fields.text("participant", default=PARTICIPANT_DEFAULT),
            ticker=fields.text("ticker"),
            side=Side(fields.choice("side", tuple(Side))),
            type=OrderType(fields.choice("type", tuple(OrderType), default=OrderType.LIMIT)),
            time_in_force=TimeInForce(fields.choice("tif", tuple(TimeInForce), default=TimeInForce.DAY)),
            quantity_shares=fields.integer("quantity"),
            display_quantity_shares=fields.maybe_integer("display_quantity"),
            min_quantity_shares=fields.maybe_integer("min_quantity"),
            expires=fields.maybe_text("expires"),
            self_trade_prevention=_maybe(SelfTradePrevention, fields, "stp"),
            revision=fields.maybe_integer("revision"),
            price_ticks=fields.maybe_price("price"),
            stop_price_ticks=fields.maybe_price("stop_price"),
            protection_price_ticks=fields.maybe_price("protection_price"),
        )

    def _participant(self, fields: Fields, order_id: str) -> str:
        """Return the line's participant, else that of the `new` with this id."""
        return fields.text("participant", default=self._participant_of.get(order_id, PARTICIPANT_DEFAULT))

    def _cancel(self, fields: Fields) -> c.Command:
        order_id = fields.text("id")
        return c.CancelOrder(
            order_id=order_id,
            participant=self._participant(fields, order_id),
            revision=fields.maybe_integer("revision"),
            ticker=fields.maybe_text("ticker"),
            account=fields.maybe_text("account"),
        )

    def _replace(self, fields: Fields) -> c.Command:
        order_id = fields.text("id")
        return c.ReplaceOrder(
            order_id=order_id,
            participant=self._participant(fields, order_id),
            revision=fields.maybe_integer("revision"),
            ticker=fields.maybe_text("ticker"),
            quantity_shares=fields.maybe_integer("quantity"),
            time_in_force=_maybe(TimeInForce, fields, "tif"),
            price_ticks=fields.maybe_price("price"),
            protection_price_ticks=fields.maybe_price("protection_price"),
        )

    def _mass_cancel(self, fields: Fields) -> c.Command:
        return c.MassCancel(
            participant=fields.text("participant", default=PARTICIPANT_DEFAULT),
            mass_id=fields.maybe_text("mass_id"),
            ticker=fields.maybe_text("ticker"),
            account=fields.maybe_text("account"),
        )

    def _phase(self, fields: Fields) -> c.Command:
        return c.SetPhase(phase=Phase(fields.choice("phase", tuple(Phase))), ticker=fields.maybe_text("ticker"))

    def _uncross(self, fields: Fields) -> c.Command:
        return c.Uncross(ticker=fields.text("ticker"))

    def _halt(self, fields: Fields) -> c.Command:
        return c.Halt(ticker=fields.maybe_text("ticker"), command_id=fields.maybe_text("command_id"))

    def _resume(self, fields: Fields) -> c.Command:
        return c.Resume(ticker=fields.maybe_text("ticker"), command_id=fields.maybe_text("command_id"))

    def _index(self, fields: Fields) -> c.Command:
        return c.IndexLevel(
            number=fields.integer("number", default=self._index_number + 1),
            value_hundredths=fields.hundredths("value"),
            previous_close_hundredths=fields.hundredths("previous_close"),
        )

    def _bust(self, fields: Fields) -> c.Command:
        return c.BustTrade(trade_id=fields.text("trade_id"))


def _maybe(words: type[Word], fields: Fields, name: str) -> Word | None:
    """Return a word of a closed list where the line has one."""
    return words(fields.choice(name, tuple(words))) if fields.has(name) else None


def _instrument(fields: Fields) -> c.InstrumentConfig:
    ticker = fields.text("ticker")
    group = fields.text("group", default="other")
    fractional = is_fractional_ticker(ticker)
    lot_default = 1 if fractional or group in GROUPS_THAT_TRADE_UNITS else 100
    config = c.InstrumentConfig(
        ticker=ticker,
        asset=fields.text("asset", default=asset_of(ticker)),
        group=group,
        lot_shares=fields.integer("lot", default=lot_default),
        quantity_max_shares=(
            fields.maybe_integer("quantity_max")
            if fields.has("quantity_max") or not fractional
            else FRACTIONAL_QUANTITY_MAX_SHARES
        ),
        reference_price_ticks=fields.maybe_price("reference_price"),
        last_price_ticks=fields.maybe_price("last_price"),
    )
    if config.lot_shares < 1:
        raise NotACommand(f"lot of {ticker}: expected 1 or more, was {config.lot_shares}")
    fields.expect_nothing_else()
    return config


def _schedule(fields: Fields, business_date: str) -> tuple[c.PhaseChange, ...]:
    """Return the given changes, else those of the day's hours (a preset's name)."""
    if fields.has("schedule"):
        changes = []
        for item in fields.objects("schedule"):
            changes.append(c.PhaseChange(at_ns=item.instant("at"), phase=Phase(item.choice("phase", tuple(Phase)))))
            item.expect_nothing_else()
        return tuple(changes)
    hours = HOURS_PRESETS[fields.choice("hours", tuple(HOURS_PRESETS), default=HOURS_DEFAULT)]
    day = day_schedule(date.fromisoformat(business_date), hours)
    return tuple(c.PhaseChange(at_ns=at_ns, phase=phase) for at_ns, phase in day.changes)


def command_to_line(command: c.Command, offset: int | None = None) -> str:
    """Write a command as a line without its newline; with the offset where the line must keep its place in a log."""
    kind = _KIND_OF[type(command)]
    line: dict[str, Any] = {"cmd": kind}
    if offset is not None:
        line["offset"] = offset
    if kind in _LOG_KINDS:
        line |= msgspec.to_builtins(command)
    else:
        line |= {name: value for name, value in _facts(command) if value is not None}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _facts(command: c.Command) -> list[tuple[str, Any]]:
    match command:
        case c.Tick():
            return [("at", format_instant_ns(command.at_ns)), ("epoch", command.epoch)]
        case c.PlaceOrder():
            return _facts_of_new(command)
        case c.CancelOrder():
            return [
                ("id", command.order_id),
                ("participant", command.participant),
                ("revision", command.revision),
                ("ticker", command.ticker),
                ("account", command.account),
            ]
        case c.ReplaceOrder():
            return [
                ("id", command.order_id),
                ("participant", command.participant),
                ("revision", command.revision),
                ("ticker", command.ticker),
                *_price("price", command.price_ticks),
                ("quantity", command.quantity_shares),
                ("tif", command.time_in_force),
                *_price("protection_price", command.protection_price_ticks),
            ]
        case c.IndexLevel():
            return [
                ("value", format_cents(command.value_hundredths)),
                ("previous_close", format_cents(command.previous_close_hundredths)),
                ("number", command.number),
            ]
        case _:
            return list(msgspec.to_builtins(command).items())


def _facts_of_new(command: c.PlaceOrder) -> list[tuple[str, Any]]:
    return [
        ("id", command.order_id),
        ("account", command.account),
        ("participant", command.participant),
        ("ticker", command.ticker),
        ("side", command.side),
        ("type", command.type),
        ("tif", command.time_in_force),
        *_price("price", command.price_ticks),
        ("quantity", command.quantity_shares),
        *_price("stop_price", command.stop_price_ticks),
        ("display_quantity", command.display_quantity_shares),
        ("min_quantity", command.min_quantity_shares),
        *_price("protection_price", command.protection_price_ticks),
        ("expires", command.expires),
        ("stp", command.self_trade_prevention),
        ("revision", command.revision),
    ]


def _price(name: str, ticks: int | None) -> list[tuple[str, Any]]:
    """Write a price as text; one that no door would let in keeps its ticks, so that it comes back as it was."""
    if ticks is None:
        return []
    text = format_ticks(ticks)
    return [(name, text)] if parse_price_ticks(text) == ticks else [(f"{name}_ticks", ticks)]
