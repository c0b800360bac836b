"""A made-up market for the feed's tests: random but valid frames, and a client as the contract asks for one."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mybroker.contracts.events import (
    BookEntry,
    OrderRef,
    PhaseChanged,
    SessionConfigured,
    TheoreticalChanged,
    TradeExecuted,
    TradeSide,
)
from mybroker.contracts.feed import BookDelta, BookOrder, BookRecord, BookSnapshot, ServerMessage, Trade
from mybroker.contracts.frames import Frame, chain_digest, encode_events, encode_frame
from mybroker.domain.order import Aggressor, Side
from mybroker.domain.phase import Phase

LOG_ID = "log-1"
START_NS = 1_795_000_000 * 1_000_000_000
_DECODER = msgspec.json.Decoder(ServerMessage)


class FrameMaker:
    """Makes a shard's frames from a seed, and keeps its books the simplest way there is."""

    def __init__(self, seed, tickers=("PETR4", "VALE3")):
        self.random = random.Random(seed)
        self.tickers = tickers
        self.orders: dict[str, dict[int, tuple[Any, int | None, int]]] = {ticker: {} for ticker in tickers}
        self.book_seq = dict.fromkeys(tickers, 0)
        self.trades: dict[str, list[Any]] = {ticker: [] for ticker in tickers}
        self.frames = []
        self.digest = "0" * 32
        self.entries = 0
        self.now_ns = START_NS
        self.emit(
            SessionConfigured(revision=1, business_date="2026-11-23", tickers=tuple(tickers)),
            PhaseChanged(ticker=None, phase=Phase.OPEN),
        )

    def emit(self, *events):
        seq = len(self.frames) + 1
        events_bytes = encode_events(events)
        self.digest = chain_digest(self.digest, seq, seq, events_bytes)
        self.now_ns += self.random.randrange(20_000_000_000)
        frame = Frame(
            log_id=LOG_ID,
            seq=seq,
            offset=seq,
            epoch=1,
            engine_version=1,
            at_ns=self.now_ns,
            digest=self.digest,
            events=tuple(events),
        )
        self.frames.append(frame)
        return frame

    def entry(self, ticker, entry, side, price, quantity):
        self.book_seq[ticker] += 1
        if quantity:
            self.orders[ticker][entry] = (side, price, quantity)
        else:
            self.orders[ticker].pop(entry)
        return BookEntry(
            ticker=ticker,
            book_seq=self.book_seq[ticker],
            entry=entry,
            side=side,
            price_ticks=price,
            quantity_shares=quantity,
        )

    def step(self):
        """One frame: orders come, shrink, go, trade; sometimes a theoretical price."""
        ticker = self.random.choice(self.tickers)
        events = []
        for _ in range(self.random.randrange(4)):
            known = self.orders[ticker]
            if known and self.random.random() < 0.5:
                entry = self.random.choice(list(known))
                side, price, quantity = known[entry]
                left = self.random.choice([0, 0, 100, quantity])
                if left < quantity and self.random.random() < 0.6:
                    events.append(self.trade(ticker, price or 3000, quantity - left))
                events.append(self.entry(ticker, entry, side, price, left))
            else:
                self.entries += 1
                side = self.random.choice(list(Side))
                base = 2990 if side is Side.BUY else 3010
                price = None if self.random.random() < 0.05 else base + self.random.randrange(-8, 9)
                events.append(self.entry(ticker, self.entries, side, price, 100 * self.random.randrange(1, 9)))
        if self.random.random() < 0.1:
            events.append(
                TheoreticalChanged(
                    ticker=ticker, price_ticks=3000, quantity_shares=100, imbalance_shares=0, imbalance_side=None
                )
            )
        return self.emit(*events)

    def trade(self, ticker, price, quantity):
        number = len(self.trades[ticker]) + 1
        self.trades[ticker].append((number, price, quantity))
        ref = OrderRef(participant="P", account="1", order_id="o", revision=1, report_number=1)
        side = TradeSide(order=ref, cum_shares=quantity, leaves_shares=0)
        return TradeExecuted(
            trade_id=f"{ticker}-{number}",
            ticker=ticker,
            price_ticks=price,
            quantity_shares=quantity,
            aggressor=Aggressor.BUY,
            buy=side,
            sell=side,
        )

    def record(self, ticker):
        """The compacted book record after the last frame."""
        orders = tuple(
            BookOrder(entry=entry, side=side, price_ticks=price, quantity_shares=quantity)
            for entry, (side, price, quantity) in sorted(self.orders[ticker].items())
        )
        return BookRecord(
            log_id=LOG_ID,
            seq=len(self.frames),
            at_ns=self.now_ns,
            ticker=ticker,
            book_seq=self.book_seq[ticker],
            phase=Phase.OPEN,
            orders=orders,
            reference_price_ticks=2999,
            last_price_ticks=None,
            open_price_ticks=None,
            high_price_ticks=None,
            low_price_ticks=None,
            trades=0,
            volume_shares=0,
            turnover_cents=0,
        )

    def naive_levels(self, ticker):
        """{(side, price text): (quantity, orders)}, by adding up every order."""
        levels: dict[tuple[str, str], tuple[int, int]] = {}
        for side, price, quantity in self.orders[ticker].values():
            key = (side, "market" if price is None else f"{price // 100}.{price % 100:02d}")
            had = levels.get(key, (0, 0))
            levels[key] = (had[0] + quantity, had[1] + 1)
        return levels

    def values(self):
        """The frames as messages of the event log."""
        return [value for frame in self.frames for value in encode_frame(frame, encode_events(frame.events))]


def levels_of(message):
    """The levels of a snapshot or delta in the naive form."""
    sides = ((Side.BUY, message.bids), (Side.SELL, message.asks))
    return {(side, price): (quantity, orders) for side, levels in sides for price, quantity, orders in levels}


@dataclass
class Reader:
    """A client that does what the contract says and nothing more."""

    books: dict = field(default_factory=dict)
    seqs: dict = field(default_factory=dict)
    trades: dict = field(default_factory=dict)
    others: list = field(default_factory=list)

    def hear(self, text):
        message = _DECODER.decode(text)
        match message:
            case BookSnapshot():
                self.books[message.ticker] = levels_of(message)
                self.seqs[message.ticker] = message.seq
            case BookDelta():
                assert message.prev == self.seqs[message.ticker], f"gap: {message} after {self.seqs}"
                assert message.seq > message.prev
                self.seqs[message.ticker] = message.seq
                for key, level in levels_of(message).items():
                    if level[0]:
                        self.books[message.ticker][key] = level
                    else:
                        self.books[message.ticker].pop(key, None)
            case Trade():
                self.trades.setdefault(message.ticker, []).append(message.number)
            case _:
                self.others.append(message)

    def hear_all(self, texts):
        for text in texts:
            self.hear(text)
