"""Who hears what: subscriptions, conflation per slow client, and nothing missing. Pure; the shell only sends.

Every client has two kinds of mail. Trades, busts and snapshots wait in order and are never dropped; more than
PRINTS_WAITING_MAX of them ends the connection, and the client resumes by number. Books, phases, quotes and candles
are states: only that they changed is noted, and what is sent is the newest. A fast client shares one encoded delta
with the others; one that fell behind gets a delta of its own from where it was, or a snapshot when that is smaller.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from functools import partial

import msgspec

from mybroker.contracts.feed import BookDelta, FeedError, Heartbeat, ServerMessage, Subscribe, Subscribed, Unsubscribe
from services.b3_market_feed.book import LevelKey
from services.b3_market_feed.day import TRADES_KEPT_MAX, TickerDay
from services.b3_market_feed.market_view import MarketView, Printed

PRINTS_WAITING_MAX = 10_000
TRADES_ON_SUBSCRIBE = 50
TRADES_ON_SUBSCRIBE_TOTAL = 1_000
CLIENTS_MAX = 2_000

_ENCODER = msgspec.json.Encoder()


class Channel(StrEnum):
    """What can be subscribed to, by ticker."""

    BOOK = "book"
    TRADES = "trades"
    PHASE = "phase"
    QUOTES = "quotes"
    CANDLES = "candles"


def encode(message: ServerMessage) -> str:
    """Return a message as the text of one WebSocket frame."""
    return _ENCODER.encode(message).decode()


class _WaitingBook:
    """A book change a client has not been sent: the shared text while that is enough, else the levels."""

    __slots__ = ("changed", "seq", "shared")

    def __init__(self, changed: Collection[LevelKey], shared: str | None, seq: int) -> None:
        self.changed = set(changed)
        self.shared = shared
        self.seq = seq


class Client:
    """One connection: its subscriptions and its mail."""

    def __init__(self) -> None:
        self.wanted: dict[Channel, set[str]] = {channel: set() for channel in Channel}
        self.book_seq: dict[str, int] = {}
        self.overflowed = False
        self.conflated = 0
        self._prints: list[str] = []
        self._books: dict[str, _WaitingBook] = {}
        self._states: dict[tuple[Channel, str, int], str] = {}

    @property
    def has_mail(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._prints or self._books or self._states)

    def print(self, text: str) -> None:
        """Add a message that may not be dropped."""
        if len(self._prints) >= PRINTS_WAITING_MAX:
            self.overflowed = True
        else:
            self._prints.append(text)

    def state(self, channel: Channel, ticker: str, start_ns: int, text: str) -> None:
        """Note the newest of a state; the one that waits is replaced."""
        key = (channel, ticker, start_ns)
        self.conflated += key in self._states
        self._states[key] = text

    def book(self, ticker: str, delta: BookDelta, text: str, changed: Collection[LevelKey]) -> None:
        """Note that a book changed."""
        waiting = self._books.get(ticker)
        if waiting is None:
            fits = self.book_seq.get(ticker) == delta.prev
            self._books[ticker] = _WaitingBook(changed, text if fits else None, delta.seq)
            return
        self.conflated += 1
        waiting.changed.update(changed)
        waiting.shared = None

    def take(self, view: MarketView) -> list[str]:
        """Return everything to send now and forget it."""
        prints, self._prints = self._prints, []
        states, self._states = self._states, {}
        books, self._books = self._books, {}
        prints.extend(states.values())
        for ticker, waiting in books.items():
            text = self._book_text(view, ticker, waiting)
            if text is not None:
                prints.append(text)
        return prints

    def take_prints(self) -> list[str]:
        """Return the answers of a client that has no session yet."""
        prints, self._prints = self._prints, []
        return prints

    def forget_book(self, ticker: str) -> None:
        """Drop a book's position and what waits of it."""
        self.book_seq.pop(ticker, None)
        self._books.pop(ticker, None)

    def _book_text(self, view: MarketView, ticker: str, waiting: _WaitingBook) -> str | None:
        book = view.days[ticker].book
        prev = self.book_seq[ticker]
        if waiting.shared is not None:
            self.book_seq[ticker] = waiting.seq
            return waiting.shared
        if prev == book.book_seq:
            return None
        # The live book may be ahead of the last flush: its levels not yet flushed belong to this seq as well.
        changed = waiting.changed | set(book.changes)
        self.book_seq[ticker] = book.book_seq
        if len(changed) >= book.levels:
            return encode(book.snapshot())
        return encode(book.delta(prev, changed))


