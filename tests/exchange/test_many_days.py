"""Many days: what lives on is restated or expires, the close is the next reference, nobody is left in yesterday.

Source: the exchange's page (orders that live for days, the close); facts 1.5 (restatement at day start).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from services.b3_matcher.engine import trading
from services.b3_matcher.engine.engine import Engine
from tests.exchange.desk import Desk, config, order, play

SECOND, DAY_NS = 1_000_000_000, 86_400_000_000_000
TWO = tuple(
    c.InstrumentConfig(ticker=ticker, asset=ticker, reference_price_ticks=3000) for ticker in ("PETR4", "VALE3")
)
UNPRICED = tuple(c.InstrumentConfig(ticker=ticker, asset=ticker) for ticker in ("PETR4", "VALE3"))


def _day(number: int, *, after_market: bool = False) -> tuple[tuple[int, Phase], ...]:
    phases = [(100, Phase.PRE_OPEN), (200, Phase.OPEN), (300, Phase.CLOSING_CALL)]
    phases += [(400, Phase.AFTER_MARKET), (500, Phase.CLOSED)] if after_market else [(400, Phase.CLOSED)]
    return tuple((number * DAY_NS + at * SECOND, phase) for at, phase in phases)


def _at(number: int, second: int) -> int:
    return number * DAY_NS + second * SECOND


def _next(desk: Desk, number: int, date: str, **settings: Any) -> list[e.Event]:
    return desk.configure(config(schedule=_day(number), business_date=date, **settings))


def _names(events: list[e.Event], kind: type[e.OrderExpired | e.OrderRestated | e.OrderCancelled]) -> list[str]:
    return [event.order.order_id for event in events if isinstance(event, kind)]


def test_orders_are_restated_each_morning_until_their_date_or_their_last_share():
    desk = Desk(phase=None, schedule=_day(0))
    desk.tick(_at(0, 250))
    play(
        desk,
        """
        buy b1 300 @ 29.00 gtc                             -> rests 300
        buy b2 100 @ 28.00 gtd expires=2026-11-25          -> rests 100
        buy x1 100 @ 31.00 stop=30.50 gtc                  -> waits
        sell c1 100 @ 32.00 at_the_close                   -> waits
        sell i1 300 @ 33.00 gtc show=100                   -> rests 300
        """,
    )
    closed = desk.tick(_at(0, 450))
    assert _names(closed, e.OrderExpired) == ["c1"]
    morning = _next(desk, 1, "2026-11-24", reference=None)
    assert _names(morning, e.OrderRestated) == ["b1", "b2", "x1", "i1"]
    desk.tick(_at(1, 450))
    _next(desk, 2, "2026-11-25", reference=None)
    assert _names(desk.tick(_at(2, 450)), e.OrderExpired) == ["b2"]
    assert _names(_next(desk, 3, "2026-11-26", reference=None), e.OrderRestated) == ["b1", "x1", "i1"]


def test_an_order_whose_date_was_a_holiday_expires_on_the_next_morning():
    desk = Desk(phase=None, schedule=_day(0))
    desk.tick(_at(0, 250))
    play(desk, "buy b1 100 @ 28.00 gtd expires=2026-11-24 -> rests 100")
    assert _names(desk.tick(_at(0, 450)), e.OrderExpired) == []
    morning = _next(desk, 2, "2026-11-25")
    assert _names(morning, e.OrderExpired) == ["b1"]
    assert _names(morning, e.OrderRestated) == []
    assert desk.engine.live_orders == 0


def test_the_official_close_is_the_closing_calls_and_the_next_days_reference():
    desk = Desk(phase=None, schedule=_day(0, after_market=True))
    desk.tick(_at(0, 350))
    play(
        desk,
        """
        sell s1 100 @ 30.50            -> rests 100
        buy b1 100 @ 30.50             -> theo 100 @ 30.50, rests 100
        """,
    )
    desk.tick(_at(0, 400))
    play(
        desk,
        """
        sell s2 100 @ 31.00            -> rests 100
        buy b2 100 @ 31.00             -> trades 100 @ 31.00 with s2
        """,
    )
    (closed,) = [x for x in desk.tick(_at(0, 500)) if isinstance(x, e.DayClosed)]
    assert closed.closing_price_ticks == 3050
    assert desk.engine.closing_prices == {"PETR4": 3050}
    _next(desk, 1, "2026-11-24", reference=None)
    assert desk.engine.book("PETR4").reference_price_ticks == 3050
    assert desk.engine.book("PETR4").last_price_ticks is None
    _next(desk, 2, "2026-11-25", reference="15.25")
    assert desk.engine.book("PETR4").reference_price_ticks == 1525, "an adjusted reference that is given counts"


@pytest.fixture
def trade_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug: a trade of PETR4 at 30.13 fails."""
    sound = trading.fill

    def fill(state: Any, instrument: Any, buy: Any, sell: Any, price: int, shares: int, aggressor: Any) -> None:
        sound(state, instrument, buy, sell, price, shares, aggressor)
        if price == 3013:
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(trading, "fill", fill)


