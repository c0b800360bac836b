"""A command the engine fails on: its effects are undone, one instrument stops, the market goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine import trading
from services.b3_matcher.engine.engine import Engine
from tests.exchange.desk import Desk, config, order, play
from tests.exchange.generated_flow import whole_flow
from tests.exchange.test_generated_flows import INSTRUMENTS, SCHEDULE, Watcher

TWO = tuple(
    c.InstrumentConfig(ticker=ticker, asset=ticker, reference_price_ticks=3000) for ticker in ("PETR4", "VALE3")
)


@pytest.fixture
def fill_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug: the third fill of a frame fails, after it has done half its work."""
    sound = trading.fill

    def fill(state: Any, instrument: Any, buy: Any, sell: Any, price: int, shares: int, aggressor: Any) -> None:
        sound(state, instrument, buy, sell, price, shares, aggressor)
        if state.trade_index == 3:
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(trading, "fill", fill)


def _crowded(**settings: Any) -> Desk:
    desk = Desk(instruments=TWO, **settings)
    for number in range(4):
        desk.place("sell", f"s{number}", 100, f"30.0{number}")
    desk.do(order("buy", "v1", 100, "30.00", ticker="VALE3"))
    return desk


def test_a_failed_command_is_undone_and_its_frame_says_so(fill_that_fails: None):
    desk = _crowded()
    before, reports, book = desk.engine.dump(), desk.engine.report_numbers, desk.engine.book("PETR4")
    events = desk.place("buy", "b1", 400, "30.10")
    assert events == [e.Quarantined(ticker="PETR4", command="new", error="ZeroDivisionError")]
    after = desk.engine.dump()
    assert after["members"] == before["members"]
    assert desk.engine.report_numbers == reports
    was, now = before["instruments"][0], after["instruments"][0]
    assert {**now, "phase": "open", "quarantined": False} == was
    view = desk.engine.book("PETR4")
    assert (view.bids, view.asks, view.book_seq) == (book.bids, book.asks, book.book_seq)
    assert Engine.load(after).state_hash() == desk.engine.state_hash()


def test_a_quarantined_instrument_refuses_until_it_is_redriven_and_resumed(fill_that_fails: None):
    desk = _crowded()
    desk.place("buy", "b1", 400, "30.10")
    play(
        desk,
        """
        buy b1 100 @ 30.00             -> quarantined
        cancel s0 rev=2                -> quarantined
        replace s1 - @ 31.00 rev=2     -> quarantined
        resume PETR4                   -> ignored Resume
        uncross                        -> ignored Uncross
        mass_cancel P1                 -> cancelled v1 100 mass_cancel, mass cancelled 1
        """,
    )
    assert desk.engine.quarantined == ("PETR4",)
    desk.do(c.Redrive(ticker="PETR4"))
    play(
        desk,
        """
        buy b2 100 @ 30.00             -> instrument_halted
        resume PETR4                   -> PETR4 open
        buy b3 200 @ 30.10             -> trades 100 @ 30.00 with s0, trades 100 @ 30.01 with s1
        """,
    )


def test_the_other_instruments_trade_on(fill_that_fails: None):
    desk = _crowded()
    desk.place("buy", "b1", 400, "30.10")
    events = desk.do(order("sell", "v2", 100, "30.00", ticker="VALE3"))
    assert any(isinstance(event, e.TradeExecuted) for event in events)


def test_a_market_wide_command_stops_only_the_instrument_it_fails_in(fill_that_fails: None):
    desk = Desk(phase=Phase.PRE_OPEN, instruments=TWO)
    for number in range(4):
        desk.place("sell", f"s{number}", 100, "30.00")
    desk.place("buy", "b1", 400, "30.00")
    desk.do(order("buy", "v1", 100, "30.00", ticker="VALE3"))
    desk.do(order("sell", "v2", 100, "30.00", ticker="VALE3"))
    events = desk.do(c.SetPhase(phase=Phase.OPEN))
    assert e.Quarantined(ticker="PETR4", command="phase", error="ZeroDivisionError") in events
    assert [x.ticker for x in events if isinstance(x, e.TradeExecuted)] == ["VALE3"]
    assert e.PhaseChanged(ticker=None, phase=Phase.OPEN) in events
    assert (desk.engine.phase("PETR4"), desk.engine.phase("VALE3")) == (Phase.HALTED, Phase.OPEN)
    assert len(desk.engine.book("PETR4").asks) == 4
    # The day closes around it, and it closes when it is redriven.
    closed = desk.do(c.SetPhase(phase=Phase.CLOSED))
    assert [x.ticker for x in closed if isinstance(x, e.DayClosed)] == ["VALE3"]
    redriven = desk.do(c.Redrive(ticker="PETR4"))
    assert [x.ticker for x in redriven if isinstance(x, e.DayClosed)] == ["PETR4"]
    assert desk.engine.book("PETR4").asks == ()


def test_the_quarantine_is_the_same_on_every_replay(fill_that_fails: None):
    desk = Desk(phase=None, rules=Rules(lot=1), instruments=INSTRUMENTS, schedule=SCHEDULE)
    watcher = Watcher()
    quarantines = 0
    copy = Engine()
    for number, command in enumerate(whole_flow(3, 1_500)):
        offset = len(desk.log)
        events = desk.do(command)
        watcher.check(desk.engine, events, f"command {number}")
        quarantines += sum(isinstance(event, e.Quarantined) for event in events)
        if number == 700:
            copy = Engine.load(json.loads(json.dumps(desk.engine.dump())))
        elif number > 700:
            assert copy.apply(offset, command) == events
    assert quarantines > 0, "the flow must meet the bug"
    again = Engine()
    assert [again.apply(offset, command) for offset, command in desk.log] == desk.frames
    assert again.state_hash() == desk.engine.state_hash() == copy.state_hash()


def test_a_configuration_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    desk = _crowded()
    before = desk.engine.dump()
    with monkeypatch.context() as patched:
        patched.setattr("services.b3_matcher.engine.configuration.SessionConfigured", None)
        extra = c.InstrumentConfig(ticker="ITUB4", asset="ITUB4")
        events = desk.configure(config(instruments=(*TWO, extra)))
    assert events == [e.Quarantined(ticker=None, command="configure", error="TypeError")]
    assert desk.engine.dump() == before
    assert isinstance(desk.configure(config(instruments=TWO))[-1], e.SessionConfigured)


def test_running_out_of_memory_or_stack_ends_the_process(monkeypatch: pytest.MonkeyPatch):
    for error in (MemoryError, RecursionError):
        desk = _crowded()

        def fill(*_: Any, error: type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr(trading, "fill", fill)
        with pytest.raises(error):
            desk.place("buy", "b1", 100, "30.10")
