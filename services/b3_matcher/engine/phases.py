"""The trading day: phases by the schedule or by command, halts, the end of a call, the close.

An instrument is in its own phase if a command gave it one, else in its market's; `closed` beats a halt, and a halt
beats the rest. Leaving a call towards continuous trading or the close uncrosses it; a halt or cancel_only keeps the
call pending. The closed day expires its day orders and prints each instrument's totals.
"""

from __future__ import annotations

from mybroker.contracts.commands import Command, Halt, Redrive, Resume, SetPhase, Tick, Uncross
from mybroker.contracts.events import CommandIgnored, DayClosed, OrderExpired, PhaseChanged
from mybroker.domain.order import TimeInForce
from mybroker.domain.phase import CALL_PHASES, CONTINUOUS_PHASES, Phase
from services.b3_matcher.engine import trading
from services.b3_matcher.engine.admission import waits_for_auction
from services.b3_matcher.engine.guard import guarded
from services.b3_matcher.engine.items import NO_THEORETICAL, Instrument, Market, Order
from services.b3_matcher.engine.state import State

_ENDS_A_CALL = CONTINUOUS_PHASES | {Phase.CLOSED}
_SURVIVES_THE_DAY = frozenset({TimeInForce.GTC, TimeInForce.GTD})
_AFTER_CALL = {Phase.PRE_OPEN: Phase.OPEN, Phase.CLOSING_CALL: Phase.CLOSED}
"""Where an instrument goes whose call is ended by command while its market is still in it."""


def tick(state: State, command: Tick) -> None:
    """Let time pass: every scheduled instant since the last tick happens, in order."""
    market = state.market
    if command.epoch != market.epoch:
        ignore(state, "tick", f"expected epoch {market.epoch}, was {command.epoch}")
        return
    if command.at_ns <= market.now_ns:
        ignore(state, "tick", f"expected a time after {market.now_ns}, was {command.at_ns}")
        return
    schedule = () if market.config is None else market.config.schedule
    due = sorted(
        (change for change in schedule if market.now_ns < change.at_ns <= command.at_ns),
        key=lambda change: change.at_ns,
    )
    for change in due:
        _set_now(state, change.at_ns)
        move_market(state, command, phase=change.phase, halted=market.halted)
    _set_now(state, command.at_ns)


def _set_now(state: State, at_ns: int) -> None:
    state.mark()
    state.touch(state.market)
    state.market.now_ns = at_ns


def set_phase(state: State, command: SetPhase) -> None:
    """Move the market, or one instrument, to a phase now."""
    market = state.market
    if command.ticker is None:
        if command.phase is Phase.HALTED:
            move_market(state, command, phase=market.phase, halted=True)
        else:
            move_market(state, command, phase=command.phase, halted=False)
        return
    instrument = _addressed(state, command, command.ticker)
    if instrument is None:
        return
    state.touch(instrument)
    if command.phase is Phase.HALTED:
        instrument.halted = True
    else:
        instrument.halted = False
        instrument.own_phase = command.phase
    _move_alone(state, instrument)


def halt(state: State, command: Halt) -> None:
    """Halt one instrument, or the market."""
    if command.ticker is None:
        move_market(state, command, phase=state.market.phase, halted=True)
        return
    instrument = _addressed(state, command, command.ticker)
    if instrument is not None:
        state.touch(instrument)
        instrument.halted = True
        _move_alone(state, instrument)


def resume(state: State, command: Resume) -> None:
    """End a halt: the market goes on with its schedule's phase, an instrument rejoins its market."""
    if command.ticker is None:
        move_market(state, command, phase=state.market.phase, halted=False)
        return
    instrument = _addressed(state, command, command.ticker)
    if instrument is None:
        return
    state.touch(instrument)
    instrument.halted = False
    instrument.own_phase = None
    _move_alone(state, instrument)


def uncross(state: State, command: Uncross) -> None:
    """End the call of one instrument now; it goes where the call leads."""
    instrument = _addressed(state, command, command.ticker)
    if instrument is None:
        return
    if instrument.phase not in CALL_PHASES:
        ignore(state, "uncross", f"{instrument.ticker}: expected a call, was {instrument.phase}")
        return
    state.touch(instrument)
    # An instrument in an auction of its own rejoins its market, unless that is in a call it would only start again.
    market_phase = state.market.effective_phase
    alone = instrument.phase is Phase.AUCTION and market_phase in CONTINUOUS_PHASES
    instrument.own_phase = None if alone else _AFTER_CALL.get(instrument.phase, Phase.OPEN)
    _move_alone(state, instrument)


