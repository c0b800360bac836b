"""What happens when the engine fails on a command: its effects are undone and one instrument stops.

Running out of memory or stack is no failure of a command: it ends the process, because a replay need not repeat it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from mybroker.contracts.commands import COMMAND_KINDS, Command
from mybroker.contracts.events import Quarantined
from mybroker.domain.phase import Phase
from services.b3_matcher.engine.items import Instrument
from services.b3_matcher.engine.state import State

P = ParamSpec("P")
KIND_OF = {cls: kind for kind, cls in COMMAND_KINDS.items()}


def guarded(
    state: State,
    instrument: Instrument,
    command: Command,
    step: Callable[Concatenate[State, Instrument, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Run one instrument's part of a market-wide command; a failure quarantines that instrument only.

    A quarantined instrument is left alone.
    """
    if instrument.quarantined:
        return
    mark = state.mark()
    state.touch(instrument)
    try:
        step(state, instrument, *args, **kwargs)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever the bug is, only this instrument stops
        state.undo(mark)
        quarantine(state, instrument, command, error)


def quarantine(state: State, instrument: Instrument | None, command: Command, error: Exception) -> None:
    """Stop an instrument until it is redriven and resumed; without one only say what failed."""
    ticker = None
    if instrument is not None:
        ticker = instrument.ticker
        state.mark()
        state.touch(instrument)
        instrument.quarantined = True
        instrument.phase = Phase.HALTED
    state.out.append(Quarantined(ticker=ticker, command=KIND_OF[type(command)], error=type(error).__name__))
