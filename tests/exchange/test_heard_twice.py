"""Safe to hear twice: duplicates by participant, id and revision; barred ids; report numbers."""

from __future__ import annotations

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from tests.exchange.desk import Desk, check_book


def test_every_command_heard_twice_is_answered_once():
    check_book("""
        buy b1 300 @ 30.00 rev=1           -> rests 300
        buy b1 300 @ 30.00 rev=1           -> duplicate
        replace b1 200 @ - rev=2           -> kept place, rests 200
        replace b1 200 @ - rev=2           -> duplicate
        buy b1 300 @ 30.00 rev=1           -> duplicate
        cancel b1 rev=3                    -> cancelled 200
        cancel b1 rev=3                    -> duplicate
        replace b1 200 @ - rev=2           -> duplicate
        cancel b1 rev=4                    -> too_late
        cancel b1 rev=4                    -> duplicate
    """)


def test_unnumbered_commands_are_fresh_except_a_known_new_id():
    check_book("""
        buy b1 300 @ 30.00 rev=none        -> rests 300
        buy b1 100 @ 29.00 rev=none        -> duplicate
        replace b1 200 @ - rev=none        -> kept place, rests 200
        replace b1 200 @ - rev=none        -> kept place, rests 200
        cancel b1                          -> cancelled 200
        cancel b1                          -> too_late
        replace b2 100 @ - rev=none        -> unknown_order
        buy b2 100 @ 30.00 rev=none        -> rests 100
    """)


def test_a_cancel_of_an_unknown_id_bars_it_for_ever():
    check_book("""
        cancel b1 rev=2                    -> unknown_order
        buy b1 100 @ 30.00 rev=1           -> duplicate
        buy b1 100 @ 30.00 rev=2           -> id_barred
        buy b1 100 @ 30.00 rev=3           -> id_barred
        cancel b1 rev=3                    -> duplicate
        cancel b1 rev=4                    -> unknown_order
        cancel b2                          -> unknown_order
        buy b2 100 @ 30.00 rev=none        -> id_barred
        replace b3 100 @ 30.00 rev=2       -> unknown_order
        replace b3 100 @ 30.00 rev=2       -> duplicate
        buy b3 100 @ 30.00 rev=1           -> duplicate
        book                               -> empty
    """)


def test_another_participants_order_is_unknown():
    check_book("""
        buy b1 100 @ 30.00                         -> rests 100
        cancel b1 rev=2 participant=P2             -> unknown_order
        replace b1 200 @ - rev=2 participant=P3    -> unknown_order
        buy b1 100 @ 29.00 participant=P4          -> rests 100
        cancel b1 rev=2 participant=P4             -> cancelled 100
    """)


def test_the_same_id_with_a_later_revision_is_another_orders_id():
    check_book(
        """
        buy b1 100 @ 30.00 rev=1           -> rests 100
        buy b1 200 @ 30.00 rev=2           -> client_order_id_conflict
        buy b1 200 @ 30.00 rev=2           -> duplicate
    """
    )


def test_report_numbers_run_without_a_gap_for_each_participant():
    desk = check_book("""
        buy b1 300 @ 30.00                         -> rests 300
        sell s1 100 @ 30.00 participant=P2         -> trades 100 @ 30.00 with b1
        buy b1 300 @ 30.00                         -> duplicate
        cancel zz participant=P2 rev=1             -> unknown_order
        mass_cancel P1                             -> cancelled b1 200 mass_cancel, mass cancelled 1
    """)
    numbers: dict[str, list[int]] = {}
    for frame in desk.frames:
        for event in frame:
            for participant, number in _reports(event):
                numbers.setdefault(participant, []).append(number)
    assert numbers == {"P1": [1, 2, 3, 4], "P2": [1, 2, 3]}
    assert desk.engine.report_numbers == {"P1": 4, "P2": 3}


def _reports(event: e.Event) -> list[tuple[str, int]]:
    match event:
        case e.TradeExecuted():
            refs = [event.buy.order, event.sell.order]
        case e.MassCancelled():
            return [(event.participant, event.report_number)]
        case _:
            refs = [event.order] if hasattr(event, "order") else []
    return [(ref.participant, ref.report_number) for ref in refs]


def test_a_command_heard_twice_changes_no_state():
    desk = Desk()
    desk.place("buy", "b1", 100, "30.00")
    desk.do(c.CancelOrder(participant="P1", order_id="zz", revision=2))
    for _, command in list(desk.log[-2:]):
        before = desk.engine.state_hash()
        desk.do(command)
        assert desk.engine.state_hash() == before
