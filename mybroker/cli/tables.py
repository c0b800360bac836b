"""Tables of what people read; each function takes answers and returns something rich can print. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mybroker.cli.up_news import clock_of, exit_words, grouped, seconds_words
from mybroker.contracts.feed import Level, MarketPhase, Ticker, Trade
from mybroker.contracts.http_broker import Order, PrivateEvent, Wallet
from mybroker.local.engines.machine import Finding

MIB = 1 << 20
BUY, SELL, GOOD, BAD, QUIET = "green", "red", "green", "red", "dim"


def table(title: str | None, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table; columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def book_table(
    ticker: str, bids: Sequence[Level], asks: Sequence[Level], *, depth: int, phase: MarketPhase | None = None
) -> Group:
    """Return a book, best prices first, buyers left."""
    numbers = ("orders", "shares", "buy", "sell", "shares ", "orders ")
    made = table(None, *numbers, right=("orders", "shares", "buy", "shares ", "orders "))
    for row in range(min(depth, max(len(bids), len(asks), 1))):
        buy = _level(bids[row]) if row < len(bids) else ("", "", "")
        sell = _level(asks[row]) if row < len(asks) else ("", "", "")
        made.add_row(buy[0], buy[1], Text(buy[2], BUY), Text(sell[2], SELL), sell[1], sell[0])
    return Group(Text(book_title(ticker, phase), "bold"), made)


def book_title(ticker: str, phase: MarketPhase | None) -> str:
    """Return ticker and phase, and the theoretical price where there is one."""
    if phase is None:
        return ticker
    title = f"{ticker}  {phase.phase}"
    if phase.theoretical_price is not None:
        title += f"  theoretical {phase.theoretical_price} × {phase.theoretical_quantity:,}"
    if phase.imbalance:
        title += f"  imbalance {phase.imbalance:,} {phase.imbalance_side or ''}".rstrip()
    return title


def _level(level: Level) -> tuple[str, str, str]:
    price, quantity, orders = level
    return str(orders), f"{quantity:,}", price


def trade_line(trade: Trade) -> str:
    """Return one trade as a line of the tape."""
    side = {"buy": "buyer took", "sell": "seller took"}.get(trade.aggressor, "auction")
    return f"{trade.at[11:19]}  {trade.ticker:<8} {trade.price:>10}  {trade.quantity:>10,}  {side:<11}  {trade.number}"


def quotes_table(tickers: Iterable[Ticker], outside: Mapping[str, str]) -> Table:
    """Return the market's quotes; `outside` gives the last price from outside by ticker, with its source."""
    numbers = ("last", "buy", "sell", "open", "high", "low", "trades", "shares")
    made = table(None, "ticker", *numbers, "phase", "outside", right=numbers)
    for one in tickers:
        prices = [price or "-" for price in (one.last, one.bid, one.ask, one.open, one.high, one.low)]
        made.add_row(
            one.ticker, *prices, f"{one.trades:,}", f"{one.volume:,}", str(one.phase), outside.get(one.ticker, "-")
        )
    return made


def orders_table(orders: Iterable[Order]) -> Table:
    """Return orders, as they came."""
    numbers = ("quantity", "price", "filled", "average")
    made = table(None, "id", "ticker", "side", *numbers, "status", "why", right=numbers)
    for order in orders:
        made.add_row(
            order.id,
            order.ticker,
            Text(order.side, BUY if order.side == "buy" else SELL),
            f"{order.quantity:,}",
            order.price or str(order.type),
            f"{order.filled_quantity:,}",
            order.average_price or "-",
            order.status,
            order.reason or "",
        )
    return made


def order_line(order: Order) -> str:
    """Say in one line what became of an order."""
    price = f" at {order.price}" if order.price else f" {order.type}"
    line = f"{order.id}  {order.side} {order.quantity:,} {order.ticker}{price}: {order.status.replace('_', ' ')}"
    if order.filled_quantity:
        line += f", {order.filled_quantity:,} at {order.average_price}"
    return line + (f" ({order.reason})" if order.reason else "")


def wallet_table(wallet: Wallet) -> Table:
    """Return cash first, then shares."""
    made = table(
        f"account {wallet.account}", "asset", "available", "held", "total", right=("available", "held", "total")
    )
    cash = wallet.cash
    made.add_row("R$", grouped(cash.available), grouped(cash.held), grouped(cash.total))
    for one in wallet.shares:
        made.add_row(one.asset, f"{one.available:,}", f"{one.held:,}", f"{one.total:,}")
    return made