def _quarantined_on_the_first_day() -> Desk:
    desk = Desk(phase=None, schedule=_day(0), instruments=TWO)
    desk.tick(_at(0, 250))
    play(
        desk,
        """
        sell s1 100 @ 30.20            -> rests 100
        buy b1 100 @ 30.20             -> trades 100 @ 30.20 with s1
        buy b2 100 @ 29.00             -> rests 100
        buy b3 100 @ 28.00 gtc         -> rests 100
        sell s2 100 @ 30.13            -> rests 100
        buy b4 100 @ 30.13             -> quarantined PETR4 new
        """,
    )
    return desk


def test_an_instrument_quarantined_over_night_starts_the_new_day_on_its_redrive(trade_that_fails: None):
    desk = _quarantined_on_the_first_day()
    assert [x.ticker for x in desk.tick(_at(0, 450)) if isinstance(x, e.DayClosed)] == ["VALE3"]
    _next(desk, 1, "2026-11-24", instruments=UNPRICED)
    desk.tick(_at(1, 250))
    copy = Engine.load(json.loads(json.dumps(desk.engine.dump())))
    play(
        desk,
        """
        redrive PETR4 -> expired b2 100, expired s2 100, day closed at 30.20, restated b3, PETR4 halted
        buy b5 100 @ 30.00             -> instrument_halted
        resume PETR4                   -> PETR4 open
        book                           -> buy b3 100 @ 28.00
        sell s5 100 @ 28.00            -> trades 100 @ 28.00 with b3
        """,
    )
    view = desk.engine.book("PETR4")
    assert (view.reference_price_ticks, view.trades, view.last_price_ticks) == (3020, 1, 2800)
    (closed,) = [x for frame in desk.frames for x in frame if isinstance(x, e.DayClosed) and x.ticker == "PETR4"]
    assert (closed.business_date, closed.trades) == ("2026-11-23", 1)
    for offset, command in desk.log[-4:]:
        assert copy.apply(offset, command) == desk.frames[offset]
    assert copy.state_hash() == desk.engine.state_hash()
    assert Engine.load(desk.engine.dump()).state_hash() == desk.engine.state_hash()


def test_a_quarantine_that_was_lifted_before_the_night_needs_nothing_more(trade_that_fails: None):
    desk = _quarantined_on_the_first_day()
    play(desk, "redrive PETR4 -> PETR4 halted")
    assert [x.ticker for x in desk.tick(_at(0, 450)) if isinstance(x, e.DayClosed)] == ["PETR4", "VALE3"]
    morning = _next(desk, 1, "2026-11-24", instruments=UNPRICED)
    assert _names(morning, e.OrderRestated) == ["b3"]


def test_an_instrument_quarantined_for_two_nights_has_one_new_day(trade_that_fails: None):
    desk = _quarantined_on_the_first_day()
    desk.tick(_at(0, 450))
    _next(desk, 1, "2026-11-24", instruments=UNPRICED)
    desk.tick(_at(1, 450))
    _next(desk, 2, "2026-11-25", instruments=UNPRICED)
    events = desk.do(c.Redrive(ticker="PETR4"))
    assert [x.business_date for x in events if isinstance(x, e.DayClosed)] == ["2026-11-23"]
    assert desk.engine._state.instruments["PETR4"].day == "2026-11-25"
    assert desk.engine.phase("PETR4") is Phase.CLOSED


def test_an_instrument_taken_off_the_market_while_quarantined_leaves_on_its_redrive(trade_that_fails: None):
    desk = _quarantined_on_the_first_day()
    desk.configure(config(schedule=_day(0), instruments=TWO[1:]))
    events = desk.do(c.Redrive(ticker="PETR4"))
    assert _names(events, e.OrderCancelled) == ["b2", "b3", "s2"]
    assert desk.engine.tickers == ("VALE3",)


def test_ten_days_in_a_row_from_one_log_end_the_same_for_a_replay():
    desk = Desk(phase=None, schedule=_day(0), instruments=TWO)
    for number in range(10):
        if number:
            _next(desk, number, f"2026-12-{number:02d}", instruments=UNPRICED)
        desk.tick(_at(number, 250))
        for ticker in ("PETR4", "VALE3"):
            price = f"30.{number:02d}"
            for side in ("buy", "sell"):
                desk.do(order(side, f"{side}{ticker}{number}", 100 + number, price, ticker=ticker))
        desk.tick(_at(number, 450))
        assert desk.engine.is_closed
        assert desk.engine.closing_prices == {"PETR4": 3000 + number, "VALE3": 3000 + number}
    again = Engine()
    assert [again.apply(offset, command) for offset, command in desk.log] == desk.frames
    assert again.state_hash() == desk.engine.state_hash()
