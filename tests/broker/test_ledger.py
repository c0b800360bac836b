"""The ledger's rules as stories: what is held, what a fill posts, what is let go, what is refused."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from services.broker_wallet.ledger.holds import Terms, cover
from services.broker_wallet.ledger.operations import (
    CloseHold,
    ConfirmReplace,
    Deposit,
    DepositShares,
    OutcomeKind,
    PlaceHold,
    PostFill,
    RefuseReplace,
)
from services.broker_wallet.ledger.positions import average_price_text
from tests.broker.ledger_table import ACCOUNT, LedgerStory, check_ledger


def story(text: str) -> LedgerStory:
    told = LedgerStory()
    told.run(text)
    return told


def test_a_buy_holds_its_worst_price_and_a_better_one_is_let_go_with_the_fill():
    story("""
        deposit 1000.00                  -> ok            | BRL 1000.00/0.00
        hold b1 buy 100 PETR4 @ 5.00     -> ok            | BRL 500.00/500.00
        fill b1 t1 40 @ 4.90             -> ok            | BRL 504.00/300.00  PETR4 40/0
        fill b1 t2 60 @ 5.00             -> ok            | BRL 504.00/0.00  PETR4 100/0
        close b1                         -> unchanged     | BRL 504.00/0.00
    """)


def test_a_sell_holds_the_shares_and_brings_cash():
    story("""
        deposit 10.00 300 PETR4          -> ok            | BRL 10.00/0.00  PETR4 300/0
        hold s1 sell 200 PETR4 @ 5.00    -> ok            | PETR4 100/200
        hold s2 sell 200 PETR4 @ 5.00    -> insufficient_shares | PETR4 100/200
        fill s1 t1 100 @ 5.10            -> ok            | BRL 520.00/0.00  PETR4 100/100
        close s1                         -> ok            | PETR4 200/0
    """)


def test_two_orders_cannot_spend_the_same_cash():
    story("""
        deposit 1000.00                  -> ok
        hold b1 buy 100 PETR4 @ 6.00     -> ok            | BRL 400.00/600.00
        hold b2 buy 100 VALE3 @ 6.00     -> insufficient_funds | BRL 400.00/600.00
        close b1                         -> ok            | BRL 1000.00/0.00
        hold b3 buy 100 VALE3 @ 6.00     -> ok            | BRL 400.00/600.00
    """)


def test_a_hold_asked_again_gives_the_same_answer_even_a_refusal():
    story("""
        deposit 500.00                   -> ok
        hold b1 buy 100 PETR4 @ 6.00     -> insufficient_funds
        deposit 500.00                   -> ok
        hold b1 buy 100 PETR4 @ 6.00     -> insufficient_funds | BRL 1000.00/0.00
        hold b2 buy 100 PETR4 @ 6.00     -> ok            | BRL 400.00/600.00
        hold b2 buy 100 PETR4 @ 6.00     -> repeated      | BRL 400.00/600.00
        hold b2 buy 100 PETR4 @ 7.00     -> conflict      | BRL 400.00/600.00
    """)


def test_a_fill_heard_twice_is_posted_once():
    story("""
        deposit 1000.00                  -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> ok
        fill b1 t1 100 @ 5.00            -> ok            | BRL 500.00/0.00  PETR4 100/0
        fill b1 t1 100 @ 5.00            -> repeated      | BRL 500.00/0.00  PETR4 100/0
    """)


def test_a_fill_after_the_hold_was_let_go_posts_and_what_is_missing_is_a_debt():
    told = story("""
        deposit 700.00                   -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> ok            | BRL 200.00/500.00
        close b1                         -> ok            | BRL 700.00/0.00
        hold b2 buy 100 VALE3 @ 4.00     -> ok            | BRL 300.00/400.00
        fill b1 t1 100 @ 5.00            -> ok            | BRL 0.00/400.00  PETR4 100/0
    """)
    assert told.ledger.effects[-1].debt == 200_00


def test_a_sell_without_shares_posts_and_owes_the_shares():
    told = story("""
        deposit 1.00 50 PETR4            -> ok
        hold s1 sell 50 PETR4 @ 5.00     -> ok            | PETR4 0/50
        fill s1 t1 80 @ 5.00             -> ok            | BRL 401.00/0.00  PETR4 0/0
    """)
    assert told.ledger.effects[-1].debt == 30


def test_an_id_that_was_closed_never_holds_again():
    story("""
        deposit 1000.00                  -> ok
        close b1                         -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> id_barred     | BRL 1000.00/0.00
        close b1                         -> repeated
    """)


def test_a_replace_that_needs_more_holds_it_before_and_lets_go_when_it_is_refused():
    story("""
        deposit 1000.00                  -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> ok            | BRL 500.00/500.00
        replace b1 2 100 @ 6.00          -> ok            | BRL 400.00/600.00
        replace b1 3 100 @ 7.00          -> replace_pending
        refuse b1 2                      -> ok            | BRL 500.00/500.00
        replace b1 4 300 @ 5.00          -> insufficient_funds | BRL 500.00/500.00
    """)


def test_a_replace_that_needs_less_lets_go_when_it_is_confirmed():
    story("""
        deposit 1000.00                  -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> ok            | BRL 500.00/500.00
        replace b1 2 60 @ 5.00           -> unchanged     | BRL 500.00/500.00
        fill b1 t1 20 @ 5.00             -> ok            | BRL 500.00/400.00
        confirm b1 2 60 @ 5.00           -> ok            | BRL 700.00/200.00
        confirm b1 2 60 @ 5.00           -> unchanged     | BRL 700.00/200.00
    """)


def test_more_shares_at_a_lower_price_hold_for_fills_before_the_replace_too():
    story("""
        deposit 2000.00                  -> ok
        hold b1 buy 100 PETR4 @ 10.00    -> ok            | BRL 1000.00/1000.00
        replace b1 2 190 @ 5.00          -> ok            | BRL 550.00/1450.00
        fill b1 t1 90 @ 10.00            -> ok            | BRL 550.00/550.00
        confirm b1 2 190 @ 5.00          -> ok            | BRL 600.00/500.00
    """)


def test_a_busted_trade_gives_back_both_sides():
    story("""
        deposit 1000.00                  -> ok
        hold b1 buy 100 PETR4 @ 5.00     -> ok
        fill b1 t1 100 @ 5.00            -> ok            | BRL 500.00/0.00  PETR4 100/0
        bust b1 t1 100 @ 5.00            -> ok            | BRL 1000.00/0.00  PETR4 0/0
        bust b1 t1 100 @ 5.00            -> repeated      | BRL 1000.00/0.00
    """)


def test_a_deposit_is_made_once_and_other_content_under_its_id_is_refused():
    told = LedgerStory()
    once = Deposit(deposit_id="d", account=ACCOUNT, cash_cents=100, shares=(), at_ns=0)
    other = Deposit(deposit_id="d", account=ACCOUNT, cash_cents=200, shares=(), at_ns=0)
    kinds = [told.ledger.decide(asked).kind for asked in (once, once, other)]
    assert kinds == [OutcomeKind.DONE, OutcomeKind.REPEATED, OutcomeKind.CONFLICT]
    assert told.shown("BRL") == "1.00/0.00"


def test_the_average_price_follows_purchases_and_sales_realise_the_difference():
    told = story("""
        deposit 10000.00                 -> ok
        hold b1 buy 300 PETR4 @ 10.00    -> ok
        fill b1 t1 100 @ 10.00           -> ok
        fill b1 t2 200 @ 9.00            -> ok
        hold s1 sell 100 PETR4 @ 9.00    -> ok
        fill s1 t3 100 @ 11.00           -> ok            | PETR4 200/0
    """)
    (balance,) = [b for key, b in told.ledger.book.balances.items() if key.asset == "PETR4"]
    assert average_price_text(balance.cost_cents, balance.total) == "9.3333"
    assert balance.cost_cents == 2800_00 - 933_33
    assert balance.realised_cents == 1100_00 - 933_33


ORDERS = st.sampled_from(["o1", "o2", "o3"])
QUANTITIES = st.integers(1, 300)
PRICES = st.integers(1, 2000)


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[str, str, int, int, int]]:
    verbs = st.sampled_from(["hold", "hold", "fill", "fill", "replace", "confirm", "refuse", "close", "late_fill"])
    return draw(st.lists(st.tuples(verbs, ORDERS, QUANTITIES, PRICES, st.integers(1, 4)), max_size=30))


@settings(max_examples=300, deadline=None)
@given(course=courses(), buys=st.sets(ORDERS), cash=st.integers(0, 500_000), shares=st.integers(0, 400))
def test_whatever_happens_the_ledger_stays_balanced_and_nobody_overdraws(
    course: list[tuple[str, str, int, int, int]], buys: set[str], cash: int, shares: int
):
    told = LedgerStory()
    parts = (DepositShares(asset="PETR4", quantity_shares=shares, cost_cents=0),) if shares else ()
    if cash or parts:
        told.ledger.decide(Deposit(deposit_id="d", account=ACCOUNT, cash_cents=cash, shares=parts, at_ns=0))
    for number, (verb, order_id, quantity, price, revision) in enumerate(course):
        side = Side.BUY if order_id in buys else Side.SELL
        at: dict[str, Any] = {"order_id": order_id, "account": ACCOUNT, "asset": "PETR4", "side": side, "at_ns": number}
        terms: dict[str, Any] = {"quantity_shares": quantity, "price_ticks": price if side is Side.BUY else 0}
        trade: dict[str, Any] = {"trade_id": f"t{number}", "quantity_shares": quantity, "price_ticks": price}
        match verb:
            case "hold" | "replace":
                outcome = told.ledger.decide(PlaceHold(revision=1 if verb == "hold" else revision, **at, **terms))
                assert outcome.reason is not RejectReason.MALFORMED
            case "fill" | "late_fill":
                told.ledger.decide(PostFill(**at, **trade))
            case "confirm":
                told.ledger.decide(ConfirmReplace(revision=revision, **at, **terms))
            case "refuse":
                told.ledger.decide(RefuseReplace(revision=revision, **at))
            case _:
                told.ledger.decide(CloseHold(**at))
        check_ledger(told.ledger)


@settings(max_examples=500, deadline=None)
@given(data=st.data(), side=st.sampled_from(Side))
def test_a_fill_within_the_terms_never_needs_more_than_is_held(data: st.DataObject, side: Side):
    """Any fills under the old terms, then the replace, then any fills under the new terms: no debt."""
    old = Terms(revision=1, quantity_shares=data.draw(QUANTITIES), price_ticks=data.draw(PRICES))
    new = Terms(revision=2, quantity_shares=data.draw(QUANTITIES), price_ticks=data.draw(PRICES))
    filled, held = 0, cover(side, old, new, 0)
    for terms, following in ((old, new), (new, None)):
        if following is None:
            held_after = cover(side, terms, None, filled)
            assert held_after <= held
            held = held_after
        most = max(0, terms.quantity_shares - filled)
        for quantity in data.draw(st.lists(st.integers(1, 100), max_size=5)):
            shares = min(quantity, most)
            if shares == 0 or (following is None and filled + shares > terms.quantity_shares):
                break
            price = data.draw(st.integers(1, terms.price_ticks))
            cost = shares * price if side is Side.BUY else shares
            filled, most = filled + shares, most - shares
            after = cover(side, terms, following, filled)
            assert cost + after <= held, (old, new, filled)
            held = after
