"""The state as plain JSON values, and back: what a snapshot holds.

Books are not dumped: they follow from the orders and their entry numbers.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mybroker.contracts.commands import InstrumentConfig, PhaseChange, SessionConfig
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.rules import AuctionBandCentre, AuctionCandidates, AuctionInterval, Bands, Rules
from services.b3_matcher.engine.hashing import contribution, fold
from services.b3_matcher.engine.items import ENDED, Ended, Instrument, Member, Order, Trade
from services.b3_matcher.engine.state import State

_MARKET_FIELDS = (
    "log_id",
    "owner",
    "epoch",
    "engine_version_wanted",
    "revision",
    "now_ns",
    "halted",
    "day_over",
    "call_ends_ns",
    "circuit_breaker_level",
    "circuit_breaker_halts",
    "circuit_breaker_until_ns",
    "index_number",
)
_INSTRUMENT_FIELDS = (
    "listed",
    "lot",
    "quantity_max",
    "reference",
    "last_price",
    "halted",
    "quarantined",
    "call_pending",
    "call_ends_ns",
    "call_changed_ns",
    "call_extensions",
    "call_protections",
    "entries",
    "book_seq",
    "day",
    "day_closed",
    "official_close",
    "static_step",
    "recent_value",
    "recent_shares",
    "day_trades",
    "day_shares",
    "day_cents",
    "day_open",
    "day_high",
    "day_low",
)

_LISTS = ("static_steps_bp", "extension_windows_seconds")
_TABLES = ("auction_durations", "circuit_breaker_levels")


def dump_state(state: State) -> dict[str, Any]:
    """Return the state as plain values."""
    fold(state)
    market = state.market
    return {
        "market": {
            **{name: getattr(market, name) for name in _MARKET_FIELDS},
            "phase": market.phase.value,
            "config": None if market.config is None else plain_config(market.config),
        },
        "instruments": [_dump_instrument(instrument) for instrument in state.instruments.values()],
        "members": [_dump_member(member) for member in state.members.values()],
    }


def load_state(state: State, dumped: dict[str, Any]) -> None:
    """Fill a fresh state from a dump."""
    market = state.market
    for name in _MARKET_FIELDS:
        setattr(market, name, dumped["market"][name])
    market.phase = Phase(dumped["market"]["phase"])
    if dumped["market"]["config"] is not None:
        market.config = config_of(dumped["market"]["config"])
        state.rules = market.config.rules
    for values in dumped["instruments"]:
        instrument = _load_instrument(values, state.rules)
        state.instruments[instrument.ticker] = instrument
    for values in dumped["members"]:
        _load_member(state, values)
    placed: list[Order] = []
    for member in state.members.values():
        placed += [order for order in member.orders.values() if isinstance(order, Order)]
    for order in sorted(placed, key=_entry_of):
        order.instrument.place(order)
    state.count_live_orders()
    _hash_all(state)


def _entry_of(order: Order) -> int:
    return order.entry


def _hash_all(state: State) -> None:
    items: list[Any] = [state.market, *state.members.values(), *state.instruments.values()]
    for member in state.members.values():
        items += member.orders.values()
    for instrument in state.instruments.values():
        items += instrument.trades.values()
    for item in items:
        item.hashed = contribution(item.canonical())
    state.hash_total = sum(item.hashed for item in items) % (1 << 128)


def _dump_instrument(instrument: Instrument) -> dict[str, Any]:
    return {
        "config": asdict(instrument.config),
        **{name: getattr(instrument, name) for name in _INSTRUMENT_FIELDS},
        "phase": instrument.phase.value,
        "own_phase": None if instrument.own_phase is None else instrument.own_phase.value,
        "theoretical": list(instrument.theoretical),
        "recent": [list(trades) for trades in instrument.recent],
        "trades": [
            [trade.trade_id, trade.price_ticks, trade.quantity_shares, *trade.buy, *trade.sell, trade.busted]
            for trade in instrument.trades.values()
        ],
    }


def _load_instrument(values: dict[str, Any], rules: Rules) -> Instrument:
    instrument = Instrument(InstrumentConfig(**values["config"]), rules)
    for name in _INSTRUMENT_FIELDS:
        setattr(instrument, name, values[name])
    instrument.phase = Phase(values["phase"])
    instrument.own_phase = None if values["own_phase"] is None else Phase(values["own_phase"])
    price, quantity, imbalance = values["theoretical"]
    instrument.theoretical = (price, quantity, imbalance)
    instrument.recent = tuple((at_ns, value, shares) for at_ns, value, shares in values["recent"])
    for trade_id, price_ticks, shares, buyer, buy, seller, sell, busted in values["trades"]:
        instrument.trades[trade_id] = Trade(
            trade_id=trade_id,
            price_ticks=price_ticks,
            quantity_shares=shares,
            buy=(buyer, buy),
            sell=(seller, sell),
            busted=busted,
        )
    return instrument


def _dump_member(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "reports": member.reports,
        "logon_offset": member.logon_offset,
        "connected": member.connected,
        "orders": [
            _dump_order(known) if isinstance(known, Order) else _dump_ended(known) for known in member.orders.values()
        ],
    }


def _dump_order(order: Order) -> list[Any]:
    return [
        order.order_id,
        order.account,
        order.instrument.ticker,
        order.revision,
        order.state,
        order.side.value,
        order.type.value,
        order.tif.value,
        order.price,
        order.quantity,
        order.cum,
        order.leaves,
        order.protection,
        order.stp.value,
        order.expires,
        order.entry,
        order.stop,
        order.display,
        order.shown,
    ]


def _dump_ended(ended: Ended) -> list[Any]:
    return [ended.order_id, ended.account, ended.ticker, ended.revision, ENDED, ended.barred]


def _load_member(state: State, values: dict[str, Any]) -> None:
    member = state.members[values["name"]] = Member(values["name"])
    member.reports = values["reports"]
    member.logon_offset = values["logon_offset"]
    member.connected = values["connected"]
    for row in values["orders"]:
        order_id, account, ticker, revision, order_state, *rest = row
        if order_state == ENDED:
            member.orders[order_id] = Ended(
                member=member,
                order_id=order_id,
                account=account,
                ticker=ticker,
                revision=revision,
                barred=rest[0],
            )
            continue
        side, kind, tif, price, quantity, cum, leaves, protection, stp, expires, entry = rest[:11]
        stop, display, shown = rest[11:]
        order = Order(
            member=member,
            instrument=state.instruments[ticker],
            order_id=order_id,
            account=account,
            side=Side(side),
            type=OrderType(kind),
            tif=TimeInForce(tif),
            price=price,
            quantity=quantity,
            protection=protection,
            stp=SelfTradePrevention(stp),
            expires=expires,
            revision=revision,
            stop=stop,
            display=display,
        )
        order.cum, order.leaves, order.entry, order.state, order.shown = cum, leaves, entry, order_state, shown
        member.orders[order_id] = order


def plain_config(config: SessionConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON values."""
    plain = asdict(config)
    plain["schedule"] = [[change.at_ns, change.phase.value] for change in config.schedule]
    rules = plain["rules"]
    rules["stp"] = config.rules.stp.value
    rules["auction_candidates"] = config.rules.auction_candidates.value
    rules["auction_interval"] = config.rules.auction_interval.value
    rules["auction_band_centre"] = config.rules.auction_band_centre.value
    for name in _LISTS:
        rules[name] = list(rules[name])
    for name in _TABLES:
        rules[name] = [list(row) for row in rules[name]]
    rules["bands_by_group"] = [[group, asdict(bands)] for group, bands in config.rules.bands_by_group]
    plain["instruments"] = list(plain["instruments"])
    return plain


def config_of(plain: dict[str, Any]) -> SessionConfig:
    """Return the configuration that `plain_config` wrote."""
    rules = dict(plain["rules"])
    rules["stp"] = SelfTradePrevention(rules["stp"])
    rules["auction_candidates"] = AuctionCandidates(rules["auction_candidates"])
    rules["auction_interval"] = AuctionInterval(rules["auction_interval"])
    rules["auction_band_centre"] = AuctionBandCentre(rules["auction_band_centre"])
    for name in _LISTS:
        rules[name] = tuple(rules[name])
    for name in _TABLES:
        rules[name] = tuple(tuple(row) for row in rules[name])
    rules["bands_by_group"] = tuple((group, Bands(**bands)) for group, bands in rules["bands_by_group"])
    return SessionConfig(
        **{
            **plain,
            "instruments": tuple(InstrumentConfig(**instrument) for instrument in plain["instruments"]),
            "schedule": tuple(PhaseChange(at_ns=at_ns, phase=Phase(phase)) for at_ns, phase in plain["schedule"]),
            "rules": Rules(**rules),
        }
    )