def redrive(state: State, command: Redrive) -> None:
    """Lift a quarantine: the instrument stays halted until it is resumed."""
    instrument = state.instruments.get(command.ticker)
    if instrument is None or not instrument.quarantined:
        ignore(state, "redrive", f"{command.ticker} is not quarantined")
        return
    state.touch(instrument)
    instrument.quarantined = False
    instrument.halted = True
    _move_alone(state, instrument)
    if instrument.phase is Phase.HALTED:
        _tell(state, instrument.ticker, Phase.HALTED)


def move_market(state: State, command: Command, *, phase: Phase, halted: bool) -> None:
    """Move the market; each instrument follows, guarded, and a failure stops only the one it happened in."""
    market = state.market
    before = market.effective_phase
    state.mark()
    state.touch(market)
    market.phase = phase
    market.halted = halted
    after = market.effective_phase
    closes = phase is Phase.CLOSED
    moving: list[tuple[Instrument, bool]] = []
    for instrument in state.instruments.values():
        if instrument.own_phase is not None and (closes or instrument.own_phase is after):
            state.touch(instrument)
            instrument.own_phase = None
        if target_phase(instrument, market) is not instrument.phase:
            moving.append((instrument, instrument.phase is not before))
    for instrument, _ in moving:
        guarded(state, instrument, command, _leave)
    if after is not before:
        _tell(state, None, after)
    for instrument, stood_apart in moving:
        guarded(state, instrument, command, _arrive, stood_apart=stood_apart)
    if closes and before is not Phase.CLOSED:
        state.mark()
        state.touch(market)
        market.day_over = True


def target_phase(instrument: Instrument, market: Market) -> Phase:
    """Return the phase an instrument should be in."""
    if instrument.own_phase is not None:
        base, halted = instrument.own_phase, instrument.halted
    else:
        base, halted = market.effective_phase, instrument.halted
    return Phase.HALTED if halted and base is not Phase.CLOSED else base


def _move_alone(state: State, instrument: Instrument) -> None:
    """Move one instrument by a command of its own."""
    if instrument.quarantined:
        return
    if instrument.own_phase is state.market.effective_phase:
        instrument.own_phase = None
    if target_phase(instrument, state.market) is not instrument.phase:
        _leave(state, instrument)
        _arrive(state, instrument, stood_apart=True)


def _leave(state: State, instrument: Instrument) -> None:
    """Do what the phase's end asks for: a call that is over prints."""
    if instrument.phase in CALL_PHASES and target_phase(instrument, state.market) in _ENDS_A_CALL:
        trading.uncross(state, instrument)


def _arrive(state: State, instrument: Instrument, *, stood_apart: bool) -> None:
    """Enter the phase: collect what waited for it, print a call left pending by a halt, or close the day."""
    phase = target_phase(instrument, state.market)
    instrument.phase = phase
    if stood_apart or phase is not state.market.effective_phase:
        _tell(state, instrument.ticker, phase)
    if phase in CALL_PHASES:
        instrument.call_pending = True
        for order in trading.by_arrival(instrument.parked.values()):
            if not waits_for_auction(order.tif, phase):
                state.touch(order)
                trading.take_out(state, order)
                trading.rest(state, order)
        trading.update_theoretical(state, instrument)
    elif phase in CONTINUOUS_PHASES and instrument.call_pending:
        trading.uncross(state, instrument)
    elif phase is Phase.CLOSED:
        _close_day(state, instrument)


def _close_day(state: State, instrument: Instrument) -> None:
    config = state.market.config
    assert config is not None, f"{instrument.ticker} closes before the market is configured"
    instrument.call_pending = False
    instrument.theoretical = NO_THEORETICAL
    live = (*instrument.bids.orders(), *instrument.asks.orders(), *instrument.parked.values())
    for order in trading.by_arrival(live):
        if not _survives(order, config.business_date):
            leaves = trading.end(state, order)
            state.out.append(
                OrderExpired(
                    order=state.reference(order),
                    ticker=instrument.ticker,
                    side=order.side,
                    quantity_shares=leaves,
                    cum_shares=order.cum,
                )
            )
    state.out.append(
        DayClosed(
            ticker=instrument.ticker,
            business_date=config.business_date,
            closing_price_ticks=instrument.centre,
            trades=instrument.day_trades,
            volume_shares=instrument.day_shares,
            turnover_cents=instrument.day_cents,
        )
    )


def _survives(order: Order, business_date: str) -> bool:
    if order.price is None or order.tif not in _SURVIVES_THE_DAY:
        return False
    return order.expires is None or order.expires > business_date


def _addressed(state: State, command: Command, ticker: str) -> Instrument | None:
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


def _tell(state: State, ticker: str | None, phase: Phase) -> None:
    state.phase_changed = True
    state.out.append(PhaseChanged(ticker=ticker, phase=phase))


def ignore(state: State, command: str, why: str) -> None:
    """Say that a command is void, and why."""
    state.out.append(CommandIgnored(command=command, why=why))
