"""What the audit prints: the table, the day's totals, and the first difference in plain words."""

from __future__ import annotations

from mybroker.contracts.feed import Ticker
from mybroker.domain.phase import Phase
from mybroker.prove.audit import Audit, compare
from mybroker.prove.feed import check_feed
from mybroker.prove.report import as_json, lines
from tests.prove import world as w


def outcome(**broken: object) -> Audit:
    found = w.gathered(**broken)  # type: ignore[arg-type]
    return Audit(
        session_key="local.t",
        business_date="2024-11-08",
        at_rest=True,
        pending=(),
        shards=(),
        checks=tuple(compare(found, ())),
        gathered=found,
    )


def test_a_proved_day_says_so_and_shows_each_account_before_and_after():
    text = "\n".join(lines(outcome()))

    assert "proved: no difference" in text
    assert "ana: cash 10000.00 -> 7000.00, shares 0 -> 100, 1 trade sides" in text
    assert as_json(outcome())["accounts"][1] == {
        "account": "bruno",
        "trade_sides": 1,
        "opening_cash": "0.00",
        "cash": "3000.00",
        "opening_shares": 300,
        "shares": 200,
    }


def test_a_day_with_a_difference_names_the_first_one():
    frames = (w.FRAMES[0],)
    found = outcome(exchange=w.exchange_of(frames))

    assert not found.ok
    assert lines(found)[-1] == (
        "FIRST DIFFERENCE  the broker heard every report:"
        " equities-0: the exchange's last report is 1, the broker applied 5"
    )
    assert as_json(found)["first_difference"] == found.first_difference


def shown(trades: int, volume: int, turnover: str) -> Ticker:
    return Ticker(
        ticker="PETR4",
        last="30.00",
        bid=None,
        ask=None,
        open=None,
        high=None,
        low=None,
        reference=None,
        trades=trades,
        volume=volume,
        turnover=turnover,
        phase=Phase.CLOSED,
        at="2024-11-08T18:00:00-03:00",
    )


def test_a_feed_that_counts_a_trade_twice_or_never_is_found():
    day = w.exchange_of().day

    assert check_feed((shown(1, 100, "3000.00"),), day).first == []
    assert check_feed((shown(2, 200, "6000.00"),), day).first[0] == "PETR4, trades: expected 1, was 2"
    assert check_feed((), day).first == ["PETR4: traded 1 times, the feed does not know it"]
    assert check_feed((shown(1, 100, "3000.00"),), {}).first == [
        "PETR4: the feed shows 1 trades, the exchange has none"
    ]
