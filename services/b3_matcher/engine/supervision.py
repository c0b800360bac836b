"""A supervisor's commands that let a market go on: the end of a halt, the end of a quarantine."""

from __future__ import annotations

from mybroker.contracts.commands import Redrive, Resume
from mybroker.domain.phase import Phase
from services.b3_matcher.engine import circuit_breaker, configuration
from services.b3_matcher.engine.phases import addressed, close_day, ignore, move_alone, move_market, rejoin, tell
from services.b3_matcher.engine.state import State


def resume(state: State, command: Resume) -> None:
    """End a halt: the market goes on with its schedule's phase, an instrument rejoins its market.

    A halt of the circuit breaker ends by its call.
    """
    if command.ticker is None:
        if state.market.circuit_breaker_halts:
            circuit_breaker.reopen(state, command)
        else:
            move_market(state, command, phase=state.market.phase, halted=False)
        return
    instrument = addressed(state, command, command.ticker)
    if instrument is None:
        return
    state.touch(instrument)
    instrument.halted = False
    rejoin(instrument)
    move_alone(state, instrument)


def redrive(state: State, command: Redrive) -> None:
    """Lift a quarantine: the instrument stays halted until it is resumed.

    Days that began meanwhile did not touch it: its old day is closed now and the market's day begun, so that its
    orders expire or are restated, its trades are forgotten and it has the right reference.
    """
    instrument = state.instruments.get(command.ticker)
    if instrument is None or not instrument.quarantined:
        ignore(state, "redrive", f"{command.ticker} is not quarantined")
        return
    config = state.market.config
    assert config is not None, f"{command.ticker} is listed, so the market is configured"
    state.touch(instrument)
    instrument.quarantined = False
    instrument.halted = True
    if instrument.day != config.business_date:
        if not instrument.day_closed:
            close_day(state, instrument)
        configuration.begin_day(state, instrument, config.business_date)
        if state.market.phase is Phase.CLOSED and not state.market.day_over:
            instrument.phase = Phase.CLOSED  # the new day has not opened, so it must not be closed
            tell(state, instrument.ticker, Phase.CLOSED)
    if all(wish.ticker != instrument.ticker for wish in config.instruments):
        configuration.delist(state, instrument)
    rejoin(instrument)
    move_alone(state, instrument)
    if instrument.phase is Phase.HALTED:
        tell(state, instrument.ticker, Phase.HALTED)