class Hub:
    """All clients of one session."""

    def __init__(self, view: MarketView) -> None:
        self.view = view
        self.clients: dict[Client, None] = {}
        self._flushed_seq: dict[str, int] = {}

    def subscribe(self, client: Client, asked: Subscribe) -> FeedError | None:
        """Add channels of tickers (none named: all) and put their present state into the client's mail.

        With `after`, trades above that number are sent instead of the newest ones.
        """
        channels = _channels(asked.channels)
        if isinstance(channels, FeedError):
            return channels
        unknown = [ticker for ticker in asked.tickers if ticker not in self.view.days]
        if unknown:
            return FeedError(code="unknown_instrument", detail=f"no such ticker in this session: {unknown[0]}")
        tickers = asked.tickers or tuple(self.view.days)
        trades_each = max(1, min(TRADES_ON_SUBSCRIBE, TRADES_ON_SUBSCRIBE_TOTAL // max(1, len(tickers))))
        for channel in channels:
            client.wanted[channel].update(tickers)
        client.print(encode(self.subscribed(client)))
        for channel in channels:
            for ticker in tickers:
                self._greet(client, channel, self.view.days[ticker], asked.after, trades_each)
        return None

    def unsubscribe(self, client: Client, asked: Unsubscribe) -> FeedError | None:
        """Take channels of tickers (none named: all) away."""
        channels = _channels(asked.channels)
        if isinstance(channels, FeedError):
            return channels
        for channel in channels:
            for ticker in asked.tickers or tuple(client.wanted[channel]):
                client.wanted[channel].discard(ticker)
                if channel is Channel.BOOK:
                    client.forget_book(ticker)
        client.print(encode(self.subscribed(client)))
        return None

    def subscribed(self, client: Client) -> Subscribed:
        """Return what a client is subscribed to now."""
        channels = tuple(channel.value for channel in Channel if client.wanted[channel])
        tickers = sorted(set().union(*client.wanted.values()))
        return Subscribed(channels=channels, tickers=tuple(tickers))

    def printed(self, messages: Iterable[Printed]) -> list[Client]:
        """Hand trades and busts to who wants them; return the clients that have mail by it."""
        woken: dict[Client, None] = {}
        for message in messages:
            text = ""
            for client in self.clients:
                if message.ticker in client.wanted[Channel.TRADES]:
                    text = text or encode(message)
                    client.print(text)
                    woken[client] = None
        return list(woken)

    def flush(self) -> list[Client]:
        """Note every state that changed since the last flush; return the clients that have mail."""
        dirty, days = self.view.take_dirty(), self.view.days
        for ticker in dirty.books:
            self._flush_book(ticker)
        for ticker in dirty.phases:
            self._flush_state(Channel.PHASE, ticker, 0, days[ticker].show_phase)
        for ticker in dirty.quotes:
            self._flush_state(Channel.QUOTES, ticker, 0, days[ticker].show_quote)
        for (ticker, start_ns), bar in dirty.bars.items():
            self._flush_state(Channel.CANDLES, ticker, start_ns, partial(days[ticker].show_candle, bar))
        return [client for client in self.clients if client.has_mail]

    def heartbeat(self, at: str) -> list[Client]:
        """Tell every client that the feed is alive."""
        text = encode(Heartbeat(at=at))
        for client in self.clients:
            client.print(text)
        return list(self.clients)

    def _flush_book(self, ticker: str) -> None:
        book = self.view.days[ticker].book
        changed = book.take_changes()
        prev = self._flushed_seq.get(ticker, 0)
        self._flushed_seq[ticker] = book.book_seq
        if not changed:
            return
        delta, text = None, ""
        for client in self.clients:
            if ticker in client.wanted[Channel.BOOK]:
                if delta is None:
                    delta = book.delta(prev, changed)
                    text = encode(delta)
                client.book(ticker, delta, text, changed)

    def _flush_state(self, channel: Channel, ticker: str, start_ns: int, show: Callable[[], ServerMessage]) -> None:
        text = ""
        for client in self.clients:
            if ticker in client.wanted[channel]:
                text = text or encode(show())
                client.state(channel, ticker, start_ns, text)

    def _greet(self, client: Client, channel: Channel, day: TickerDay, after: int | None, trades_each: int) -> None:
        match channel:
            case Channel.BOOK:
                client.forget_book(day.ticker)
                client.book_seq[day.ticker] = day.book.book_seq
                client.print(encode(day.book.snapshot()))
            case Channel.TRADES:
                newest = day.newest_trades(trades_each)
                for trade in newest if after is None else day.trades_after(after, TRADES_KEPT_MAX):
                    client.print(encode(trade))
            case Channel.PHASE:
                client.print(encode(day.show_phase()))
            case Channel.QUOTES:
                client.print(encode(day.show_quote()))
            case Channel.CANDLES:
                if day.bars:
                    client.print(encode(day.show_candle(day.bars[-1])))


def _channels(names: Sequence[str]) -> list[Channel] | FeedError:
    expected = ", ".join(Channel)
    if not names:
        return FeedError(code="channel_missing", detail=f"expected channels of {expected}")
    for name in names:
        if name not in tuple(Channel):
            return FeedError(code="unknown_channel", detail=f"expected one of {expected}, was {name[:40]}")
    return [Channel(name) for name in names]
