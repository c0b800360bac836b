"""Each kind of difference is found by the check that names it; a market where all is right has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mybroker.contracts import events as ev
from mybroker.contracts.client_journal import JournalEntry
from mybroker.prove.audit import Gathered, compare
from mybroker.prove.checks import Check, first_difference
from mybroker.prove.rows import BrokerFill, LedgerAccount, LedgerBook, OrdersBook
from mybroker.prove.shards import compare_lines
from tests.prove import world as w

JOURNAL = (
    JournalEntry(
        at_ns=1,
        account="ana",
        action="place",
        outcome="asked",
        client_order_id="c-b1",
        ticker="PETR4",
        side="buy",
        quantity_shares=200,
    ),
    JournalEntry(at_ns=2, account="ana", action="place", outcome="unknown", client_order_id="c-b1"),
    JournalEntry(
        at_ns=3,
        account="ana",
        action="place",
        outcome="acknowledged",
        client_order_id="c-b1",
        order_id="b1",
        status=201,
    ),
    JournalEntry(at_ns=4, account="ana", action="events", outcome="next", expected_seq=1, seq=1),
)


def checked(found: Gathered, journal: tuple[JournalEntry, ...] = JOURNAL) -> list[Check]:
    return compare(found, journal)


def red(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.first[0] for check in checks if not check.ok}


def test_a_market_where_everything_is_right_has_no_difference_and_compares_every_part():
    checks = checked(w.gathered())

    assert red(checks) == {}
    assert [check.name for check in checks if not check.compared] == []
    assert first_difference(checks) is None


def orders_with(change: Callable[[OrdersBook], OrdersBook]) -> Gathered:
    return w.gathered(orders=change(w.orders_book()))


def ledger_with(change: Callable[[LedgerBook], LedgerBook]) -> Gathered:
    return w.gathered(ledger=change(w.ledger_book()))


def first_order(**facts: object) -> Callable[[OrdersBook], OrdersBook]:
    return lambda book: replace(book, orders=(replace(book.orders[0], **facts), *book.orders[1:]))  # type: ignore[arg-type]


def without_transfer(id_: str) -> Callable[[LedgerBook], LedgerBook]:
    return lambda book: replace(book, transfers=tuple(t for t in book.transfers if t.id != id_))


def with_transfer(**facts: object) -> Callable[[LedgerBook], LedgerBook]:
    def change(book: LedgerBook) -> LedgerBook:
        model = next(t for t in book.transfers if t.id == facts["like"])
        named = {name: value for name, value in facts.items() if name != "like"}
        return replace(book, transfers=(*book.transfers, replace(model, **named)))  # type: ignore[arg-type]

    return change


def bruno_has(**facts: object) -> Callable[[LedgerBook], LedgerBook]:
    return lambda book: replace(book, accounts=(*book.accounts[:3], replace(book.accounts[3], **facts)))  # type: ignore[arg-type]


def hold_with(**facts: object) -> Callable[[LedgerBook], LedgerBook]:
    return lambda book: replace(book, holds=(book.holds[0], replace(book.holds[1], **facts)))  # type: ignore[arg-type]


BOOK = "every order is what the exchange says it is"
FILLS = "every trade is once in the broker's fills"
LEDGER = "every trade is once in the ledger"
ACCOUNTS = "cash and shares equal opening balances and the exchange's trades"
HELD = "held equals the open orders' remainder"
BALANCES = "balances equal the sum of entries"
PRIVATE = "private events are numbered without a gap"

BROKER = [
    ("cumulative shares", first_order(cum_shares=200), BOOK, "cumulative shares: expected 100, was 200"),
    ("leaves", first_order(leaves_shares=100), BOOK, "leaves: expected 0, was 100"),
    ("status", first_order(status="filled"), BOOK, "status: expected canceled, was filled"),
    ("quantity", first_order(quantity_shares=300), BOOK, "quantity: expected 200, was 300"),
    ("account", first_order(account="bruno"), BOOK, "account: expected ana, was bruno"),
    ("never routed", first_order(routed=False), BOOK, "never routed it"),
    (
        "an order the broker lost",
        lambda book: replace(book, orders=book.orders[1:], fills=book.fills[1:]),
        BOOK,
        "order b1 of ana is at the exchange (cancelled), not at the broker",
    ),
    (
        "an order the exchange never saw, filled",
        lambda book: replace(book, orders=(*book.orders, w.order("zz", "ana", "buy", 100, 100, "filled"))),
        BOOK,
        "order zz, unknown to the exchange",
    ),
    ("a lost fill", lambda book: replace(book, fills=book.fills[1:]), FILLS, "is at the exchange, not in the broker's"),
    ("a fill twice", lambda book: replace(book, fills=(*book.fills, book.fills[0])), FILLS, "is twice in the broker's"),
    (
        "an invented fill",
        lambda book: replace(
            book, fills=(*book.fills, BrokerFill(order_id="b1", trade_id="t9", price_ticks=3000, quantity_shares=100))
        ),
        FILLS,
        "trade t9: is in the broker's fills, not at the exchange",
    ),
    (
        "a fill at another price",
        lambda book: replace(book, fills=(replace(book.fills[0], price_ticks=2999), book.fills[1])),
        FILLS,
        "price in ticks: expected 3000, was 2999",
    ),
    (
        "a private event missing",
        lambda book: replace(book, private_seqs={"ana": (1, 3)}, private_last={}),
        PRIVATE,
        "account ana: expected private event 2, was 3",
    ),
    (
        "a private event twice",
        lambda book: replace(book, private_seqs={"ana": (1, 2, 2)}, private_last={}),
        PRIVATE,
        "account ana: expected private event 3, was 2",
    ),
    (
        "a counter ahead of its events",
        lambda book: replace(book, private_last={"ana": 4}),
        PRIVATE,
        "account ana, its newest private event: expected 4, was 3",
    ),
    (
        "reports nobody sent",
        lambda book: replace(book, applied={w.SHARD: 6}),
        "the broker heard every report",
        "last report is 5, the broker applied 6",
    ),
]


@pytest.mark.parametrize(("change", "name", "text"), [case[1:] for case in BROKER], ids=[case[0] for case in BROKER])
def test_what_the_broker_has_wrong_is_found_and_named(change, name, text):
    found = red(checked(orders_with(change)))

    assert text in found.get(name, ""), found


WALLET = [
    ("a fill not posted", without_transfer("g2"), LEDGER, "what the ledger moved for ana: expected ana BRL -300000"),
    (
        "a trade not posted at all",
        lambda b: without_transfer("p1")(without_transfer("g1")(b)),
        LEDGER,
        "not in the ledger",
    ),
    ("a fill posted twice", with_transfer(like="g1", id="g1-again"), LEDGER, "bruno BRL +600000"),
    (
        "a posting of no trade",
        with_transfer(like="g1", id="g9", trade_id="t9"),
        LEDGER,
        "trade t9: the ledger moved bruno BRL +300000, the exchange has no such trade",
    ),
    (
        "a posting to another account",
        with_transfer(like="g2", id="g8", credit_owner="bruno"),
        LEDGER,
        "bruno PETR4 +100",
    ),
    ("a balance that is no sum", bruno_has(credits_posted=400), BALANCES, "bruno PETR4: entries give 200"),
    ("debits without credits", bruno_has(credits_posted=400), "debits equal credits", "PETR4: debits are"),
    ("more shares than issued", bruno_has(credits_posted=400), "shares in all accounts equal shares issued", "PETR4"),
    ("shares from nowhere", bruno_has(credits_posted=400), ACCOUNTS, "bruno PETR4: expected 200, was 300"),
    ("spent what was held", bruno_has(debits_pending=201), "available is never negative", "available is -1"),
    ("held beyond the holds", bruno_has(debits_pending=201), HELD, "holds add up to 200, held is 201"),
    ("a hold that is too small", hold_with(amount=100), HELD, "its remainder needs 200, held is 100"),
    (
        "a hold closed too early",
        hold_with(closed=True),
        HELD,
        "200 shares are open at the exchange, its hold is closed",
    ),
    ("a fill the hold missed", hold_with(filled_shares=0, amount=300), HELD, "filled shares at its hold"),
    (
        "a hold left behind",
        lambda b: replace(b, holds=(replace(b.holds[0], amount=100), b.holds[1])),
        HELD,
        "it is cancelled at the exchange, 100 is still held",
    ),
    (
        "an order that was never held",
        lambda b: replace(
            b, transfers=tuple(t for t in b.transfers if not (t.purpose == "hold" and t.order_id == "s1"))
        ),
        "every order at the exchange was held for",
        "order s1 of bruno: it is at the exchange, nothing was ever held for it",
    ),
    (
        "a hold posted and voided",
        with_transfer(like="v3", id="v2", pending_id="h2", amount=602_000),
        "every pending transfer resolves once",
        "it was resolved before",
    ),
    (
        "a hold posted in part only",
        with_transfer(like="v3", id="v4", pending_id="h4", amount=199),
        "every pending transfer resolves once",
        "expected 200, was 199",
    ),
    (
        "an account with money and no entries",
        lambda b: replace(b, accounts=(*b.accounts, LedgerAccount(owner="eva", asset="BRL", credits_posted=5))),
        ACCOUNTS,
        "eva BRL: expected 0, was 5",
    ),
]


@pytest.mark.parametrize(("change", "name", "text"), [case[1:] for case in WALLET], ids=[case[0] for case in WALLET])
def test_what_the_ledger_has_wrong_is_found_and_named(change, name, text):
    found = red(checked(ledger_with(change)))

    assert text in found.get(name, ""), found


def numbered(events: tuple[ev.Event, ...], number: int) -> tuple[ev.Event, ...]:
    cancelled = events[0]
    assert isinstance(cancelled, ev.OrderCancelled)
    return (replace(cancelled, order=replace(cancelled.order, report_number=number)),)


@pytest.mark.parametrize(
    ("frames", "name", "text"),
    [
        ((*w.FRAMES[:2], numbered(w.FRAMES[2], 6)), "reports are numbered without a gap", "expected report 5, was 6"),
        ((*w.FRAMES[:2], numbered(w.FRAMES[2], 4)), "reports are numbered without a gap", "expected report 5, was 4"),
        (
            (w.FRAMES[0], w.FRAMES[1], w.FRAMES[1]),
            "every order's totals add up at the exchange",
            "order b1: accepted twice",
        ),
        ((w.FRAMES[1],), "every order's totals add up at the exchange", "order s1: trade t1 before it was accepted"),
    ],
    ids=["a number left out", "a number used twice", "a frame taken twice", "a frame left out"],
)
def test_what_the_event_log_has_wrong_is_found_and_named(frames, name, text):
    found = red(checked(w.gathered(exchange=w.exchange_of(frames))))

    assert any(text in said for check, said in found.items() if check == name), found


def told(*entries: JournalEntry) -> dict[str, str]:
    return red(checked(w.gathered(), entries))


def entry(client_order_id: str, outcome: str, **facts: object) -> JournalEntry:
    given: dict[str, object] = {"at_ns": 1, "account": "ana", "action": "place", "outcome": outcome}
    return JournalEntry(**(given | {"client_order_id": client_order_id} | facts))  # type: ignore[arg-type]


CLIENTS = [
    (
        "an acknowledged order that is gone",
        (entry("c-b9", "acknowledged", order_id="b9"),),
        "the broker has no such order",
    ),
    ("another id than before", (*JOURNAL[:3], entry("c-b1", "acknowledged", order_id="b2")), "gave b1 and b2"),
    ("another order than asked", (JOURNAL[0], entry("c-b1", "acknowledged", order_id="b2")), "expected b2, was b1"),
    (
        "a refused order that traded",
        (entry("c-b1", "refused", code="market_closed"),),
        "canceled with 100 shares filled",
    ),
    (
        "a private event the client never heard",
        (JournalEntry(at_ns=1, account="ana", action="events", outcome="gap", expected_seq=4, seq=6),),
        "gap, expected private event 4, heard 6",
    ),
]


@pytest.mark.parametrize(("journal", "text"), [case[1:] for case in CLIENTS], ids=[case[0] for case in CLIENTS])
def test_what_a_client_was_told_and_is_not_true_is_found(journal, text):
    assert any(text in said for said in told(*journal).values()), told(*journal)


def test_an_order_whose_outcome_stayed_unknown_may_be_there_or_not():
    assert told(entry("c-b1", "unknown"), entry("c-never", "unknown")) == {}


def test_a_broker_that_is_behind_is_compared_as_far_as_it_heard_and_the_rest_is_in_flight():
    behind = replace(
        w.orders_book(),
        orders=(
            w.order("b1", "ana", "buy", 200, 0, "new"),
            w.order("s1", "bruno", "sell", 300, 0, "new"),
        ),
        fills=(),
        applied={w.SHARD: 2},
    )
    checks = {check.name: check for check in checked(w.gathered(exchange=w.exchange_of(upto=2), orders=behind))}

    assert checks[BOOK].ok and checks[FILLS].ok
    assert checks["the broker heard every report"].in_flight == 3


@pytest.mark.parametrize(
    ("logged", "played", "in_flight", "differs"),
    [
        (["a", "b"], ["a", "b", '{"state_hash":"h"}'], False, None),
        (["a", "b"], ["a", "c", '{"state_hash":"h"}'], False, "the log has b, the tape gives c"),
        (["a", "b"], ["a", '{"state_hash":"h"}'], False, 'the tape gives {"state_hash":"h"}'),
        (["a"], ["a", "b", '{"state_hash":"h"}'], False, "the log has nothing more, the tape gives b"),
        (["a"], ["a", "b", '{"state_hash":"h"}'], True, None),
    ],
)
def test_a_tape_gives_the_logged_lines_and_its_hash(logged, played, in_flight, differs):
    found = compare_lines(iter(logged), iter(played), in_flight=in_flight)

    assert differs is None if found.differs is None else differs in found.differs
    assert (found.differs is None) == (differs is None)
