"""The day: phases by the schedule or by command, halts, the close, the next morning, configuration and ownership."""

from __future__ import annotations

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from services.b3_matcher.engine.engine import ENGINE_VERSION
from tests.exchange.desk import Desk, check_book, config, order, play

DAY = ((100, Phase.PRE_OPEN), (200, Phase.OPEN), (300, Phase.CLOSING_CALL), (400, Phase.CLOSED))
NEXT_DAY = ((1100, Phase.PRE_OPEN), (1200, Phase.OPEN), (1300, Phase.CLOSING_CALL), (1400, Phase.CLOSED))


def test_a_tick_that_passes_an_instant_moves_the_market():
    check_book(
        """
        tick 99            ->
        buy b1 100 @ 30.00 -> market_closed
        tick 100           -> pre_open
        buy b2 100 @ 30.00 -> rests 100
        sell s1 100 @ 30.00 -> theo 100 @ 30.00, rests 100
        tick 150           ->
        tick 200           -> b2 x s1 100 @ 30.00, prints 100 @ 30.00, open
        tick 200           -> ignored tick
        tick 199           -> ignored tick
        """,
        phase=None,
        schedule=DAY,
    )


def test_instants_passed_by_one_late_tick_happen_in_order():
    check_book(
        """
        tick 120           -> pre_open
        buy b1 100 @ 30.00 -> rests 100
        tick 900 -> no print, open, closing_call, no print, closed, expired b1 100, day closed at 30.00
        """,
        phase=None,
        schedule=DAY,
    )


def test_the_closing_call_prints_and_the_day_ends():
    desk = check_book(
        """
        tick 250                       -> pre_open, no print, open
        buy b1 100 @ 29.90             -> rests 100
        buy b2 300 @ 30.00 gtc         -> rests 300
        sell s0 100 @ 30.50 at_the_close -> waits
        sell s9 100 @ 29.95 at_the_close -> waits
        tick 300                       -> closing_call, theo 100 @ 30.00 buy+200
        sell s1 100 @ mkt              -> theo 200 @ 30.00 buy+100, rests 100
        tick 400 -> b2 x s1 100 @ 30.00, b2 x s9 100 @ 30.00, prints 200 @ 30.00, closed, {end}
        book                           -> buy b2 100 @ 30.00
        cancel b2 rev=2                -> market_closed
        """.replace("{end}", "expired b1 100, expired s0 100, day closed at 30.00"),
        phase=None,
        schedule=DAY,
    )
    assert desk.engine.is_closed
    assert desk.engine.next_due_ns(400) is None
    closed = next(x for frame in desk.frames for x in frame if isinstance(x, e.DayClosed))
    assert (closed.trades, closed.volume_shares, closed.turnover_cents) == (2, 200, 600_000)


def test_surviving_orders_are_restated_next_morning_and_expire_on_their_date():
    desk = check_book(
        """
        tick 250                                           -> pre_open, no print, open
        buy b1 100 @ 30.00 gtc                             -> rests 100
        buy b2 100 @ 29.00 gtd expires=2026-11-24          -> rests 100
        buy b3 100 @ 28.00 gtd expires=2026-11-23          -> rests 100
        sell s1 50 @ 30.00                                 -> trades 50 @ 30.00 with b1
        tick 500 -> closing_call, no print, closed, expired b3 100, day closed at 30.00
        """,
        phase=None,
        schedule=DAY,
        reference="31.00",
    )
    events = desk.configure(config(schedule=NEXT_DAY, business_date="2026-11-24", reference=None))
    assert [(x.order.order_id, x.leaves_shares) for x in events if isinstance(x, e.OrderRestated)] == [
        ("b1", 50),
        ("b2", 100),
    ]
    assert not desk.engine.is_closed
    assert desk.engine.book("PETR4").reference_price_ticks == 3000, "the close is the next day's reference"
    play(
        desk,
        """
        tick 1250          -> pre_open, no print, open
        sell s2 100 @ 30.00 -> trades 50 @ 30.00 with b1, rests 50
        tick 1500 -> closing_call, no print, closed, expired b2 100, expired s2 50, day closed at 30.00
        """,
    )
    last = [x for x in desk.frames[-1] if isinstance(x, e.DayClosed)]
    assert [(x.business_date, x.trades) for x in last] == [("2026-11-24", 1)]


