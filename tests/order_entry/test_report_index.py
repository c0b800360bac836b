"""The door's memory of who was told what: numbers to frames, and the orders that live."""

from __future__ import annotations

import pytest

from mybroker.contracts.door import ExecutionReport
from mybroker.domain.order import Side
from services.b3_order_entry.report_index import ReportIndex


def report(number, kind, order_id="o1", *, seq=None, participant="MYBROKER", **facts):
    return ExecutionReport(
        session_key="local.pregao",
        market="equities",
        shard=0,
        log_id="log",
        number=number,
        seq=seq if seq is not None else number * 10,
        offset=0,
        at_ns=0,
        kind=kind,
        participant=participant,
        account="A",
        order_id=order_id,
        revision=1,
        **facts,
    )


ACCEPTED = {"ticker": "PETR4", "side": Side.BUY, "price_ticks": 3000, "quantity_shares": 300, "leaves_shares": 300}


def an_index(*reports):
    index = ReportIndex("local.pregao", "equities", 0)
    index.reset("log")
    index.note(reports)
    return index


def test_numbers_lead_back_to_their_frames_for_each_participant():
    index = an_index(
        report(1, "accepted", seq=4, **ACCEPTED),
        report(1, "accepted", "m1", seq=5, participant="MM1", **ACCEPTED),
        report(2, "trade", seq=5, cum_shares=100, leaves_shares=200),
    )

    assert (index.seq_of("MYBROKER", 1), index.seq_of("MYBROKER", 2), index.seq_of("MM1", 1)) == (4, 5, 5)
    assert index.seq_of("MYBROKER", 3) is None
    assert index.seq_of("MYBROKER", 0) is None
    assert index.seq_of("NT1", 1) is None
    assert index.last_number("MYBROKER").number == 2
    assert index.last_number("NT1").number == 0


def test_a_number_out_of_line_is_a_bug_that_stops_the_door():
    index = an_index(report(1, "accepted", **ACCEPTED))
    with pytest.raises(AssertionError, match="expected report 2, was 3"):
        index.note([report(3, "trade", cum_shares=100, leaves_shares=200)])


@pytest.mark.parametrize(
    ("what", "reports", "expected"),
    [
        ("a fill leaves the rest", [("trade", {"cum_shares": 100, "leaves_shares": 200})], (3000, 100, 200)),
        ("a filled order is gone", [("trade", {"cum_shares": 300, "leaves_shares": 0})], None),
        ("a cancelled order is gone", [("cancelled", {"leaves_shares": 0, "cum_shares": 0})], None),
        (
            "a replace moves price and rest",
            [("replaced", {"price_ticks": 3001, "cum_shares": 0, "leaves_shares": 500})],
            (3001, 0, 500),
        ),
        (
            "a trade's price is not the order's",
            [("trade", {"price_ticks": 2990, "cum_shares": 100, "leaves_shares": 200})],
            (3000, 100, 200),
        ),
        ("a refused cancel changes nothing", [("cancel_rejected", {"reason": "too_late"})], (3000, 0, 300)),
    ],
)
def test_live_orders_follow_the_reports(what, reports, expected):
    index = an_index(report(1, "accepted", **ACCEPTED))
    index.note([report(number, kind, **facts) for number, (kind, facts) in enumerate(reports, start=2)])

    live = index.live_orders("MYBROKER")
    assert [(o.price_ticks, o.cum_shares, o.leaves_shares) for o in live] == ([expected] if expected else []), what
    assert index.live_orders("MYBROKER", "VALE3") == ()


def test_a_new_log_forgets_the_old_one():
    index = an_index(report(1, "accepted", **ACCEPTED))
    index.reset("another")

    assert index.last_number("MYBROKER").number == 0
    assert index.last_number("MYBROKER").log_id == "another"
    assert index.live_orders("MYBROKER") == ()
