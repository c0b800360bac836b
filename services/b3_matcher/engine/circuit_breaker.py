"""The index circuit breaker: everything halts when the index falls to a level, and reopens by a call.

The index comes as numbered commands, other shards' trips as commands that are safe to hear twice (by day and level).
A level counts once a day; a fall through several levels at once trips the deepest. By index the breaker trips only
in continuous trading and not in the last part of the day; a trip that was handed on counts until the close, so that
all shards stand still together. Limit: the close stays where the schedule has it, however late the halt.
Source: the exchange's page, bands and halts; facts 1.4.
"""

from __future__ import annotations

from mybroker.contracts.commands import Command, IndexLevel, Trip
from mybroker.contracts.events import CircuitBreakerTripped
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from mybroker.domain.schedule import NS_PER_SECOND
from services.b3_matcher.engine.phases import ignore, move_market
from services.b3_matcher.engine.state import State

_BP = 10_000


def index_level(state: State, command: IndexLevel) -> None:
    """Hear the index, and trip where it has fallen to a level not reached today."""
    market = state.market
    if command.number <= market.index_number:
        ignore(state, "index", f"expected a number after {market.index_number}, was {command.number}")
        return
    state.touch(market)
    market.index_number = command.number
    level = level_of(state.rules, command.value_hundredths, command.previous_close_hundredths)
    if level > market.circuit_breaker_level and market.phase is Phase.OPEN and not _is_quiet(state):
        _trip(state, command, level, by_index=True)


def trip(state: State, command: Trip) -> None:
    """Stand still with another shard."""
    market = state.market
    date = None if market.config is None else market.config.business_date
    if command.day != date or market.phase is Phase.CLOSED:
        ignore(state, "trip", f"expected a trip of the day that is traded ({date}), was {command.day}")
    elif not state.rules.circuit_breaker or not 1 <= command.level <= len(state.rules.circuit_breaker_levels):
        ignore(state, "trip", f"level {command.level} is not in the rules")
    elif command.level <= market.circuit_breaker_level:
        ignore(state, "trip", f"level {market.circuit_breaker_level} was reached already")
    else:
        _trip(state, command, command.level, by_index=False)


def level_of(rules: Rules, value: int, previous_close: int) -> int:
    """Return the deepest level this value has fallen to; 0 for none."""
    if not rules.circuit_breaker or previous_close <= 0:
        return 0
    fall = (previous_close - value) * _BP
    return sum(fall >= fall_bp * previous_close for fall_bp, _ in rules.circuit_breaker_levels)


def _is_quiet(state: State) -> bool:
    """Say whether the day is so near its end that the breaker rests."""
    config = state.market.config
    closes = [] if config is None else [change.at_ns for change in config.schedule if change.phase is Phase.CLOSED]
    quiet_ns = state.rules.circuit_breaker_quiet_seconds * NS_PER_SECOND
    return bool(closes) and state.market.now_ns >= closes[-1] - quiet_ns


def _trip(state: State, command: Command, level: int, *, by_index: bool) -> None:
    market = state.market
    assert market.config is not None, "a market that is open is configured"
    lasts_seconds = state.rules.circuit_breaker_levels[level - 1][1]
    until_ns = market.now_ns + lasts_seconds * NS_PER_SECOND if lasts_seconds else None
    state.out.append(
        CircuitBreakerTripped(day=market.config.business_date, level=level, by_index=by_index, until_ns=until_ns)
    )
    phase = Phase.OPEN if market.call_ends_ns is not None else market.phase
    move_market(state, command, phase=phase, halted=True)
    state.mark()
    state.touch(market)
    market.circuit_breaker_level = level
    market.circuit_breaker_halts = True
    market.circuit_breaker_until_ns = until_ns


def reopen(state: State, command: Command) -> None:
    """End the breaker's halt: by a call where continuous trading would go on, else in the schedule's phase."""
    market = state.market
    if market.phase is not Phase.OPEN:
        move_market(state, command, phase=market.phase, halted=False)
        return
    move_market(state, command, phase=Phase.AUCTION, halted=False)
    state.mark()
    state.touch(market)
    market.call_ends_ns = market.now_ns + state.rules.circuit_breaker_call_seconds * NS_PER_SECOND
