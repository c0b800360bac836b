"""A call of one instrument: how a band starts an auction, and how a call's end is put off.

At the end of a call the protection band is asked first, then late changes; each may put the end off a few times. An
instrument whose call goes on leaves its group and rejoins its market when the call is over. One whose price stayed
outside the protection band halts for a supervisor; if its market is closed by then, it closes without a print.
Commands end a call at once: only the clock extends.
"""

from __future__ import annotations

from mybroker.contracts.events import StatusChanged
from mybroker.domain.phase import CALL_PHASES, Phase, StatusReason
from mybroker.domain.schedule import NS_PER_SECOND
from services.b3_matcher.engine import bands
from services.b3_matcher.engine.items import Instrument
from services.b3_matcher.engine.phases import move_alone, rejoin, tell
from services.b3_matcher.engine.state import State


def start_auction(state: State, instrument: Instrument, reason: StatusReason, price: int) -> None:
    """Take an instrument out of continuous trading; `price` is the trade that would have left the band."""
    lasts_ns = bands.auction_seconds(state.rules, instrument, price) * NS_PER_SECOND
    instrument.own_phase = Phase.AUCTION
    instrument.call_ends_ns = state.market.now_ns + lasts_ns
    move_alone(state, instrument)
    _say(state, instrument, reason, instrument.call_ends_ns)


def end_own_call(state: State, instrument: Instrument) -> None:
    """End an auction or an extended call whose time has come, unless it goes on."""
    if instrument.phase not in CALL_PHASES:  # halted: it prints when it is resumed
        rejoin(instrument)
    elif not goes_on(state, instrument):
        rejoin(instrument)
        move_alone(state, instrument)


def goes_on(state: State, instrument: Instrument) -> bool:
    """Decide at the end of a call whether it is longer, or halts; say so."""
    rules = state.rules
    if bands.is_protection_hit(rules, instrument):
        if instrument.call_protections >= rules.protection_extensions_max:
            _halt(state, instrument)
            return True
        instrument.call_protections += 1
        _extend(state, instrument, StatusReason.PROTECTION)
        return True
    if rules.extensions and instrument.call_extensions < rules.extensions_max and _changed_late(state, instrument):
        instrument.call_extensions += 1
        _extend(state, instrument, StatusReason.LATE_CHANGE)
        return True
    return False


def _changed_late(state: State, instrument: Instrument) -> bool:
    windows = state.rules.extension_windows_seconds
    if instrument.call_changed_ns is None or not windows:
        return False
    window = windows[min(instrument.call_extensions, len(windows) - 1)]
    return instrument.call_changed_ns >= state.market.now_ns - window * NS_PER_SECOND


def _extend(state: State, instrument: Instrument, reason: StatusReason) -> None:
    instrument.call_ends_ns = state.market.now_ns + state.rules.extension_seconds * NS_PER_SECOND
    instrument.own_phase = instrument.phase
    _say(state, instrument, reason, instrument.call_ends_ns)


def _halt(state: State, instrument: Instrument) -> None:
    rejoin(instrument)
    instrument.halted = state.market.phase is not Phase.CLOSED
    instrument.phase = Phase.HALTED
    tell(state, instrument.ticker, Phase.HALTED)
    _say(state, instrument, StatusReason.PROTECTION_HALT, None)
    move_alone(state, instrument)


def _say(state: State, instrument: Instrument, reason: StatusReason, until_ns: int | None) -> None:
    state.out.append(StatusChanged(ticker=instrument.ticker, phase=instrument.phase, reason=reason, until_ns=until_ns))
