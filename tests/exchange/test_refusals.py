"""Refusals: one table in the order of precedence; an order that fails two checks gets the first one's reason."""

from __future__ import annotations

from typing import Any

import pytest

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.money import PRICE_TICKS_MAX
from mybroker.domain.order import OrderType, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason as R
from mybroker.domain.rules import Rules
from tests.exchange.desk import Desk, check_book, order

B3_RULES = Rules(orders_live_max=3)
A_STOP = {"type": OrderType.STOP, "stop_price_ticks": 3010, "price_ticks": None}
IN_PRE_OPEN = {"phase": Phase.PRE_OPEN}

# (reason, what is wrong with an order that is right otherwise, where). From top to bottom: precedence.
REFUSALS: list[tuple[R, dict[str, Any], dict[str, Any]]] = [
    (R.PRICE_NOT_POSITIVE, {"price_ticks": 0}, {}),
    (R.PRICE_NOT_POSITIVE, {"price_ticks": -1}, {}),
    (R.PRICE_NOT_POSITIVE, {"protection_price_ticks": 0}, {}),
    (R.PRICE_ABOVE_MAXIMUM, {"price_ticks": PRICE_TICKS_MAX + 1}, {}),
    (R.PRICE_REQUIRED, {"price_ticks": None}, {}),
    (R.PRICE_NOT_ALLOWED, {"type": OrderType.MARKET}, {}),
    (R.STOP_PRICE_REQUIRED, {"type": OrderType.STOP_LIMIT}, {}),
    (R.STOP_PRICE_NOT_ALLOWED, {"stop_price_ticks": 3000}, {}),
    (R.STOP_PRICE_WRONG_SIDE, {"type": OrderType.STOP_LIMIT, "stop_price_ticks": 3001}, {}),
    (R.STOP_PRICE_WRONG_SIDE, {**A_STOP, "stop_price_ticks": 3000}, {"last": 3000}),
    (R.EXPIRES_REQUIRED, {"time_in_force": TimeInForce.GTD}, {}),
    (R.EXPIRES_NOT_ALLOWED, {"expires": "2026-11-30"}, {}),
    (R.EXPIRES_IN_THE_PAST, {"time_in_force": TimeInForce.GTD, "expires": "2026-11-22"}, {}),
    (R.QUANTITY_NOT_POSITIVE, {"quantity_shares": 0}, {}),
    (R.QUANTITY_NOT_POSITIVE, {"quantity_shares": -100}, {}),
    (R.DISPLAY_QUANTITY_INVALID, {"display_quantity_shares": 0}, {}),
    (R.DISPLAY_QUANTITY_INVALID, {"display_quantity_shares": 200}, {}),
    (R.DISPLAY_QUANTITY_INVALID, {"display_quantity_shares": 50}, {}),
    (R.MIN_QUANTITY_INVALID, {"min_quantity_shares": 101}, {}),
    (R.MIN_QUANTITY_INVALID, {"min_quantity_shares": 100, **A_STOP}, {}),
    (R.TIME_IN_FORCE_NOT_SUPPORTED, {**A_STOP, "time_in_force": TimeInForce.IOC}, {}),
    (R.TIME_IN_FORCE_NOT_SUPPORTED, {**A_STOP, "time_in_force": TimeInForce.AT_THE_CLOSE}, {}),
    (R.NOT_LOGGED_ON, {"participant": "GONE"}, {}),
    (R.UNKNOWN_INSTRUMENT, {"ticker": "VALE3"}, {}),
    (R.ID_BARRED, {"order_id": "barred"}, {}),
    (R.MARKET_CLOSED, {}, {"phase": Phase.CLOSED}),
    (R.INSTRUMENT_HALTED, {}, {"phase": Phase.HALTED}),
    (R.CANCEL_ONLY, {}, {"phase": Phase.CANCEL_ONLY}),
    (R.ORDER_TYPE_NOT_ALLOWED_IN_PHASE, {"min_quantity_shares": 100}, IN_PRE_OPEN),
    (R.ORDER_TYPE_NOT_ALLOWED_IN_PHASE, A_STOP, IN_PRE_OPEN),
    (R.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE, {"time_in_force": TimeInForce.IOC}, IN_PRE_OPEN),
    (R.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE, {"time_in_force": TimeInForce.FOK}, IN_PRE_OPEN),
    (R.QUANTITY_NOT_MULTIPLE_OF_LOT, {"quantity_shares": 150}, {}),
    (R.QUANTITY_ABOVE_MAXIMUM, {"quantity_shares": 20_000}, {}),
    (R.PRICE_OUTSIDE_REJECTION_BAND, {"price_ticks": 3601}, {}),
    (R.PRICE_OUTSIDE_REJECTION_BAND, {"price_ticks": 2399}, {}),
    (R.NO_OPPOSITE_PRICE, {"type": OrderType.MARKET, "price_ticks": None}, {}),
    (R.ORDER_LIMIT_EXCEEDED, {}, {"full": True}),
]


