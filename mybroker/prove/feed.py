"""The public feed against the event log: what it shows of the day is what happened. The comparison is pure."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from mybroker.contracts.feed import Ticker
from mybroker.contracts.http_feed import SessionState
from mybroker.domain.money import format_cents
from mybroker.prove.checks import Check
from mybroker.prove.exchange import TickerTotals

ANSWER_WITHIN_S = 10
LOOK_AGAIN_S = 0.3


def read_feed(base_url: str, session_key: str) -> tuple[Ticker, ...]:
    """Ask the feed, or the gateway before it, for the summary of every ticker. Raises OSError and msgspec errors."""
    url = f"{base_url}/state?session={quote(session_key)}"
    with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310  (our own gateway's address)
        return msgspec.json.decode(answer.read(), type=SessionState).tickers


def check_feed(shown: tuple[Ticker, ...], exchange: Mapping[str, TickerTotals]) -> Check:
    """The feed counted each trade of the day once: number, shares and turnover, ticker by ticker."""
    check = Check(name="the public feed shows each trade once", unit="trades")
    by_ticker = {ticker.ticker: ticker for ticker in shown}
    for name, totals in exchange.items():
        check.compared += totals.trades
        ticker = by_ticker.get(name)
        if ticker is None:
            check.differ(f"{name}: traded {totals.trades} times, the feed does not know it")
            continue
        check.expect(f"{name}, trades", totals.trades, ticker.trades)
        check.expect(f"{name}, shares", totals.volume_shares, ticker.volume)
        check.expect(f"{name}, turnover", format_cents(totals.turnover_cents), ticker.turnover)
    for name, ticker in by_ticker.items():
        if name not in exchange and ticker.trades:
            check.differ(f"{name}: the feed shows {ticker.trades} trades, the exchange has none")
    return check


def check_feed_at(base_url: str, session_key: str, exchange: Mapping[str, TickerTotals], settle_s: float) -> Check:
    """Compare with a feed that may still be catching up; the last look counts."""
    give_up_at = time.monotonic() + settle_s
    while True:
        try:
            check = check_feed(read_feed(base_url, session_key), exchange)
        except (OSError, msgspec.MsgspecError) as error:
            check = Check(name="the public feed shows each trade once", unit="trades")
            check.differ(f"the feed does not answer: {error}")
        if check.ok or time.monotonic() > give_up_at:
            return check
        time.sleep(LOOK_AGAIN_S)
