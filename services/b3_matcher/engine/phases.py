"""The trading day: phases by the schedule or by command, halts, the end of a call, the close.

An instrument is in its own phase if a command, a band or an extended call gave it one, else in its market's; `closed`
beats a halt, and a halt (the market's too) beats the rest. When the market enters a call, an instrument in a timed
call of its own joins it. Leaving a call towards continuous trading or the close uncrosses it; a halt or cancel_only
keeps the call pending. The closed day expires its day orders and prints each instrument's totals.
"""

from __future__ import annotations

from mybroker.contracts.commands import Command, Halt, SetPhase, Uncross
from mybroker.contracts.events import CommandIgnored, DayClosed, OrderExpired, PhaseChanged
from mybroker.domain.order import TimeInForce
from mybroker.domain.phase import CALL_PHASES, CONTINUOUS_PHASES, Phase
from services.b3_matcher.engine import trading
from services.b3_matcher.engine.admission import waits_for_auction
from services.b3_matcher.engine.guard import guarded
from services.b3_matcher.engine.items import NO_THEORETICAL, STOPPED, Instrument, Order
from services.b3_matcher.engine.market import Market
from services.b3_matcher.engine.state import State

ENDS_A_CALL = CONTINUOUS_PHASES | {Phase.CLOSED}
_ENDS_THE_CLOSING_CALL = frozenset({Phase.AFTER_MARKET, Phase.CLOSED})
_SURVIVES_THE_DAY = frozenset({TimeInForce.GTC, TimeInForce.GTD})
_AFTER_CALL = {Phase.PRE_OPEN: Phase.OPEN, Phase.CLOSING_CALL: Phase.CLOSED}
"""Where an instrument goes whose call is ended by command while its market is still in it."""


def set_phase(state: State, command: SetPhase) -> None:
    """Move the market, or one instrument, to a phase now."""
    market = state.market
    if command.ticker is None:
        if command.phase is Phase.HALTED:
            move_market(state, command, phase=market.phase, halted=True)
        else:
            move_market(state, command, phase=command.phase, halted=False)
        return
    instrument = addressed(state, command, command.ticker)
    if instrument is None:
        return
    state.touch(instrument)
    if command.phase is Phase.HALTED:
        instrument.halted = True
    else:
        instrument.halted = False
        instrument.own_phase = command.phase
        instrument.call_ends_ns = None
    move_alone(state, instrument)


def halt(state: State, command: Halt) -> None:
    """Halt one instrument, or the market."""
    if command.ticker is None:
        move_market(state, command, phase=state.market.phase, halted=True)
        return
    instrument = addressed(state, command, command.ticker)
    if instrument is not None:
        state.touch(instrument)
        instrument.halted = True
        move_alone(state, instrument)


def uncross(state: State, command: Uncross) -> None:
    """End the call of one instrument now; it goes where the call leads."""
    instrument = addressed(state, command, command.ticker)
    if instrument is None:
        return
    if instrument.phase not in CALL_PHASES:
        ignore(state, "uncross", f"{instrument.ticker}: expected a call, was {instrument.phase}")
        return
    state.touch(instrument)
    # An instrument in an auction of its own rejoins its market, unless that is in a call it would only start again.
    market_phase = state.market.effective_phase
    alone = instrument.phase is Phase.AUCTION and market_phase in CONTINUOUS_PHASES
    instrument.call_ends_ns = None
    instrument.own_phase = None if alone else _AFTER_CALL.get(instrument.phase, Phase.OPEN)
    move_alone(state, instrument)


def move_market(state: State, command: Command, *, phase: Phase, halted: bool, by_clock: bool = False) -> None:
    """Move the market; each instrument follows, guarded, and a failure stops only the one it happened in.

    By the clock an instrument in a timed call of its own outlasts even the close; by command it does not.
    """
    market = state.market
    before = market.effective_phase
    state.mark()
    state.touch(market)
    market.phase = phase
    market.halted = halted
    if phase is not Phase.AUCTION:
        market.call_ends_ns = None
    if not halted:
        market.circuit_breaker_halts = False
        market.circuit_breaker_until_ns = None
    after = market.effective_phase
    closes = phase is Phase.CLOSED
    moving: list[tuple[Instrument, bool]] = []
    for instrument in state.instruments.values():
        if instrument.own_phase is not None and _joins(instrument, after, by_clock=by_clock):
            state.touch(instrument)
            rejoin(instrument)
        if target_phase(instrument, market) is not instrument.phase:
            moving.append((instrument, instrument.phase is not before))
    for instrument, _ in moving:
        guarded(state, instrument, command, _leave)
    if after is not before:
        tell(state, None, after)
    for instrument, stood_apart in moving:
        guarded(state, instrument, command, _arrive, stood_apart=stood_apart)
    if closes and before is not Phase.CLOSED:
        state.mark()
        state.touch(market)
        market.day_over = True