def _desk(phase: Phase = Phase.OPEN, full: bool = False, last: int | None = None) -> Desk:
    instrument = c.InstrumentConfig(
        ticker="PETR4",
        asset="PETR4",
        group="index",
        quantity_max_shares=10_000,
        reference_price_ticks=3000,
        last_price_ticks=last,
    )
    desk = Desk(rules=B3_RULES, instruments=(instrument,))
    desk.do(c.Logon(participant="GONE"))
    desk.do(c.Disconnect(participant="GONE", logon_offset=len(desk.log) - 1))
    desk.do(c.CancelOrder(participant="P1", order_id="barred"))
    for number in range(3 if full else 0):
        desk.place("buy", f"filler{number}", 100, "29.00")
    desk.do(c.SetPhase(phase=phase))
    return desk


def _answer(desk: Desk, wrong: dict[str, Any]) -> R | None:
    wish = {"participant": "P1", "order_id": "x", **wrong}
    events = desk.do(order("buy", wish.pop("order_id"), 100, "30.00", **wish))
    rejected = [event.reason for event in events if isinstance(event, e.OrderRejected)]
    return rejected[0] if rejected else None


@pytest.mark.parametrize(("reason", "wrong", "where"), REFUSALS)
def test_an_order_with_one_thing_wrong_is_refused_for_it(reason: R, wrong: dict[str, Any], where: dict[str, Any]):
    assert _answer(_desk(**where), wrong) is reason


def test_an_order_with_nothing_wrong_is_accepted():
    assert _answer(_desk(), {}) is None
    assert _answer(_desk(), {"price_ticks": 3600}) is None
    assert _answer(_desk(), {"price_ticks": 2400}) is None


def test_the_table_follows_the_order_of_the_closed_list():
    order_of = list(R)
    places = [order_of.index(reason) for reason, _, _ in REFUSALS]
    assert places == sorted(places)


def test_of_two_things_wrong_the_earlier_reason_is_the_answer():
    pairs = 0
    for first, (reason, wrong, where) in enumerate(REFUSALS):
        for later_reason, later_wrong, later_where in REFUSALS[first + 1 :]:
            if reason is later_reason or where.keys() & later_where.keys() or wrong.keys() & later_wrong.keys():
                continue
            both = {**later_wrong, **wrong}
            if later_reason is R.ID_BARRED or _changes_the_first_mistake(reason, later_wrong):
                continue  # whether an id may be used at all is settled before any check
            pairs += 1
            was = _answer(_desk(**where, **later_where), both)
            assert was is reason, f"{reason} before {later_reason}: was {was}"
    assert pairs > 150


