"""A participant's orders follow the door's reports; what is lost is noticed, what is heard twice is not."""

from __future__ import annotations

from typing import Any

from mybroker.contracts.door import DoorHeartbeat, ExecutionReport, LastNumber, RefusedAtDoor
from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from services.b3_participants.own_orders import ANSWER_NS, Order, OwnOrders


def report(number: int, kind: str, order_id: str = "o1", **facts: Any) -> ExecutionReport:
    return ExecutionReport(
        session_key="local.pregao",
        market="equities",
        shard=0,
        log_id="log",
        number=number,
        seq=number,
        offset=number,
        at_ns=0,
        kind=kind,
        participant="NOISE1",
        account="NOISE1",
        order_id=order_id,
        revision=1,
        ticker="PETR4",
        side=Side.BUY,
        **facts,
    )


def beat(number: int) -> DoorHeartbeat:
    last = LastNumber(market="equities", shard=0, log_id="log", number=number)
    return DoorHeartbeat(session_key="local.pregao", at_wall_ns=0, last_numbers=(last,))


def with_an_order(asked_at_ns: int | None = 0) -> OwnOrders:
    own = OwnOrders()
    own.orders["o1"] = Order(
        order_id="o1", ticker="PETR4", side=Side.BUY, price_ticks=3800, quantity_shares=500, asked_at_ns=asked_at_ns
    )
    return own


def fill(number: int, shares: int, cum: int) -> ExecutionReport:
    return report(number, "trade", quantity_shares=shares, cum_shares=cum, leaves_shares=500 - cum, price_ticks=3800)


def test_an_order_lives_from_acceptance_to_its_last_fill() -> None:
    own = with_an_order()
    assert own.holding("PETR4").underway == 1

    own.hear(report(1, "accepted", quantity_shares=500))
    own.hear(fill(2, 200, 200))
    (order,) = own.holding("PETR4").orders
    assert (order.cum_shares, order.leaves_shares) == (200, 300)
    own.hear(fill(3, 300, 500))

    assert own.orders == {}
    assert own.holding("PETR4").position_shares == 500
    assert own.trades == 2


def test_a_report_heard_twice_counts_once() -> None:
    own = with_an_order()
    for one in (report(1, "accepted"), fill(2, 200, 200), fill(2, 200, 200), report(1, "accepted")):
        own.hear(one)

    assert (own.trades, own.positions_shares["PETR4"], own.lost) == (1, 200, False)


def test_a_gap_in_the_numbers_means_that_something_was_lost() -> None:
    own = with_an_order()
    own.hear(report(1, "accepted"))
    own.hear(fill(3, 200, 200))
    assert own.lost

    own.forget()
    assert (own.lost, own.orders) == (False, {})


def test_a_new_log_begins_its_numbers_again() -> None:
    own = with_an_order()
    own.hear(report(7, "accepted"))
    other = ExecutionReport(
        **{name: getattr(report(1, "expired"), name) for name in ExecutionReport.__slots__} | {"log_id": "new"}
    )
    own.hear(other)
    assert (own.lost, own.orders) == (False, {})


def test_heartbeats_that_stay_ahead_mean_that_the_last_report_was_lost() -> None:
    own = with_an_order()
    own.hear(beat(5))
    own.hear(report(5, "accepted"))
    for _ in range(2):
        own.hear(beat(6))
        assert not own.lost
    own.hear(beat(6))
    assert own.lost


def test_a_heartbeat_that_is_caught_up_with_is_no_loss() -> None:
    own = with_an_order()
    own.hear(report(5, "accepted"))
    for number in range(6, 12):
        own.hear(beat(number))
        own.hear(report(number, "restated"))
    assert not own.lost


def test_a_question_without_an_answer_means_that_something_was_lost() -> None:
    own = with_an_order(asked_at_ns=0)
    assert own.underway(ANSWER_NS) == 1
    assert not own.lost
    own.underway(ANSWER_NS + 1)
    assert own.lost


def test_a_refused_order_is_gone_and_a_refused_replace_leaves_it() -> None:
    def refused(revision: int) -> RefusedAtDoor:
        return RefusedAtDoor(message_id="m", order_id="o1", revision=revision, reason=RejectReason.THROTTLED)

    own = with_an_order()
    own.hear(refused(1))
    assert own.orders == {}

    own = with_an_order()
    own.orders["o1"].revision = 2
    own.hear(refused(2))
    assert own.orders["o1"].asked_at_ns is None


def test_a_cancel_that_came_too_late_ends_the_order() -> None:
    own = with_an_order()
    own.hear(report(1, "cancel_rejected", reason="too_late"))
    assert own.orders == {}


def test_a_locked_order_stays() -> None:
    own = with_an_order()
    own.hear(report(1, "cancel_rejected", reason="locked_in_auction"))
    assert own.orders["o1"].asked_at_ns is None
    assert own.refusals == {"locked_in_auction": 1}


def test_a_replace_gives_the_new_totals() -> None:
    own = with_an_order()
    own.hear(report(1, "replaced", price_ticks=3810, quantity_shares=700, cum_shares=100, leaves_shares=600))
    order = own.orders["o1"]
    assert (order.price_ticks, order.leaves_shares) == (3810, 600)


def test_not_being_logged_on_is_noticed() -> None:
    own = with_an_order()
    own.hear(report(1, "rejected", reason="not_logged_on"))
    assert own.logged_off
