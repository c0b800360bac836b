"""The public view of one session: frames go in, and what clients must hear comes out. Pure.

Each shard of each market has its own frames in order; a ticker lives in one shard. Trades and busts are returned at
once, since none may be missed; what is a state (book, phase, quote, candle) is marked dirty and looked at when it is
flushed. Until a shard has passed the seq of a book record, events of that record's ticker change no book.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mybroker.contracts.events import (
    AuctionUncrossed,
    BookEntry,
    DayClosed,
    PhaseChanged,
    SessionConfigured,
    TheoreticalChanged,
    TradeBusted,
    TradeExecuted,
)
from mybroker.contracts.feed import BookRecord, Trade, TradeBust
from mybroker.contracts.frames import Frame
from mybroker.domain.phase import Phase
from services.b3_market_feed.day import Bar, TickerDay

HISTORY_MARKS = tuple(
    f'["{kind}",'.encode()
    for kind in ("trade", "busted", "theoretical", "auction", "phase", "configured", "day_closed")
)
"""A frame whose bytes hold none of these changes nothing but books."""

Printed = Trade | TradeBust


@dataclass(slots=True)
class ShardView:
    """One shard: what its frames have said so far."""

    market: str
    shard: int
    log_id: str = ""
    seq: int = 0
    at_ns: int = 0
    phase: Phase = Phase.CLOSED
    phase_at_ns: int = 0
    business_date: str = ""
    days: dict[str, TickerDay] = field(default_factory=dict)
    closing_ticks: dict[str, int] = field(default_factory=dict)
    apart: dict[str, None] = field(default_factory=dict)
    """Instruments in a phase of their own, as a halted one; they follow the market again by their own event."""


@dataclass(slots=True)
class Dirty:
    """Tickers whose state changed since the last flush."""

    books: dict[str, None] = field(default_factory=dict)
    phases: dict[str, None] = field(default_factory=dict)
    quotes: dict[str, None] = field(default_factory=dict)
    bars: dict[tuple[str, int], Bar] = field(default_factory=dict)


class MarketView:
    """All shards of one session."""

    def __init__(self) -> None:
        self.days: dict[str, TickerDay] = {}
        self.shards: dict[tuple[str, int], ShardView] = {}
        self.dirty = Dirty()

    def shard(self, market: str, number: int) -> ShardView:
        """Return a shard's view, made when first asked for."""
        return self.shards.setdefault((market, number), ShardView(market, number))

    def list_tickers(self, shard: ShardView, tickers: Iterable[str]) -> None:
        """Make room for tickers the directory or a configuration names."""
        for ticker in tickers:
            self._day(shard, ticker)

    def load(self, shard: ShardView, record: BookRecord) -> None:
        """Begin a ticker's book with a record, before any frame was applied."""
        day = self._day(shard, record.ticker)
        assert shard.seq == 0, f"{record.ticker}: expected no frame before its book record"
        day.book.load(record)
        day.book.take_changes()
        day.book_loaded_seq = record.seq
        day.reference_ticks = record.reference_price_ticks
        self._touch(day, book=True)

    def note_reference(self, shard: ShardView, record: BookRecord) -> None:
        """Take the reference price from a later record; nothing else of it is needed."""
        day = self._day(shard, record.ticker)
        if record.reference_price_ticks is not None and day.reference_ticks != record.reference_price_ticks:
            day.reference_ticks = record.reference_price_ticks
            self.dirty.quotes[record.ticker] = None

    def apply(self, shard: ShardView, frame: Frame) -> list[Printed]:
        """Take the next frame of a shard; return its trades and busts. Raises BookGap."""
        shard.log_id, shard.seq = frame.log_id, frame.seq
        shard.at_ns = max(shard.at_ns, frame.at_ns)
        printed: list[Printed] = []
        for event in frame.events:
            match event:
                case BookEntry():
                    day = self._day(shard, event.ticker)
                    if frame.seq > day.book_loaded_seq and day.book.apply(event):
                        day.at_ns = frame.at_ns
                        self._touch(day, book=True)
                case TradeExecuted():
                    printed.append(self._trade(self._day(shard, event.ticker), event, frame.at_ns))
                case TradeBusted():
                    day = self._day(shard, event.ticker)
                    day.bust(event.price_ticks, event.quantity_shares)
                    self._touch(day)
                    printed.append(TradeBust(ticker=event.ticker, trade_id=event.trade_id))
                case TheoreticalChanged():
                    day = self._day(shard, event.ticker)
                    day.theoretical = event
                    self.dirty.phases[event.ticker] = None
                case AuctionUncrossed():
                    self._day(shard, event.ticker).theoretical = None
                    self.dirty.phases[event.ticker] = None
                case PhaseChanged():
                    self._phase(shard, event, frame.at_ns)
                case SessionConfigured():
                    self._configured(shard, event)
                case DayClosed():
                    if event.closing_price_ticks is not None:
                        shard.closing_ticks[event.ticker] = event.closing_price_ticks
                case _:
                    pass
        return printed

    def take_dirty(self) -> Dirty:
        """Return what changed since the last call."""
        dirty, self.dirty = self.dirty, Dirty()
        return dirty

    def _trade(self, day: TickerDay, event: TradeExecuted, at_ns: int) -> Trade:
        trade = day.trade(event, at_ns)
        bar = day.bars[-1]
        self.dirty.bars[day.ticker, bar.start_ns] = bar
        self._touch(day)
        return day.show_trade(trade)

    def _phase(self, shard: ShardView, event: PhaseChanged, at_ns: int) -> None:
        if event.ticker is not None:
            changed = [self._day(shard, event.ticker)]
            shard.apart.pop(event.ticker, None)
            if event.phase is not shard.phase:
                shard.apart[event.ticker] = None
        else:
            shard.phase, shard.phase_at_ns = event.phase, at_ns
            if event.phase in (Phase.PRE_OPEN, Phase.CLOSED):
                shard.apart.clear()  # a day begins and ends for all
            changed = [day for day in shard.days.values() if day.ticker not in shard.apart]
        for day in changed:
            day.enter(event.phase, at_ns)
            self.dirty.phases[day.ticker] = None
            self.dirty.quotes[day.ticker] = None

    def _configured(self, shard: ShardView, event: SessionConfigured) -> None:
        self.list_tickers(shard, event.tickers)
        if event.business_date == shard.business_date:
            return
        first_day = shard.business_date == ""
        shard.business_date = event.business_date
        if first_day:
            return
        for day in shard.days.values():
            day.begin_day(shard.closing_ticks.pop(day.ticker, None))
            self.dirty.quotes[day.ticker] = None

    def _day(self, shard: ShardView, ticker: str) -> TickerDay:
        day = shard.days.get(ticker)
        if day is None:
            day = TickerDay(ticker, shard.market, shard.shard)
            day.enter(shard.phase, shard.phase_at_ns)
            shard.days[ticker] = self.days[ticker] = day
        return day

    def _touch(self, day: TickerDay, *, book: bool = False) -> None:
        self.dirty.quotes[day.ticker] = None
        if book:
            self.dirty.books[day.ticker] = None