def _changes_the_first_mistake(reason: R, later: dict[str, Any]) -> bool:
    """Say whether the second mistake would mend the first, or make an earlier one."""
    touches = {
        R.PRICE_REQUIRED: {"type"},
        R.PRICE_NOT_ALLOWED: {"price_ticks"},
        R.STOP_PRICE_REQUIRED: {"stop_price_ticks"},
        R.STOP_PRICE_NOT_ALLOWED: {"type"},
        R.STOP_PRICE_WRONG_SIDE: {"price_ticks", "ticker"},
        R.TIME_IN_FORCE_NOT_SUPPORTED: {"min_quantity_shares"},
        R.EXPIRES_REQUIRED: {"expires", "time_in_force"},
        R.EXPIRES_NOT_ALLOWED: {"time_in_force"},
        R.MIN_QUANTITY_INVALID: {"quantity_shares"},
        R.ID_BARRED: {"participant"},
        R.DISPLAY_QUANTITY_INVALID: {"quantity_shares", "ticker"},
    }
    if later.keys() & touches.get(reason, set()):
        return True
    # A market order without its price, or a stop, is wrong in shape already when it carries a price.
    return later.get("type") is not None and reason not in {R.PRICE_NOT_POSITIVE, R.PRICE_ABOVE_MAXIMUM}


def test_a_refused_order_changes_no_book_and_its_id_is_used_up():
    check_book(
        """
        buy b1 150 @ 30.00         -> quantity_not_multiple_of_lot
        buy b1 100 @ 30.00         -> duplicate
        book                       -> empty
        """,
        rules=Rules(),
    )


def test_replaces_are_refused_for_their_reasons():
    check_book(
        """
        buy b1 200 @ 30.00                     -> rests 200
        replace b1 - @ 40.00 rev=2             -> price_outside_rejection_band
        replace b1 150 @ - rev=3               -> quantity_not_multiple_of_lot
        replace b1 2000000000 @ - rev=4        -> quantity_above_maximum
        replace b1 0 @ - rev=5                 -> quantity_not_positive
        replace b1 - @ - ioc rev=6             -> time_in_force_not_supported
        replace b9 100 @ 30.00 rev=1           -> unknown_order
        replace b1 - @ 31.00 rev=7 participant=P2  -> unknown_order
        phase halted                           -> halted
        replace b1 - @ 30.01 rev=8             -> instrument_halted
        phase cancel_only                      -> cancel_only
        replace b1 - @ 30.01 rev=9             -> cancel_only
        phase open                             -> open
        book                                   -> buy b1 200 @ 30.00
        cancel b1 rev=10                       -> cancelled 200
        replace b1 - @ 30.01 rev=11            -> too_late
        """,
        rules=Rules(),
    )


def test_orders_that_only_shrink_may_stay_outside_a_band_that_moved():
    check_book(
        """
        buy b1 300 @ 24.00                     -> rests 300
        sell s1 100 @ 36.00                    -> rests 100
        phase auction PETR4                    -> PETR4 auction
        buy b2 100 @ 36.00                     -> theo 100 @ 36.00, rests 100
        uncross                                -> b2 x s1 100 @ 36.00, prints 100 @ 36.00, PETR4 open
        replace b1 200 @ - rev=2               -> kept place, rests 200
        replace b1 300 @ - rev=3               -> price_outside_rejection_band
        """,
        rules=Rules(),
    )


def test_the_rejection_band_follows_the_group_and_rounds_inwards():
    for group, price, inside in (("index", 3600, True), ("etf", 3601, False), ("nothing known", 3600, True)):
        instrument = c.InstrumentConfig(ticker="PETR4", asset="PETR4", group=group, reference_price_ticks=3000)
        desk = Desk(rules=Rules(), instruments=(instrument,))
        assert (_answer(desk, {"price_ticks": price}) is None) is inside
    instrument = c.InstrumentConfig(ticker="PETR4", asset="PETR4", reference_price_ticks=3)
    assert _answer(Desk(rules=Rules(), instruments=(instrument,)), {"price_ticks": 4}) is R.PRICE_OUTSIDE_REJECTION_BAND
    unknown = c.InstrumentConfig(ticker="PETR4", asset="PETR4")
    assert _answer(Desk(rules=Rules(), instruments=(unknown,)), {"price_ticks": 1}) is None