def test_an_order_good_for_the_auction_waits_for_the_next_one():
    check_book("""
        buy b1 100 @ 30.00 good_for_auction    -> waits
        sell s1 50 @ 30.00                     -> rests 50
        phase auction PETR4                    -> PETR4 auction, theo 50 @ 30.00 buy+50
        phase open PETR4 -> b1 x s1 50 @ 30.00, prints 50 @ 30.00, cancelled b1 50 auction_remainder, PETR4 open
        buy b2 100 @ 30.00 good_for_auction    -> waits
        replace b2 200 @ 29.00 rev=2           -> lost place, waits
        cancel b2 rev=3                        -> cancelled 200
    """)


def test_a_halted_instrument_takes_cancels_only_and_rejoins_its_market():
    check_book("""
        buy b1 100 @ 30.00     -> rests 100
        halt PETR4             -> PETR4 halted
        buy b2 100 @ 30.00     -> instrument_halted
        halt PETR4             ->
        cancel b1 rev=2        -> cancelled 100
        resume PETR4           -> PETR4 open
        resume PETR4           ->
        halt VALE3             -> ignored Halt
    """)


def test_a_halted_market_goes_on_with_the_schedules_phase():
    check_book(
        """
        tick 120               -> pre_open
        buy b1 100 @ 30.00     -> rests 100
        sell s1 100 @ 30.00    -> theo 100 @ 30.00, rests 100
        halt                   -> halted
        tick 250               ->
        resume                 -> open, b1 x s1 100 @ 30.00, prints 100 @ 30.00
        halt                   -> halted
        tick 450               -> closed, day closed at 30.00
        """,
        phase=None,
        schedule=DAY,
    )


def test_a_halt_outlasts_the_night():
    desk = check_book(
        """
        tick 250               -> pre_open, no print, open
        halt PETR4             -> PETR4 halted
        tick 450               -> closing_call, closed, PETR4 closed, day closed at 30.00
        """,
        phase=None,
        schedule=DAY,
    )
    desk.configure(config(schedule=NEXT_DAY, business_date="2026-11-24"))
    play(
        desk,
        """
        tick 1250              -> pre_open, PETR4 halted, open
        resume PETR4           -> PETR4 open
        """,
    )


def test_an_uncross_ends_the_call_and_the_market_catches_up():
    check_book(
        """
        buy b1 100 @ 30.00     -> rests 100
        sell s1 100 @ 30.00    -> theo 100 @ 30.00, rests 100
        uncross                -> b1 x s1 100 @ 30.00, prints 100 @ 30.00, PETR4 open
        uncross                -> ignored uncross
        buy b2 100 @ 30.00     -> rests 100
        phase open             -> open
        phase closing_call     -> closing_call
        uncross                -> no print, PETR4 closed, expired b2 100, day closed at 30.00
        phase closed           -> closed
        """,
        phase=Phase.PRE_OPEN,
    )


def test_a_new_instrument_joins_in_the_markets_phase_and_a_dropped_one_loses_its_orders():
    desk = Desk()
    desk.place("buy", "b1", 100, "30.00")
    vale = c.InstrumentConfig(ticker="VALE3", asset="VALE3", reference_price_ticks=6000)
    events = desk.configure(config(instruments=(vale,)))
    cancelled = [x for x in events if isinstance(x, e.OrderCancelled)]
    assert [(x.order.order_id, x.reason) for x in cancelled] == [("b1", "supervisor")]
    assert desk.engine.tickers == ("VALE3",)
    assert desk.engine.phase("VALE3") is Phase.OPEN
    refused = desk.place("buy", "b2", 100, "30.00")
    assert isinstance(refused[0], e.OrderRejected)
    assert refused[0].reason == "unknown_instrument"


def test_rules_apply_from_their_configuration_on():
    desk = Desk()
    desk.configure(config(rules=Rules(lot=100, bands=False)))
    events = desk.place("buy", "b1", 50, "30.00")
    assert isinstance(events[0], e.OrderRejected)
    assert events[0].reason == "quantity_not_multiple_of_lot"


def test_a_day_configured_late_meets_the_phases_it_missed():
    desk = Desk(phase=None)
    desk.tick(250)
    desk.configure(config(schedule=DAY, business_date="2026-11-24"))
    assert desk.engine.phase() is Phase.OPEN
    assert desk.engine.next_due_ns(250) == 300


