"""What people read: tables and lines from answers, as text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mybroker.cli.live_book import Gap, LiveBook
from mybroker.cli.tables import (
    book_table,
    doctor_table,
    event_line,
    headline,
    order_line,
    orders_table,
    quotes_table,
    status_tables,
    trade_line,
    wallet_table,
)
from mybroker.cli.up_news import (
    auction_line,
    grouped,
    line_of,
    phase_line,
    seconds_words,
    summary_facts,
    summary_lines,
    wallet_line,
)
from mybroker.contracts.feed import BookDelta, BookSnapshot, MarketPhase, Ticker, Trade
from mybroker.contracts.http_broker import Cash, EventTrade, Order, PrivateEvent, Shares, Wallet
from mybroker.contracts.market_session import NextTransition
from mybroker.domain.order import Aggressor, OrderType, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import parse_instant_ns
from mybroker.local.engines.machine import Finding

AT = "2026-11-23T10:00:00-03:00"


def text_of(*things: object) -> str:
    file = io.StringIO()
    console = Console(file=file, width=160, highlight=False)
    for thing in things:
        console.print(thing)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def a_trade(number: int = 7, *, aggressor: Aggressor = Aggressor.BUY, quantity: int = 1_200, ticker: str = "PETR4"):
    return Trade(
        ticker=ticker, number=number, trade_id="t", price="30.05", quantity=quantity, aggressor=aggressor, at=AT
    )


def an_order(**changes: Any) -> Order:
    facts: dict[str, Any] = {
        "id": "o1",
        "client_order_id": "c1",
        "account": "acc",
        "session": "local.pregao",
        "ticker": "PETR4",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "time_in_force": TimeInForce.DAY,
        "quantity": 1_000,
        "price": "30.05",
        "stop_price": None,
        "protection_price": None,
        "status": "new",
        "reason": None,
        "revision": 1,
        "filled_quantity": 0,
        "remaining_quantity": 1_000,
        "average_price": None,
        "created_at": AT,
        "updated_at": AT,
    }
    return Order(**(facts | changes))


def a_ticker(ticker: str, **changes: Any) -> Ticker:
    facts: dict[str, Any] = {
        "last": "30.10",
        "bid": "30.09",
        "ask": "30.11",
        "open": "30.00",
        "high": "30.20",
        "low": "29.90",
        "reference": "30.00",
        "trades": 3,
        "volume": 1_500,
        "turnover": "45150.00",
        "phase": Phase.OPEN,
        "at": AT,
    }
    return Ticker(ticker=ticker, **(facts | changes))


def test_a_book_has_its_buyers_left_and_its_best_prices_first():
    bids = [("30.00", 1_100, 2), ("29.99", 500, 1)]
    phase = MarketPhase(
        ticker="PETR4",
        market="equities",
        phase=Phase.PRE_OPEN,
        at=AT,
        theoretical_price="30.00",
        theoretical_quantity=800,
        imbalance=300,
        imbalance_side=Side.BUY,
    )
    assert text_of(book_table("PETR4", bids, [("30.02", 100, 1)], depth=10, phase=phase)).splitlines() == [
        "PETR4  pre_open  theoretical 30.00 × 800  imbalance 300 buy",
        "orders  shares    buy  sell    shares   orders",
        "     2   1,100  30.00  30.02      100        1",
        "     1     500  29.99",
    ]


def test_an_empty_book_is_one_empty_row_not_an_error():
    assert text_of(book_table("PETR4", [], [], depth=10)).splitlines()[0] == "PETR4"


@pytest.mark.parametrize(
    ("trade", "line"),
    [
        (a_trade(), "10:00:00  PETR4         30.05       1,200  buyer took   7"),
        (a_trade(aggressor=Aggressor.AUCTION), "10:00:00  PETR4         30.05       1,200  auction      7"),
    ],
)
def test_a_trade_is_a_line_of_the_tape(trade, line):
    assert trade_line(trade) == line


@pytest.mark.parametrize(
    ("order", "line"),
    [
        (an_order(), "o1  buy 1,000 PETR4 at 30.05: new"),
        (
            an_order(type=OrderType.MARKET, price=None, status="filled", filled_quantity=1_000, average_price="30.01"),
            "o1  buy 1,000 PETR4 market: filled, 1,000 at 30.01",
        ),
        (an_order(status="rejected", reason="market_closed"), "o1  buy 1,000 PETR4 at 30.05: rejected (market_closed)"),
    ],
)
def test_an_order_says_what_became_of_it(order, line):
    assert order_line(order) == line


def test_orders_show_market_where_there_is_no_price():
    shown = text_of(orders_table([an_order(type=OrderType.MARKET, price=None)]))
    assert "market" in shown.splitlines()[1]


def test_a_wallet_shows_what_is_held_and_what_is_available():
    cash = Cash(available="98995.00", held="1005.00", total="100000.00", to_settle="0.00", debt="0.00")
    wallet = Wallet(account="acc", cash=cash, shares=(Shares(asset="PETR4", available=900, held=100, total=1_000),))
    assert text_of(wallet_table(wallet)).splitlines()[2:] == [
        "R$     98,995.00  1,005.00  100,000.00",
        "PETR4        900       100       1,000",
    ]
    assert wallet_line("demo", wallet, [an_order(ticker="PETR4F")]) == "demo: 1 orders, R$ 100,000.00, 1,000 PETR4"
    assert wallet_line("demo", wallet, []) == "demo: 0 orders, R$ 100,000.00"


def test_quotes_show_a_price_from_outside_beside_the_markets_own():
    shown = text_of(quotes_table([a_ticker("PETR4"), a_ticker("VALE3", last=None)], {"PETR4": "30.12 brapi"}))
    assert "30.12 brapi" in shown.splitlines()[1]
    assert shown.splitlines()[2].startswith("VALE3       -")


def test_a_private_event_names_its_order_and_its_trade():
    trade = EventTrade(trade_id="t", price="30.05", quantity=300)
    event = PrivateEvent(seq=12, kind="trade", at=AT, order=an_order(status="partially_filled"), trade=trade)
    assert event_line(event) == "    12  10:00:00  trade           PETR4 buy o1 partially_filled  300 at 30.05"


def test_what_is_missing_stands_beside_what_was_found():
    findings = [
        Finding(what="Python", found="3.11.2", missing="", needed=True),
        Finding(what="Disk", found="0.1 GiB free", missing="free 2.0 GiB", needed=True),
        Finding(what="mongod", found="none", missing="put mongod on PATH", needed=False),
    ]
    words = [line.split()[0] for line in text_of(doctor_table(findings)).splitlines()[1:]]
    assert words == ["ok", "missing", "note"]


# -- status ----------------------------------------------------------------------------------------------------------


def a_status(**changes: Any) -> dict[str, Any]:
    process = {
        "pid": 41,
        "running": True,
        "exit_code": None,
        "restarts": 2,
        "resident_bytes": 50 << 20,
        "ready": False,
        "waiting_for": ["kafka"],
    }
    engine = {"name": "kafka", "ok": True, "text": "ready", "ours": True, "pid": 7, "resident_bytes": 300 << 20}
    return {
        "session": "local.pregao",
        "phase": "PreOpen",
        "business_date": "2026-11-23",
        "gateway_url": "http://127.0.0.1:8080",
        "clock": {"now_ns": parse_instant_ns("2026-11-23T09:45:30-03:00"), "speed": 60},
        "next_transition": {
            "phase": "Open",
            "at_session_ns": parse_instant_ns(AT),
            "at_wall_ns": 15_000_000_000,
        },
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "MatcherStarting", "message": "matcher/equities-0"},
            {"type": "Degraded", "status": "False", "reason": "NothingWrong", "message": ""},
        ],
        "markets": [
            {
                "name": "equities",
                "shard": 0,
                "phase": None,
                "seq": 1_234,
                "snapshot_seq": None,
                "epoch": 3,
                "message": "",
            }
        ],
        "ingestors": {"ready": 1, "desired": 2, "lag": 5},
        "processes": {"broker/orders": process},
        "engines": {"kafka": engine | {"took_ms": 4}},
    } | changes


def test_the_headline_says_phase_clock_and_what_comes_next():
    assert headline(a_status(), 0) == (
        "local.pregao   PreOpen   2026-11-23 09:45:30 (speed 60)   Open at 10:00, in 15 s   ingestors 1/2, lag 5"
        "   http://127.0.0.1:8080"
    )


def test_a_session_that_has_only_begun_has_a_headline_too():
    bare = a_status(clock=None, next_transition=None, ingestors=None, gateway_url="", phase="Starting")
    assert headline(bare, 0) == "local.pregao   Starting"


def test_status_shows_conditions_that_are_not_well_and_sums_the_memory():
    shown = text_of(*status_tables(a_status(), 0))
    assert "Ready: MatcherStarting matcher/equities-0" in shown
    assert "Degraded" not in shown
    assert "equities-0  -      1,234         -      3" in shown
    assert "broker/orders  starting   41         2   50  kafka" in shown
    assert "together" in shown
    assert shown.splitlines()[-1].split() == ["together", "350"]


# -- up --------------------------------------------------------------------------------------------------------------


def test_the_phase_says_when_the_next_one_comes():
    upcoming = NextTransition(phase="Open", at_session_ns=parse_instant_ns(AT) or 0, at_wall_ns=90_000_000_000)
    assert phase_line("PreOpen", upcoming, 0) == "pre-open: orders are collected; opens at 10:00, in 1 min 30 s"
    assert phase_line("Closed", None, 0) == "the market is closed"


@pytest.mark.parametrize(
    ("event", "facts", "line"),
    [
        (
            "engines_ready",
            {"took_ms": {"kafka": 1_900, "redis": 100}},
            "engines ready: redis 0.1 s, kafka 1.9 s",
        ),
        ("process_started", {"process": "broker/orders", "why": "not there"}, None),
        ("process_started", {"process": "broker/orders", "why": "ended, restart 1"}, "broker/orders started again"),
        ("process_ended", {"process": "broker/orders", "exit_code": -9}, "broker/orders ended (signal 9)"),
        ("degraded", {"status": "True", "message": "equities-0: diverged"}, "alarm: equities-0: diverged"),
        ("market_phase_changed", {"market": "equities"}, None),
    ],
)
def test_an_event_is_a_line_where_a_person_cares(event, facts, line):
    assert line_of(event, facts) == line


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3_599, "59 min 59 s"), (7_500, "2 h 5 min")]
)
def test_durations_read_as_people_say_them(seconds, words):
    assert seconds_words(seconds) == words


@pytest.mark.parametrize(
    ("amount", "shown"), [("0.00", "0.00"), ("1234567.80", "1,234,567.80"), ("-1000.05", "-1,000.05"), ("x", "x")]
)
def test_amounts_get_their_commas(amount, shown):
    assert grouped(amount) == shown


def test_the_auction_of_a_ticker_is_its_price_and_all_its_shares():
    trades = [a_trade(aggressor=Aggressor.AUCTION), a_trade(aggressor=Aggressor.AUCTION, quantity=300)]
    assert auction_line("PETR4", trades) == "PETR4         30.05   1,500 shares in 2 trades"


def test_the_summary_adds_up():
    tickers = [a_ticker("PETR4"), a_ticker("VALE3", trades=1, volume=100, turnover="0.05", last=None)]
    facts = summary_facts(tickers, None)
    assert facts == {"orders": None, "trades": 4, "volume": 1_600, "turnover": "45150.05"}
    assert summary_lines(tickers, facts).splitlines()[-1] == "4 trades, 1,600 shares, R$ 45,150.05"


# -- the book from the stream ----------------------------------------------------------------------------------------


def test_a_book_follows_its_deltas_and_keeps_market_orders_on_top():
    book = LiveBook()
    book.hear(BookSnapshot(ticker="PETR4", seq=5, bids=(("30.00", 100, 1),), asks=(("30.02", 100, 1),)))
    book.hear(BookDelta(ticker="PETR4", prev=5, seq=6, bids=(("market", 300, 1), ("30.01", 200, 1)), asks=()))
    book.hear(BookDelta(ticker="PETR4", prev=6, seq=8, bids=(("30.00", 0, 0),), asks=(("30.02", 50, 1),)))

    assert book.bids == [("market", 300, 1), ("30.01", 200, 1)]
    assert book.asks == [("30.02", 50, 1)]


def test_a_delta_heard_twice_changes_nothing_and_one_that_does_not_follow_is_a_gap():
    book = LiveBook()
    delta = BookDelta(ticker="PETR4", prev=5, seq=6, bids=(("30.00", 0, 0),), asks=())
    with pytest.raises(Gap):
        book.hear(delta)
    book.hear(BookSnapshot(ticker="PETR4", seq=6, bids=(("30.00", 100, 1),), asks=()))
    book.hear(delta)
    assert book.bids == [("30.00", 100, 1)]
    with pytest.raises(Gap, match="expected a delta after 6, was one after 7"):
        book.hear(BookDelta(ticker="PETR4", prev=7, seq=8, bids=(), asks=()))