def target_phase(instrument: Instrument, market: Market) -> Phase:
    """Return the phase an instrument should be in."""
    base = market.phase if instrument.own_phase is None else instrument.own_phase
    return Phase.HALTED if (instrument.halted or market.halted) and base is not Phase.CLOSED else base


def rejoin(instrument: Instrument) -> None:
    """Let an instrument follow its market again."""
    instrument.own_phase = None
    instrument.call_ends_ns = None


def _joins(instrument: Instrument, after: Phase, *, by_clock: bool) -> bool:
    """Say whether an instrument gives up its own phase where its market goes."""
    timed = instrument.call_ends_ns is not None
    if after is Phase.CLOSED:
        return not (timed and by_clock)
    return instrument.own_phase is after or (timed and after in CALL_PHASES)


def move_alone(state: State, instrument: Instrument) -> None:
    """Move one instrument by a command of its own."""
    if instrument.quarantined:
        return
    if instrument.own_phase is state.market.effective_phase:
        rejoin(instrument)
    if target_phase(instrument, state.market) is not instrument.phase:
        _leave(state, instrument)
        _arrive(state, instrument, stood_apart=True)


def _leave(state: State, instrument: Instrument) -> None:
    """Do what the phase's end asks for: a call that is over prints."""
    target = target_phase(instrument, state.market)
    if instrument.phase in CALL_PHASES and target in ENDS_A_CALL:
        trading.uncross(state, instrument)
    if instrument.phase is Phase.CLOSING_CALL and target in _ENDS_THE_CLOSING_CALL:
        instrument.official_close = instrument.centre


def _arrive(state: State, instrument: Instrument, *, stood_apart: bool) -> None:
    """Enter the phase: collect what waited for it, print a call left pending by a halt, or close the day."""
    phase = target_phase(instrument, state.market)
    instrument.phase = phase
    instrument.day_closed = False
    if stood_apart or phase is not state.market.effective_phase:
        tell(state, instrument.ticker, phase)
    if phase in CALL_PHASES:
        instrument.call_pending = True
        instrument.call_changed_ns = None
        instrument.call_extensions = instrument.call_protections = 0
        for order in list(instrument.parked.values()):
            if not waits_for_auction(order.tif, phase):
                state.touch(order)
                trading.take_out(state, order)
                trading.rest(state, order)
        trading.update_theoretical(state, instrument)
    elif phase in CONTINUOUS_PHASES and instrument.call_pending:
        trading.uncross(state, instrument)
    elif phase is Phase.CLOSED:
        close_day(state, instrument)
    if instrument.triggered:
        state.to_settle[instrument.ticker] = instrument


def close_day(state: State, instrument: Instrument) -> None:
    """End an instrument's day: what does not survive it expires, and its totals are told."""
    day = instrument.day
    assert day is not None, f"{instrument.ticker} closes before the market is configured"
    instrument.call_pending = False
    instrument.theoretical = NO_THEORETICAL
    instrument.day_closed = True
    for order in instrument.live():
        if not _survives(order, day):
            expire(state, order)
    state.out.append(
        DayClosed(
            ticker=instrument.ticker,
            business_date=day,
            closing_price_ticks=instrument.closing_price,
            trades=instrument.day_trades,
            volume_shares=instrument.day_shares,
            turnover_cents=instrument.day_cents,
        )
    )


def expire(state: State, order: Order) -> None:
    """End an order whose time is over."""
    leaves = trading.end(state, order)
    state.out.append(
        OrderExpired(
            order=state.reference(order),
            ticker=order.instrument.ticker,
            side=order.side,
            quantity_shares=leaves,
            cum_shares=order.cum,
        )
    )


def _survives(order: Order, business_date: str) -> bool:
    if order.tif not in _SURVIVES_THE_DAY or (order.price is None and order.state != STOPPED):
        return False
    return order.expires is None or order.expires > business_date


def addressed(state: State, command: Command, ticker: str) -> Instrument | None:
    """Return the instrument a supervisor means; say so where there is none, or where it is quarantined."""
    kind = type(command).__name__
    instrument = state.instruments.get(ticker)
    if instrument is None or not instrument.listed:
        ignore(state, kind, f"{ticker} is unknown")
        return None
    if instrument.quarantined:
        ignore(state, kind, f"{ticker} is quarantined: redrive it first")
        return None
    return instrument


def tell(state: State, ticker: str | None, phase: Phase) -> None:
    """Say that the market (ticker None) or one instrument is in a phase."""
    state.phase_changed = True
    state.out.append(PhaseChanged(ticker=ticker, phase=phase))


def ignore(state: State, command: str, why: str) -> None:
    """Say that a command is void, and why."""
    state.out.append(CommandIgnored(command=command, why=why))