def test_commands_of_an_older_epoch_or_revision_are_void():
    desk = Desk(schedule=DAY)
    before = desk.engine.state_hash()
    assert desk.engine.epoch == 1
    for void in (
        c.Tick(epoch=0, at_ns=1000),
        c.ConfigureSession(epoch=0, revision=9, config=config()),
        c.ConfigureSession(epoch=1, revision=1, config=config(reference="50.00")),
        c.HandOver(epoch=0, next_version=2),
        c.TakeOver(owner="other", engine_version=ENGINE_VERSION + 1),
        c.LogStart(log_id="another"),
        c.Uncross(ticker="PETR4"),
        c.BustTrade(trade_id="none"),
        c.Redrive(ticker="PETR4"),
        c.IndexLevel(number=0, value_hundredths=1, previous_close_hundredths=1),
        c.Trip(day="2026-11-22", level=1),
        c.Trip(day="2026-11-23", level=4),
    ):
        events = desk.do(void)
        assert [type(x) for x in events] == [e.CommandIgnored], void
    assert desk.engine.state_hash() == before
    assert (desk.engine.owner, desk.engine.log_id) == ("desk", "test")


def test_the_later_takeover_owns_and_a_handover_lets_only_the_next_version_in():
    desk = Desk()
    hashed = desk.engine.state_hash()
    events = desk.do(c.TakeOver(owner="second", engine_version=ENGINE_VERSION))
    epoch = len(desk.log) - 1
    assert events == [e.OwnerChanged(owner="second", epoch=epoch, engine_version=ENGINE_VERSION)]
    following = ENGINE_VERSION + 1
    assert desk.do(c.HandOver(epoch=epoch, next_version=following)) == [e.HandedOver(next_version=following)]
    assert isinstance(desk.do(c.TakeOver(owner="third", engine_version=ENGINE_VERSION))[0], e.CommandIgnored)
    assert isinstance(desk.do(c.TakeOver(owner="third", engine_version=following))[0], e.OwnerChanged)
    assert desk.engine.state_hash() == hashed, "owner and epoch are not in the hash"


def test_a_disconnect_takes_day_orders_and_is_void_after_a_later_logon():
    desk = Desk()
    desk.do(c.Logon(participant="P1"))
    logon = len(desk.log) - 1
    play(
        desk,
        """
        buy b1 100 @ 30.00                     -> rests 100
        buy b2 100 @ 29.00 gtc                 -> rests 100
        buy b3 100 @ 28.00 participant=P2      -> rests 100
        """,
    )
    desk.do(c.Logon(participant="P1"))
    assert isinstance(desk.do(c.Disconnect(participant="P1", logon_offset=logon))[0], e.CommandIgnored)
    desk.do(c.Disconnect(participant="P1", logon_offset=len(desk.log) - 2))
    play(
        desk,
        """
        book                                   -> buy b2 100 @ 29.00; buy b3 100 @ 28.00
        buy b4 100 @ 30.00                     -> not_logged_on
        """,
    )
    desk.do(c.Logon(participant="P1"))
    play(desk, "buy b5 100 @ 30.00 -> rests 100")


def test_a_bust_is_a_new_event_for_both_sides_and_happens_once():
    desk = Desk()
    desk.place("buy", "b1", 100, "30.00")
    trade = next(x for x in desk.place("sell", "s1", 100, "30.00") if isinstance(x, e.TradeExecuted))
    (busted,) = desk.do(c.BustTrade(trade_id=trade.trade_id))
    assert isinstance(busted, e.TradeBusted)
    assert (busted.buy.order_id, busted.sell.order_id, busted.quantity_shares) == ("b1", "s1", 100)
    assert {busted.buy.report_number, busted.sell.report_number} == {5, 6}
    assert isinstance(desk.do(c.BustTrade(trade_id=trade.trade_id))[0], e.CommandIgnored)
    assert desk.engine.book("PETR4").trades == 0


def test_fractional_books_trade_up_to_99_single_shares():
    fractional = c.InstrumentConfig(
        ticker="PETR4F", asset="PETR4", lot_shares=1, quantity_max_shares=99, reference_price_ticks=3000
    )
    desk = Desk(rules=Rules(), instruments=(fractional,))
    assert isinstance(desk.do(order("buy", "b1", 99, "30.00", ticker="PETR4F"))[0], e.OrderAccepted)
    assert isinstance(desk.do(order("buy", "b2", 100, "30.00", ticker="PETR4F"))[0], e.OrderRejected)
