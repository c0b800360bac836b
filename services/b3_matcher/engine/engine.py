"""The matching engine's face: `apply(offset, command) -> events`, and nothing else changes it.

A pure function of the command log: no clock, no chance, no I/O, no configuration but what the log carries; the same
commands at the same offsets give the same events and the same state hash in every process. `apply` never raises for
any command: where the engine fails on one (a bug) its effects are undone, the frame is one `Quarantined`, and the
instrument stays halted until Redrive and Resume. Running out of memory or stack does raise, and ends the process.

Raise ENGINE_VERSION whenever the events or the hash of any log change; the golden tapes fail when it was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mybroker.contracts import commands as c
from mybroker.contracts.events import Event, StateHashed
from mybroker.domain.phase import Phase
from services.b3_matcher.engine import (
    circuit_breaker,
    configuration,
    continuous,
    dump,
    orders,
    phases,
    supervision,
    timetable,
)
from services.b3_matcher.engine.guard import guarded, quarantine
from services.b3_matcher.engine.hashing import fold
from services.b3_matcher.engine.items import Instrument, Order
from services.b3_matcher.engine.state import JOURNAL_LENGTH_MAX, State
from services.b3_matcher.engine.views import BookView, book_view

ENGINE_VERSION = 2


class Engine:
    """One shard's books and everything that decides about them."""

    def __init__(self) -> None:
        self._state = State(ENGINE_VERSION)

    def apply(self, offset: int, command: c.Command) -> list[Event]:
        """Apply the command at this offset of the log; return the events of its frame."""
        state = self._state
        state.begin(offset)
        mark = state.mark()
        try:
            _HANDLERS[type(command)](state, command)
            if state.to_settle:
                _settle(state, command)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001 - a bug stops one instrument, never the market
            state.undo(mark)
            quarantine(state, self._instrument_of(command), command, error)
        hash_every = state.rules.hash_every_commands
        if state.phase_changed or hash_every < 2 or (offset + 1) % hash_every == 0:
            state.out.append(StateHashed(state_hash=self.state_hash()))
        elif len(state.journal) > JOURNAL_LENGTH_MAX:
            fold(state)
        return state.out

    def _instrument_of(self, command: c.Command) -> Instrument | None:
        """Return the instrument whose book a failed command worked on."""
        if isinstance(command, (c.CancelOrder, c.ReplaceOrder)):
            member = self._state.members.get(command.participant)
            known = None if member is None else member.orders.get(command.order_id)
            return known.instrument if isinstance(known, Order) else None
        ticker: str | None = getattr(command, "ticker", None)
        return None if ticker is None else self._state.instruments.get(ticker)

    def state_hash(self) -> str:
        """Return the hash over books, orders, phases, counters and numbering: 128 bits as 32 hex digits."""
        return f"{fold(self._state):032x}"

    def dump(self) -> dict[str, Any]:
        """Return the whole state as plain JSON values."""
        return {"engine_version": ENGINE_VERSION, **dump.dump_state(self._state)}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Engine:
        """Make an engine from a dump: same hash, same future. Raises ValueError for another version's dump."""
        if dumped.get("engine_version") != ENGINE_VERSION:
            raise ValueError(f"dump: expected engine version {ENGINE_VERSION}, was {dumped.get('engine_version')!r}")
        engine = cls()
        dump.load_state(engine._state, dumped)
        return engine

    @property
    def log_id(self) -> str | None:
        """The log's id; None before LogStart."""
        return self._state.market.log_id

    @property
    def epoch(self) -> int:
        """The offset of the takeover in force; -1 before the first."""
        return self._state.market.epoch

    @property
    def owner(self) -> str:
        """Who took over last."""
        return self._state.market.owner

    @property
    def engine_version_wanted(self) -> int:
        """The engine version that may take over."""
        return self._state.market.engine_version_wanted

    @property
    def revision(self) -> int:
        """The revision of the configuration in force; 0 before the first."""
        return self._state.market.revision

    @property
    def config(self) -> c.SessionConfig | None:
        """The configuration in force."""
        return self._state.market.config

    @property
    def business_date(self) -> str | None:
        """The day that is traded, or was traded last."""
        config = self._state.market.config
        return None if config is None else config.business_date

    @property
    def now_ns(self) -> int:
        """Session time of the last tick."""
        return self._state.market.now_ns

    @property
    def is_closed(self) -> bool:
        """Say whether the business date is over: the market was open and has closed, and no call goes on after it."""
        return self._state.market.day_over and not self.calls_outlast_the_close

    @property
    def calls_outlast_the_close(self) -> bool:
        """Say whether the market has closed but an extended call has not."""
        return self._state.market.phase is Phase.CLOSED and any(
            instrument.call_ends_ns is not None and not instrument.quarantined
            for instrument in self._state.instruments.values()
        )

    @property
    def closing_prices(self) -> dict[str, int]:
        """The closing price in ticks of each listed instrument that has one."""
        listed = [instrument for instrument in self._state.instruments.values() if instrument.listed]
        prices = {instrument.ticker: instrument.closing_price for instrument in listed}
        return {ticker: price for ticker, price in prices.items() if price is not None}

    @property
    def tickers(self) -> tuple[str, ...]:
        """Every instrument that is listed, in the configuration's order."""
        return tuple(instrument.ticker for instrument in self._state.instruments.values() if instrument.listed)

    @property
    def report_numbers(self) -> dict[str, int]:
        """The last report number of each participant."""
        return {member.name: member.reports for member in self._state.members.values()}

    @property
    def live_orders(self) -> int:
        """How many orders live."""
        return self._state.live_orders

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The tickers that wait for a redrive."""
        return tuple(instrument.ticker for instrument in self._state.instruments.values() if instrument.quarantined)

    def phase(self, ticker: str | None = None) -> Phase:
        """Return the market's phase, or one instrument's."""
        if ticker is None:
            return self._state.market.effective_phase
        return self._state.instruments[ticker].phase

    def next_due_ns(self, after_ns: int) -> int | None:
        """Return the next instant after a time at which something happens by itself: the owner ticks exactly there."""
        return timetable.next_due_ns(self._state, after_ns)

    def book(self, ticker: str) -> BookView:
        """Return one instrument's visible book."""
        return book_view(self._state.instruments[ticker])


def _settle(state: State, command: c.Command) -> None:
    """Let the stops that a command set off enter; a failure there stops their instrument only."""
    for instrument in list(state.to_settle.values()):
        guarded(state, instrument, command, continuous.settle_triggered)


_HANDLERS: dict[type, Callable[[State, Any], None]] = {
    c.LogStart: configuration.log_start,
    c.TakeOver: configuration.take_over,
    c.HandOver: configuration.hand_over,
    c.ConfigureSession: configuration.configure,
    c.BustTrade: configuration.bust,
    c.Tick: timetable.tick,
    c.SetPhase: phases.set_phase,
    c.Uncross: phases.uncross,
    c.Halt: phases.halt,
    c.Resume: supervision.resume,
    c.Redrive: supervision.redrive,
    c.PlaceOrder: orders.place,
    c.CancelOrder: orders.cancel,
    c.ReplaceOrder: orders.replace,
    c.MassCancel: orders.mass_cancel,
    c.Logon: orders.logon,
    c.Disconnect: orders.disconnect,
    c.IndexLevel: circuit_breaker.index_level,
    c.Trip: circuit_breaker.trip,
}
assert set(_HANDLERS) == set(c.COMMAND_KINDS.values()), "every command has a handler"
