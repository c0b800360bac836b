"""New orders against the checks, in the order of precedence: the first that fails is the answer."""

from dataclasses import replace as with_
from typing import Any

import pytest

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.http_broker import NewOrderBody
from mybroker.contracts.problems import PROBLEMS, status_of
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason as R
from services.broker_orders.admission import (
    ORDERS_OPEN_MAX,
    Prices,
    TickerState,
    admit,
    admit_terms,
    find_session,
    read_shape,
    rejection_band,
)
from tests.broker.stand_ins import directory_entry

OPEN = TickerState(phase=Phase.OPEN, centre_ticks=3000)


def body(**fields: Any) -> NewOrderBody:
    return NewOrderBody(**{"ticker": "PETR4", "side": Side.BUY, "quantity": 100, "price": "30.00", **fields})


def answer(order: NewOrderBody, state: TickerState | None = OPEN, orders_open: int = 0) -> Prices | R:
    shape = read_shape(order)
    if isinstance(shape, R):
        return shape
    instrument = shipped_catalogue().find(order.ticker)
    return admit(order, shape, instrument=instrument, state=state, orders_open=orders_open)


# Each row is wrong in its own way and in every way below it that can be combined: what is said first wins.
LADDER: list[tuple[R, dict[str, Any]]] = [
    (R.MALFORMED, {"client_order_id": "x" * 49, "price": "abc"}),
    (R.PRICE_MALFORMED, {"price": "abc", "quantity": 0}),
    (R.PRICE_NOT_ON_TICK, {"price": "30.005", "quantity": 0}),
    (R.PRICE_NOT_POSITIVE, {"price": "0", "quantity": 0}),
    (R.PRICE_ABOVE_MAXIMUM, {"price": "99999999999", "quantity": 0}),
    (R.PRICE_REQUIRED, {"price": None, "quantity": 0}),
    (R.PRICE_NOT_ALLOWED, {"type": OrderType.MARKET, "quantity": 0}),
    (R.STOP_PRICE_REQUIRED, {"type": OrderType.STOP_LIMIT, "quantity": 0}),
    (R.STOP_PRICE_NOT_ALLOWED, {"stop_price": "29.00", "quantity": 0}),
    (R.QUANTITY_NOT_POSITIVE, {"quantity": 0, "time_in_force": TimeInForce.GTD}),
    (
        R.ORDER_TYPE_NOT_SUPPORTED,
        {"type": OrderType.STOP_LIMIT, "stop_price": "29.00", "time_in_force": TimeInForce.GTD},
    ),
    (R.TIME_IN_FORCE_NOT_SUPPORTED, {"time_in_force": TimeInForce.GTD, "quantity": 150}),
    (R.QUANTITY_NOT_MULTIPLE_OF_LOT, {"quantity": 10_000_050, "price": "99.00"}),
    (R.QUANTITY_ABOVE_MAXIMUM, {"quantity": 10_000_100, "price": "99.00"}),
    (R.PRICE_OUTSIDE_REJECTION_BAND, {"price": "36.01"}),
    (R.ORDER_LIMIT_EXCEEDED, {}),
]


@pytest.mark.parametrize(("reason", "fields"), LADDER, ids=[reason.value for reason, _ in LADDER])
def test_the_first_check_that_fails_is_the_answer(reason: R, fields: dict[str, Any]):
    assert answer(body(**fields), orders_open=ORDERS_OPEN_MAX) is reason


def test_the_table_above_stands_in_the_order_of_precedence():
    order = list(R)
    places = [order.index(reason) for reason, _ in LADDER]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("phase", "tif", "reason"),
    [
        (Phase.CLOSED, "day", R.MARKET_CLOSED),
        (Phase.HALTED, "day", R.INSTRUMENT_HALTED),
        (Phase.CANCEL_ONLY, "day", R.CANCEL_ONLY),
        (Phase.PRE_OPEN, "ioc", R.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE),
        (Phase.CLOSING_CALL, "fok", R.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE),
        (Phase.PRE_OPEN, "day", None),
        (Phase.OPEN, "ioc", None),
    ],
)
def test_each_phase_takes_what_it_takes(phase: Phase, tif: str, reason: R | None):
    found = answer(body(time_in_force=TimeInForce(tif)), with_(OPEN, phase=phase))
    assert (found if isinstance(found, R) else None) is reason


@pytest.mark.parametrize(
    ("fields", "state", "prices"),
    [
        ({}, OPEN, (3000, None, 3000)),
        ({"side": Side.SELL}, OPEN, (3000, None, None)),
        ({"type": OrderType.MARKET, "price": None}, OPEN, (None, 3600, 3600)),
        ({"type": OrderType.MARKET, "price": None, "side": Side.SELL}, OPEN, (None, None, None)),
        ({}, None, (3000, None, 3000)),
    ],
)
def test_a_buy_holds_its_worst_price(fields: dict[str, Any], state: TickerState | None, prices: tuple[int | None, ...]):
    found = answer(body(**fields), state)
    assert isinstance(found, Prices)
    assert (found.price_ticks, found.protection_price_ticks, found.hold_price_ticks) == prices


def test_a_market_buy_without_a_known_price_cannot_be_held_for():
    assert answer(body(type=OrderType.MARKET, price=None), None) is R.EXCHANGE_UNAVAILABLE


def test_bands_round_inwards():
    assert rejection_band(None, with_(OPEN, centre_ticks=1003)) == (803, 1203)


def test_a_fractional_book_takes_single_shares_up_to_99():
    assert isinstance(answer(body(ticker="PETR4F", quantity=99)), Prices)
    assert answer(body(ticker="PETR4F", quantity=100)) is R.QUANTITY_ABOVE_MAXIMUM


def test_other_terms_are_checked_like_new_ones():
    instrument = shipped_catalogue().find("PETR4")
    assert admit_terms(100, 3600, instrument=instrument, state=OPEN) is None
    assert admit_terms(150, None, instrument=instrument, state=OPEN) is R.QUANTITY_NOT_MULTIPLE_OF_LOT
    assert admit_terms(100, 3601, instrument=instrument, state=OPEN) is R.PRICE_OUTSIDE_REJECTION_BAND
    assert admit_terms(100, 3000, instrument=instrument, state=with_(OPEN, phase=Phase.CLOSED)) is R.MARKET_CLOSED


def test_the_only_session_is_meant_and_among_several_one_must_be_named():
    day = directory_entry()
    night = with_(day, session="night")

    def found(entries: tuple[DirectoryEntry, ...], session: str | None, ticker: str = "PETR4") -> object:
        chosen = find_session(entries, ticker=ticker, session=session)
        return chosen if isinstance(chosen, R) else chosen.session

    assert found((day,), None) == "day"
    assert found((day, night), None) is R.SESSION_AMBIGUOUS
    assert found((day, night), "night") == "night"
    assert found((day, night), "local.day") == "day"
    assert found((day,), "other") is R.UNKNOWN_SESSION
    assert found((day,), None, "XXXX3") is R.UNKNOWN_INSTRUMENT
    assert found((day,), "day", "XXXX3") is R.UNKNOWN_INSTRUMENT
    assert found((), None) is R.MARKET_CLOSED


def test_only_malformed_payloads_are_422_and_every_refusal_has_a_status():
    assert set(PROBLEMS) == set(R)
    assert {reason for reason in R if status_of(reason) == 422} == {R.MALFORMED, R.PRICE_MALFORMED}
