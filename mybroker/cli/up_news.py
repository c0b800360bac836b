"""What `mybroker up` says about each event of the runner. Pure: facts in, a line or None out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mybroker.contracts.feed import Ticker, Trade
from mybroker.contracts.http_broker import Order, Wallet
from mybroker.contracts.market_session import NextTransition
from mybroker.domain.instrument import asset_of
from mybroker.domain.money import format_cents, parse_cents
from mybroker.domain.schedule import NS_PER_SECOND, format_instant

PHASE_SENTENCES: Mapping[str, str] = {
    "Scheduled": "the day has not begun",
    "PreOpen": "pre-open: orders are collected",
    "Open": "the market is open",
    "ClosingCall": "closing call: orders are collected",
    "AfterMarket": "after-market",
    "Auction": "an instrument is in an auction",
    "CancelOnly": "cancels only",
    "Halted": "the market is halted",
    "Closed": "the market is closed",
}
_NEXT_WORDS: Mapping[str, str] = {
    "PreOpen": "pre-open",
    "Open": "opens",
    "ClosingCall": "closing call",
    "Closed": "closes",
}


def line_of(event: str, facts: Mapping[str, Any]) -> str | None:
    """Return what a person should read about an event; None where it is of no interest."""
    match event:
        case "leftovers_ended":
            return f"ended {facts['count']} processes that an earlier run had left"
        case "engine_note":
            return f"{facts['engine']}: {facts['note']}"
        case "engines_ready":
            return f"engines ready: {engine_times(facts['took_ms'])}"
        case "engine_ended":
            return f"{facts['engine']} ended by itself and is started again; see its log"
        case "engine_restarting":
            return f"{facts['engine']} is restarted"
        case "process_ended":
            return f"{facts['process']} ended ({exit_words(facts.get('exit_code'))})"
        case "process_started":
            return f"{facts['process']} started again" if str(facts["why"]).startswith("ended") else None
        case "process_replacing" | "process_stopping":
            return f"{facts['process']} stops: {facts['why']}"
        case "manifest_applied":
            return "the manifest changed and is applied"
        case "manifest_refused":
            return f"the changed manifest is refused, the former one stays:\n{facts['why']}"
        case "degraded":
            return f"alarm: {facts['message']}" if facts["status"] == "True" else "the alarm is over"
        case "day_rolled":
            return f"the day {facts['ended']} is over; {facts['following']} follows"
        case "runner_task_failed":
            return f"the runner failed ({facts['task']}): {facts['error']}"
        case "stopping":
            return "stopping: what was accepted is finished first"
        case "stopped":
            return "stopped; nothing is left running"
        case _:
            return None


def engine_times(took_ms: Mapping[str, int]) -> str:
    """Return how long each engine took, the quickest first."""
    ordered = sorted(took_ms.items(), key=lambda item: item[1])
    return ", ".join(f"{name} {ms / 1_000:.1f} s" for name, ms in ordered) or "given by URLs"


def exit_words(code: object) -> str:
    """Say in words how a process ended."""
    if not isinstance(code, int):
        return "how is not known"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def clock_of(at_ns: int) -> str:
    """Return the exchange's time of day at an instant: "10:00:00"."""
    return format_instant(at_ns)[11:19]


def phase_line(phase: str, upcoming: NextTransition | None, now_wall_ns: int) -> str:
    """Say which phase it is and what comes next, when."""
    sentence = PHASE_SENTENCES.get(phase, phase)
    if upcoming is None:
        return sentence
    comes = f"{_NEXT_WORDS.get(upcoming.phase, upcoming.phase)} at {clock_of(upcoming.at_session_ns)[:5]}"
    if upcoming.at_wall_ns is not None:
        comes += f", in {seconds_words((upcoming.at_wall_ns - now_wall_ns) / NS_PER_SECOND)}"
    return f"{sentence}; {comes}"


def seconds_words(seconds: float) -> str:
    """Say a duration as people do: "15 s", "7 min 30 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def where_to_look(gateway_url: str, ticker: str, *, demo: bool) -> str:
    """Return the lines that tell a newcomer what to do now."""
    who = "   user demo, password demo" if demo else ""
    return "\n".join(
        [
            f"page      {gateway_url}{who}",
            f"market    mybroker book {ticker}     mybroker tape {ticker}     mybroker quotes",
            f"trade     mybroker buy {ticker} 100 --market     mybroker orders     mybroker wallet",
            "look      mybroker status            stop: ctrl-C; the next `mybroker up` goes on with the same day",
        ]
    )


def auction_line(ticker: str, trades: Sequence[Trade]) -> str:
    """Say what the opening auction of a ticker gave; `trades` are the auction's, at least one."""
    quantity = sum(trade.quantity for trade in trades)
    return f"{ticker:<8} {trades[0].price:>10}   {quantity:,} shares in {len(trades)} trades"


def summary_lines(tickers: Iterable[Ticker], facts: Mapping[str, object]) -> str:
    """Return the day in a table; `facts` are the totals that `summary_facts` gave."""
    rows = [f"{'':<8} {'open':>10} {'high':>10} {'low':>10} {'close':>10} {'trades':>8} {'shares':>14} {'R$':>20}"]
    for one in tickers:
        prices = " ".join(f"{price or '-':>10}" for price in (one.open, one.high, one.low, one.last))
        rows.append(f"{one.ticker:<8} {prices} {one.trades:>8,} {one.volume:>14,} {grouped(one.turnover):>20}")
    orders = f"{facts['orders']:,} orders, " if facts.get("orders") is not None else ""
    rows.append(f"{orders}{facts['trades']:,} trades, {facts['volume']:,} shares, R$ {grouped(str(facts['turnover']))}")
    return "\n".join(rows)


def summary_facts(tickers: Iterable[Ticker], orders: int | None) -> dict[str, object]:
    """Return the day's totals."""
    each = list(tickers)
    turnover_cents = sum(parse_cents(one.turnover) or 0 for one in each)
    return {
        "orders": orders,
        "trades": sum(one.trades for one in each),
        "volume": sum(one.volume for one in each),
        "turnover": format_cents(turnover_cents),
    }


def wallet_line(username: str, wallet: Wallet, orders: Sequence[Order]) -> str:
    """Say what an account did and has at the end of the day; of its shares those it sent orders for."""
    line = f"{username}: {len(orders):,} orders, R$ {grouped(wallet.cash.total)}"
    touched = {asset_of(order.ticker) for order in orders}
    shares = [f"{one.total:,} {one.asset}" for one in wallet.shares if one.asset in touched]
    return ", ".join([line, *shares])


def grouped(amount: str) -> str:
    """Write decimal text with commas between thousands: "1234567.80" is "1,234,567.80"."""
    sign = "-" if amount.startswith("-") else ""
    whole, point, fraction = amount.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}" if whole.isdigit() else amount