def event_line(event: PrivateEvent) -> str:
    """Return one private event as a line."""
    line = f"{event.seq:>6}  {event.at[11:19]}  {event.kind:<15}"
    if event.wallet is not None:
        moved = event.wallet
        line += f" {moved.kind} {moved.amount} {moved.asset}" + (f" for {moved.order_id}" if moved.order_id else "")
    if event.order is not None:
        line += f" {event.order.ticker} {event.order.side} {event.order.id} {event.order.status}"
    if event.trade is not None:
        line += f"  {event.trade.quantity:,} at {event.trade.price}"
    return line + (f"  {event.reason}" if event.reason else "")


def status_tables(status: Mapping[str, Any], now_wall_ns: int) -> list[Table | Text]:
    """Return the runner's answer as a headline and tables of markets, processes and engines."""
    return [
        Text(headline(status, now_wall_ns), "bold"),
        _conditions(status),
        _markets(status),
        _processes(status),
        _engines(status),
    ]


def headline(status: Mapping[str, Any], now_wall_ns: int) -> str:
    """Return session, phase, clock and what comes next in one line."""
    parts = [str(status["session"]), str(status["phase"])]
    clock = status.get("clock")
    if clock is not None:
        pace = "paused" if clock["speed"] == 0 else f"speed {clock['speed']}"
        parts.append(f"{status.get('business_date')} {clock_of(clock['now_ns'])} ({pace})")
    upcoming = status.get("next_transition")
    if upcoming is not None:
        comes = f"{upcoming['phase']} at {clock_of(upcoming['at_session_ns'])[:5]}"
        if upcoming.get("at_wall_ns") is not None:
            comes += f", in {seconds_words((upcoming['at_wall_ns'] - now_wall_ns) / 1e9)}"
        parts.append(comes)
    ingestors = status.get("ingestors")
    if ingestors is not None:
        lag = "unknown" if ingestors["lag"] is None else str(ingestors["lag"])
        parts.append(f"ingestors {ingestors['ready']}/{ingestors['desired']}, lag {lag}")
    return "   ".join([*parts, str(status.get("gateway_url") or "")]).rstrip()


def _conditions(status: Mapping[str, Any]) -> Text:
    bad = [
        f"{one['type']}: {one['reason']} {one['message']}".rstrip()
        for one in status.get("conditions", ())
        if (one["status"] == "True") == (one["type"] in ("Degraded", "Paused", "UpgradePending"))
        or one["status"] == "Unknown"
    ]
    return Text("\n".join(bad), BAD) if bad else Text("all conditions are as they should be", QUIET)


def _markets(status: Mapping[str, Any]) -> Table:
    numbers = ("seq", "snapshot", "epoch")
    made = table(None, "market", "phase", *numbers, "", right=numbers)
    for one in status.get("markets", ()):
        numbers_shown = ["-" if one[name] is None else f"{one[name]:,}" for name in ("seq", "snapshot_seq", "epoch")]
        made.add_row(f"{one['name']}-{one['shard']}", one["phase"] or "-", *numbers_shown, escape(one["message"]))
    return made


def _processes(status: Mapping[str, Any]) -> Table:
    made = table(None, "process", "", "pid", "restarts", "MiB", "waits for", right=("pid", "restarts", "MiB"))
    for name, one in status.get("processes", {}).items():
        state = Text("ready", GOOD) if one["ready"] else Text("starting" if one["running"] else "ended", BAD)
        waits = ", ".join(one["waiting_for"]) if one["running"] else exit_words(one["exit_code"])
        made.add_row(name, state, str(one["pid"]), str(one["restarts"]), mib(one["resident_bytes"]), escape(waits))
    return made


def _engines(status: Mapping[str, Any]) -> Table:
    made = table(None, "engine", "", "pid", "answered in", "MiB", "", right=("pid", "answered in", "MiB"))
    total = sum(one["resident_bytes"] for one in status.get("engines", {}).values())
    total += sum(one["resident_bytes"] for one in status.get("processes", {}).values())
    for name, one in status.get("engines", {}).items():
        state = Text("ready", GOOD) if one["ok"] else Text("away", BAD)
        said = "" if one["ok"] else escape(one["text"])
        whose = str(one["pid"]) if one["ours"] else "given"
        made.add_row(name, state, whose, f"{one['took_ms']} ms", mib(one["resident_bytes"]), said)
    made.add_row("together", "", "", "", mib(total), "")
    return made


def mib(count: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{count / MIB:,.0f}" if count else "-"


def doctor_table(findings: Iterable[Finding]) -> Table:
    """Return what this machine has; what is missing stands beside it."""
    made = table(None, "", "what", "found", "missing")
    made.columns[3].no_wrap = False
    for one in findings:
        word = (
            Text("ok", GOOD)
            if not one.missing
            else Text("missing" if one.needed else "note", BAD if one.needed else QUIET)
        )
        made.add_row(word, one.what, one.found, one.missing)
    return made
