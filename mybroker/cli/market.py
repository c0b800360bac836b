"""`mybroker book`, `tape` and `quotes`: the public market, once or live from the stream.

A stream that breaks is taken up again: the tape after the last number it showed, the book from a new snapshot.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from mybroker.cli.failure import Failure
from mybroker.cli.output import answer_json, console, show
from mybroker.cli.sessions import RunningSession, chosen_session, json_option, session_option
from mybroker.cli.signin import public_api
from mybroker.contracts.feed import (
    BookDelta,
    BookSnapshot,
    FeedError,
    MarketPhase,
    ServerMessage,
    Subscribe,
    Trade,
)
from mybroker.contracts.http_assets import QuoteList
from mybroker.contracts.http_feed import SessionState, TradeList
from mybroker.contracts.http_routes import API_PREFIX

if TYPE_CHECKING:
    from rich.live import Live

    from mybroker.cli.live_book import LiveBook

DEPTH = 10
DEPTH_MAX = 1_000
TRADES = 20
TRADES_MAX = 500
AWAY_MAX_S = 30.0
AGAIN_AFTER_S = 0.5
PASSING = frozenset({"feed_starting", "feed_unavailable"})
"""What the stream says while the feed starts or starts again; it is asked again."""

_once = click.option("--once", is_flag=True, help="Show it once instead of staying.")
_MESSAGE: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


@click.command()
@click.argument("ticker")
@click.option("--depth", type=click.IntRange(1, DEPTH_MAX), default=DEPTH, show_default=True, help="Prices a side.")
@_once
@session_option
@json_option
def book(ticker: str, depth: int, once: bool, session: str | None, as_json: bool) -> int:
    """Show TICKER's book, live on a terminal; with --json every message of the stream, a line each."""
    chosen, ticker = chosen_session(session), ticker.upper()
    if not once and as_json:
        for message in _stream(chosen, ("book", "phase"), ticker):
            answer_json(message)
        return 0
    if not once and sys.stdout.isatty():
        _watch_book(chosen, ticker, depth)
        return 0
    snapshot = public_api(chosen).get(f"/book/{ticker}", BookSnapshot, {"depth": depth, "session": chosen.key})
    if as_json:
        answer_json(snapshot)
    else:
        from mybroker.cli.tables import book_table

        show(book_table(ticker, snapshot.bids, snapshot.asks, depth=depth))
    return 0


@click.command()
@click.argument("ticker")
@click.option(
    "--limit", type=click.IntRange(1, TRADES_MAX), default=TRADES, show_default=True, help="Begin with these."
)
@_once
@session_option
@json_option
def tape(ticker: str, limit: int, once: bool, session: str | None, as_json: bool) -> int:
    """Show TICKER's trades as they happen; --json gives a line a trade."""
    chosen, ticker = chosen_session(session), ticker.upper()
    seen = 0
    for trade in _newest(chosen, ticker, limit):
        seen = trade.number
        _print_trade(trade, as_json=as_json)
    if once:
        return 0
    for message in _stream(chosen, ("trades",), ticker):
        if not isinstance(message, Trade) or message.number <= seen:
            continue
        # Between the first page, a break of the stream and now others may have traded: nothing is left out.
        missed = _after(chosen, ticker, seen) if message.number > seen + 1 else ()
        for trade in (*(one for one in missed if one.number < message.number), message):
            seen = trade.number
            _print_trade(trade, as_json=as_json)
    return 0


@click.command()
@click.argument("tickers", nargs=-1)
@session_option
@json_option
def quotes(tickers: tuple[str, ...], session: str | None, as_json: bool) -> int:
    """Show what things cost: the market's own prices, and the last one from outside."""
    chosen = chosen_session(session)
    api = public_api(chosen)
    state = api.get("/state", SessionState, {"session": chosen.key})
    wanted = {ticker.upper() for ticker in tickers}
    unknown = wanted - {one.ticker for one in state.tickers}
    if unknown:
        raise Failure(f"expected tickers of this session, was {', '.join(sorted(unknown))}")
    shown = [one for one in state.tickers if not wanted or one.ticker in wanted]
    outside = {one.ticker: one for one in _outside(chosen).quotes}
    if as_json:
        answer_json({"tickers": shown, "outside": outside})
        return 0
    from mybroker.cli.tables import quotes_table

    words = {ticker: f"{one.price} {one.source}{' (stale)' if one.stale else ''}" for ticker, one in outside.items()}
    show(quotes_table(shown, words))
    return 0


def _outside(session: RunningSession) -> QuoteList:
    try:
        return public_api(session).get("/quotes", QuoteList)
    except Failure:
        # The market's own prices are what was asked for; those from outside are extra.
        return QuoteList(quotes=())


def _newest(session: RunningSession, ticker: str, limit: int) -> tuple[Trade, ...]:
    query = {"limit": limit, "session": session.key}
    return public_api(session).get(f"/trades/{ticker}", TradeList, query).trades


def _after(session: RunningSession, ticker: str, number: int) -> tuple[Trade, ...]:
    query = {"limit": TRADES_MAX, "after": number, "session": session.key}
    return public_api(session).get(f"/trades/{ticker}", TradeList, query).trades


def _print_trade(trade: Trade, *, as_json: bool) -> None:
    if as_json:
        answer_json(trade)
    else:
        from mybroker.cli.tables import trade_line

        click.echo(trade_line(trade))
    sys.stdout.flush()


def _watch_book(session: RunningSession, ticker: str, depth: int) -> None:
    from rich.live import Live

    from mybroker.cli.live_book import Gap, LiveBook

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            kept, phase = LiveBook(), None
            try:
                for message in _stream(session, ("book", "phase"), ticker):
                    if isinstance(message, MarketPhase):
                        phase = message
                    elif isinstance(message, BookSnapshot | BookDelta):
                        kept.hear(message)
                    else:
                        continue
                    _draw(live, ticker, kept, depth, phase)
            except Gap:
                continue


def _draw(live: Live, ticker: str, kept: LiveBook, depth: int, phase: MarketPhase | None) -> None:
    from mybroker.cli.tables import book_table

    live.update(book_table(ticker, kept.bids, kept.asks, depth=depth, phase=phase), refresh=True)


def _stream(session: RunningSession, channels: tuple[str, ...], ticker: str) -> Iterator[ServerMessage]:
    """Yield messages, over breaks of the connection; ends with Failure when the gateway stays away."""
    from websockets.exceptions import InvalidHandshake, WebSocketException
    from websockets.sync.client import connect

    url = session.record.gateway_url.replace("http", "ws", 1) + f"{API_PREFIX}/stream"
    subscribe = msgspec.json.encode(Subscribe(channels=channels, tickers=(ticker,), session=session.key)).decode()
    heard_s = time.monotonic()
    while True:
        try:
            with connect(url, max_size=None) as connection:
                connection.send(subscribe)
                for raw in connection:
                    message = _MESSAGE.decode(raw)
                    if isinstance(message, FeedError) and message.code in PASSING:
                        break
                    if isinstance(message, FeedError):
                        raise Failure(f"{message.detail} ({message.code})", reason=message.code)
                    heard_s = time.monotonic()
                    yield message
        except (OSError, InvalidHandshake, WebSocketException) as error:
            away = str(error)
        else:
            away = "it ends at once"
        if time.monotonic() - heard_s > AWAY_MAX_S:
            raise Failure(f"the stream at {url} does not answer: {away}")
        time.sleep(AGAIN_AFTER_S)
