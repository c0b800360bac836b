"""Time: a tick passes every instant since the last one, in order, each exactly at its own time.

Instants are those of the schedule, the ends of instruments' own calls, and the circuit breaker's. At one instant own
calls end first, then the circuit breaker's halt or call, then the schedule moves the market.
"""

from __future__ import annotations

from mybroker.contracts.commands import Command, Tick
from mybroker.domain.phase import CALL_PHASES, Phase
from services.b3_matcher.engine import calls, circuit_breaker
from services.b3_matcher.engine.guard import guarded
from services.b3_matcher.engine.items import Instrument
from services.b3_matcher.engine.phases import ENDS_A_CALL, ignore, move_market, tell
from services.b3_matcher.engine.state import State


def tick(state: State, command: Tick) -> None:
    """Let time pass."""
    market = state.market
    if command.epoch != market.epoch:
        ignore(state, "tick", f"expected epoch {market.epoch}, was {command.epoch}")
        return
    if command.at_ns <= market.now_ns:
        ignore(state, "tick", f"expected a time after {market.now_ns}, was {command.at_ns}")
        return
    while (at_ns := next_due_ns(state, market.now_ns)) is not None and at_ns <= command.at_ns:
        _set_now(state, at_ns)
        _let_happen(state, command, at_ns)
    _set_now(state, command.at_ns)
    for instrument in state.instruments.values():
        if instrument.triggered:
            state.to_settle[instrument.ticker] = instrument


def next_due_ns(state: State, after_ns: int) -> int | None:
    """Return the next instant after a time at which something happens by itself."""
    market = state.market
    due = [] if market.config is None else [change.at_ns for change in market.config.schedule]
    due += [at_ns for at_ns in (market.circuit_breaker_until_ns, market.call_ends_ns) if at_ns is not None]
    for instrument in state.instruments.values():
        if instrument.call_ends_ns is not None and not instrument.quarantined:
            due.append(instrument.call_ends_ns)
    return min((at_ns for at_ns in due if at_ns > after_ns), default=None)


def _set_now(state: State, at_ns: int) -> None:
    state.mark()
    state.touch(state.market)
    state.market.now_ns = at_ns


def _let_happen(state: State, command: Command, at_ns: int) -> None:
    market = state.market
    for instrument in list(state.instruments.values()):
        if instrument.call_ends_ns is not None and instrument.call_ends_ns <= at_ns:
            guarded(state, instrument, command, calls.end_own_call)
    if market.circuit_breaker_until_ns is not None and market.circuit_breaker_until_ns <= at_ns:
        circuit_breaker.reopen(state, command)
    if market.call_ends_ns is not None and market.call_ends_ns <= at_ns:
        _move_by_clock(state, command, Phase.OPEN)
    schedule = () if market.config is None else market.config.schedule
    for change in schedule:
        if change.at_ns == at_ns:
            _move_by_clock(state, command, change.phase)


def _move_by_clock(state: State, command: Command, phase: Phase) -> None:
    """Move the market; an instrument whose call goes on stays behind."""
    market = state.market
    staying: list[Instrument] = []
    if market.effective_phase in CALL_PHASES and phase in ENDS_A_CALL:
        for instrument in state.instruments.values():
            if instrument.own_phase is None and instrument.phase in CALL_PHASES:
                guarded(state, instrument, command, _stay_behind, staying)
    move_market(state, command, phase=phase, halted=market.halted, by_clock=True)
    for instrument in staying:
        if instrument.own_phase is not None:
            tell(state, instrument.ticker, instrument.phase)


def _stay_behind(state: State, instrument: Instrument, staying: list[Instrument]) -> None:
    if calls.goes_on(state, instrument):
        staying.append(instrument)
