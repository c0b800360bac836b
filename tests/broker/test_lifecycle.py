"""An order's states, built from facts that only grow: a table of lives, then any order of duplicates."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mybroker.contracts import broker_events as ev
from mybroker.contracts.commands import CancelOrder, PlaceOrder, ReplaceOrder
from mybroker.contracts.door import DoorHeartbeat, ExecutionReport, LastNumber
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.refusal import RejectReason
from services.broker_orders.blotter import AccountRow, Blotter
from services.broker_orders.lifecycle import Order, Pending, Status, after_report, settled, status_of
from services.broker_orders.operations import (
    AskCancel,
    AskReplace,
    DropReplace,
    Heard,
    Overdue,
    Refuse,
    Route,
    RouteReplace,
    TurnedAway,
    WalletHeard,
)
from services.broker_orders.report_sequence import ReportSequence


def order(**facts: object) -> Order:
    new = Order(
        order_id="o1",
        account="ana",
        client_order_id="c1",
        content="",
        session_key="local.day",
        ticker="PETR4",
        side=Side.BUY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        quantity_shares=300,
        price_ticks=3000,
        protection_price_ticks=None,
        hold_price_ticks=3000,
        created_at_ns=1,
        updated_at_ns=1,
    )
    return settled(replace(new, **facts), wall_ns=1)  # type: ignore[arg-type]  # facts by name


def report(words: str, number: int = 1) -> ExecutionReport:
    """Read `trade quantity 100 cum 100 id t1`, `replaced 2 quantity 200`, `rejected why market_closed`."""
    kind, *rest = words.split()
    facts = dict(zip(rest[::2], rest[1::2], strict=True)) if len(rest) % 2 == 0 else {}
    if len(rest) % 2:
        facts = {"revision": rest[0]} | dict(zip(rest[1::2], rest[2::2], strict=True))
    return ExecutionReport(
        session_key="local.day",
        market="equities",
        shard=0,
        log_id="l",
        number=number,
        seq=number,
        offset=number,
        at_ns=number,
        kind=kind,
        participant="MYBROKER",
        account="ana",
        order_id="o1",
        revision=int(facts.get("revision", 1)),
        ticker="PETR4",
        side=Side.BUY,
        price_ticks=int(facts["price"]) if "price" in facts else None,
        quantity_shares=int(facts["quantity"]) if "quantity" in facts else None,
        cum_shares=int(facts["cum"]) if "cum" in facts else None,
        trade_id=facts.get("id"),
        reason=facts.get("why"),
    )


def live(reports: list[ExecutionReport], start: Order) -> Order:
    now, trades = start, set()
    for said in reports:
        now = after_report(now, said, trade_known=said.trade_id in trades, wall_ns=2).order
        if said.trade_id is not None:
            trades.add(said.trade_id)
    return now


ROUTED = order(routed=True)
CANCELLING = order(routed=True, last_revision=2, pending=Pending.CANCEL, pending_revision=2, pending_routed=True)
REPLACING = order(routed=True, last_revision=2, pending=Pending.REPLACE, pending_revision=2, pending_routed=True)

LIVES: list[tuple[str, Order, list[str], str, int]] = [
    ("nothing heard", ROUTED, [], "pending_new", 0),
    ("accepted", ROUTED, ["accepted"], "new", 0),
    ("part", ROUTED, ["accepted", "trade quantity 100 cum 100 price 2990 id t1"], "partially_filled", 100),
    (
        "whole",
        ROUTED,
        ["accepted", "trade quantity 100 cum 100 price 1 id t1", "trade quantity 200 cum 300 price 1 id t2"],
        "filled",
        300,
    ),
    ("rejected", ROUTED, ["rejected why market_closed"], "rejected", 0),
    (
        "expired",
        ROUTED,
        ["accepted", "trade quantity 100 cum 100 price 1 id t1", "expired quantity 200 cum 100"],
        "expired",
        100,
    ),
    ("ioc", ROUTED, ["accepted", "cancelled quantity 300 cum 0 why ioc_remainder"], "canceled", 0),
    ("cancel", CANCELLING, ["accepted", "cancelled 2 quantity 300 cum 0 why user"], "canceled", 0),
    (
        "cancel not answered",
        CANCELLING,
        ["accepted", "trade 1 quantity 100 cum 100 price 1 id t1"],
        "pending_cancel",
        100,
    ),
    ("cancel refused", CANCELLING, ["accepted", "cancel_rejected 2 why locked_in_auction"], "new", 0),
    (
        "cancel too late",
        CANCELLING,
        ["accepted", "trade quantity 300 cum 300 price 1 id t1", "cancel_rejected 2 why too_late"],
        "filled",
        300,
    ),
    ("barred", CANCELLING, ["cancel_rejected 2 why unknown_order"], "rejected", 0),
    ("replaced", REPLACING, ["accepted", "replaced 2 quantity 200 price 2900 cum 0"], "new", 0),
    (
        "replaced and full",
        REPLACING,
        [
            "accepted",
            "trade quantity 100 cum 100 price 1 id t1",
            "replaced 2 quantity 200 price 2900 cum 100",
            "trade 2 quantity 100 cum 200 price 1 id t2",
        ],
        "filled",
        200,
    ),
    ("replace refused", REPLACING, ["accepted", "replace_rejected 2 why price_outside_rejection_band"], "new", 0),
    ("replace barred", REPLACING, ["replace_rejected 2 why unknown_order"], "rejected", 0),
]


@pytest.mark.parametrize(("name", "start", "said", "status", "cum"), LIVES, ids=[life[0] for life in LIVES])
def test_each_life_ends_where_it_should(name: str, start: Order, said: list[str], status: str, cum: int):
    end = live([report(words, number) for number, words in enumerate(said, 1)], start)
    assert (end.status, end.cum_shares) == (status, cum)


@pytest.mark.parametrize(("name", "start", "said", "status", "cum"), LIVES, ids=[life[0] for life in LIVES])
def test_any_order_of_duplicates_ends_in_the_same_state(
    name: str, start: Order, said: list[str], status: str, cum: int
):
    reports = [report(words, number) for number, words in enumerate(said, 1)]
    expected = live(reports, start)
    for seed in range(200):
        dice = random.Random(seed)
        course = reports + [dice.choice(reports) for _ in range(dice.randrange(4)) if reports]
        dice.shuffle(course)
        assert live(course, start) == expected, f"seed {seed}: {[said.kind for said in course]}"


def test_a_replace_keeps_the_worst_price_that_is_in_force():
    end = live([report("accepted"), report("replaced 2 quantity 200 price 2900 cum 0", 2)], REPLACING)
    assert (end.quantity_shares, end.price_ticks, end.hold_price_ticks, end.terms_revision) == (200, 2900, 2900, 2)
    assert end.pending is None


def blotter(*orders: Order) -> Blotter:
    accounts = {order.account: AccountRow(last_seq=0, orders_open=0) for order in orders}
    return Blotter(orders={order.order_id: order for order in orders}, accounts=accounts, wall_ns=5)


def test_routing_sends_once_and_only_what_is_received():
    desk = blotter(order())
    first, again = desk.decide(Route(order_id="o1", at_ns=2)), desk.decide(Route(order_id="o1", at_ns=3))
    assert (first.changed, again.changed) == (True, False)
    ((_, command),) = desk.commands
    assert isinstance(command, PlaceOrder)
    assert [notice.kind for notice in desk.notices] == ["routed"]


def test_an_order_the_reconciler_gave_up_is_never_routed():
    desk = blotter(order(waiting_since_ns=1))
    gave_up = desk.decide(Overdue(order_id="o1", waiting_since_ns=1, at_ns=2))
    assert gave_up.order is not None
    assert (gave_up.order.status, gave_up.order.reason) == (Status.REJECTED, "in_doubt_cancelled")
    assert desk.decide(Route(order_id="o1", at_ns=3)).order == gave_up.order
    assert desk.commands == []
    assert [type(event) for event in desk.events] == [ev.OrderClosed]


def test_an_order_that_was_sent_is_ended_only_by_the_exchange():
    desk = blotter(order(routed=True))
    for said in (
        TurnedAway(order_id="o1", revision=1, reason=RejectReason.THROTTLED, at_ns=2),
        Refuse(order_id="o1", reason=RejectReason.WALLET_UNAVAILABLE, at_ns=2),
    ):
        found = desk.decide(said).order
        assert found is not None
        assert not found.done
    ((_, command),) = desk.commands
    assert isinstance(command, CancelOrder)
    assert command.revision == 2
    ended = desk.decide(Heard(report=report("cancel_rejected 2 why unknown_order"))).order
    assert ended is not None
    assert (ended.status, ended.reason) == (Status.REJECTED, "throttled")


def test_a_cancel_asked_twice_is_one_command_and_after_the_end_it_is_too_late():
    desk = blotter(order(routed=True, accepted=True))
    for _ in range(2):
        assert desk.decide(AskCancel(order_id="o1", account="ana", at_ns=2)).refusal is None
    assert len(desk.commands) == 1
    desk.decide(Heard(report=report("cancelled 2 quantity 300 cum 0 why user")))
    assert desk.decide(AskCancel(order_id="o1", account="ana", at_ns=3)).refusal is RejectReason.TOO_LATE
    assert desk.decide(AskCancel(order_id="o1", account="bia", at_ns=3)).refusal is RejectReason.UNKNOWN_ORDER


def test_a_replace_goes_out_only_after_it_is_held_for_and_another_waits_for_its_answer():
    desk = blotter(order(routed=True, accepted=True))
    ask = AskReplace(order_id="o1", account="ana", quantity_shares=400, price_ticks=None, at_ns=2)
    assert desk.decide(ask).refusal is None
    assert desk.commands == []
    other = AskReplace(order_id="o1", account="ana", quantity_shares=500, price_ticks=None, at_ns=2)
    assert desk.decide(other).refusal is RejectReason.REPLACE_PENDING
    again = desk.decide(ask)
    assert again.refusal is None
    assert again.order is not None
    assert again.order.pending_revision == 2, "a repeat goes on from what is reserved, with no revision of its own"
    desk.decide(RouteReplace(order_id="o1", revision=2, at_ns=3))
    assert desk.decide(ask).refusal is RejectReason.REPLACE_PENDING, "sent: its answer is awaited"
    ((_, command),) = desk.commands
    assert isinstance(command, ReplaceOrder)
    assert (command.quantity_shares, command.revision) == (400, 2)


def test_a_replace_that_is_dropped_tells_the_wallet_and_is_never_sent():
    desk = blotter(order(routed=True, accepted=True))
    desk.decide(AskReplace(order_id="o1", account="ana", quantity_shares=400, price_ticks=None, at_ns=2))
    desk.decide(DropReplace(order_id="o1", revision=2, reason="insufficient_funds", at_ns=3))
    desk.decide(RouteReplace(order_id="o1", revision=2, at_ns=4))
    assert desk.commands == []
    (event,) = desk.events
    assert isinstance(event, ev.OrderReplaceRefused)
    assert event.head.revision == 2


def test_a_cancel_that_is_not_answered_is_sent_again_under_the_same_revision():
    desk = blotter(order(routed=True, waiting_since_ns=1))
    desk.decide(Overdue(order_id="o1", waiting_since_ns=1, at_ns=2))
    waiting = desk.orders["o1"].waiting_since_ns
    assert waiting is not None
    desk.decide(Overdue(order_id="o1", waiting_since_ns=waiting, at_ns=3))
    desk.decide(Overdue(order_id="o1", waiting_since_ns=999, at_ns=4))
    assert [command.revision for _, command in desk.commands] == [2, 2]


def test_private_events_are_numbered_without_a_gap_and_a_wallet_event_joins_once():
    desk = blotter(order())
    event = ev.WalletEvent(
        event_id="e1", account="ana", kind="held", at_ns=1, asset="BRL", amount=1, debt=0,
        order_id="o1", revision=1, trade_id=None, balances=(),
    )  # fmt: skip
    desk.decide(WalletHeard(event=event))
    desk.decide(Route(order_id="o1", at_ns=2))
    desk.decide(WalletHeard(event=event))
    for number, words in enumerate(["accepted", "trade quantity 300 cum 300 price 1 id t1"], 1):
        desk.decide(Heard(report=report(words, number)))
    desk.decide(Heard(report=report("trade quantity 300 cum 300 price 1 id t1", 2)))
    assert [notice.seq for notice in desk.notices] == [1, 2, 3, 4]
    assert [notice.kind for notice in desk.notices] == ["wallet", "routed", "acknowledged", "trade"]
    assert desk.accounts["ana"].orders_open == 0
    assert [type(e).__name__ for e in desk.events] == ["OrderRouted", "OrderAcknowledged", "OrderTraded", "OrderClosed"]
    assert len(desk.fills) == 1
    assert status_of(desk.orders["o1"]) is Status.FILLED


# ---------------------------------------------------------------- report numbers


@settings(max_examples=300, deadline=None)
@given(numbers=st.lists(st.integers(1, 30), max_size=80))
def test_numbers_come_out_once_in_order_and_a_resend_fills_every_gap(numbers: list[int]):
    sequence = ReportSequence({})
    out: list[int] = []
    for number in numbers:
        out += [due.number for due in sequence.offer(report("accepted", number))]
    assert out == list(range(1, len(out) + 1))
    top = max(numbers, default=0)
    for missing in list(sequence.missing(10**12)):
        for number in range(missing.from_number, top + 1):
            out += [due.number for due in sequence.offer(report("accepted", number))]
    assert out == list(range(1, top + 1))
    assert list(sequence.missing(10**13)) == []


def test_a_heartbeat_shows_a_lost_last_report_and_it_is_not_asked_for_too_often():
    key = ("local.day", "equities", 0, "l")
    sequence = ReportSequence({key: 4})
    told = LastNumber(market="equities", shard=0, log_id="l", number=5)
    sequence.hear(DoorHeartbeat(session_key="local.day", at_wall_ns=0, last_numbers=(told,)))
    asked = [len(list(sequence.missing(at_ms * 1_000_000))) for at_ms in (10_000, 10_500, 11_000)]
    assert asked == [1, 0, 1]
    assert [due.number for due in sequence.offer(report("accepted", 5))] == [5]
    assert sequence.last_numbers() == {key: 5}
