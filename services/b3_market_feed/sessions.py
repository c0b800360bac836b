"""The sessions this feed serves: one view and one hub each, read from the shards the directory names.

A session is ready when each of its shards has been read to the end once. A market or ticker that is added later joins
while the others go on; a session that leaves the directory is dropped with its readers.
"""

import asyncio
from collections.abc import Sequence

from mybroker.contracts.directory import DirectoryEntry, MarketEntry
from mybroker.contracts.feed import MarketPhase
from mybroker.contracts.http_feed import MarketStatus, MarketSummary, SessionState, ShardProgress
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason
from mybroker.domain.schedule import format_instant
from mybroker.runtime.clock import Clock
from mybroker.runtime.kafka import Record
from mybroker.runtime.kafka_consumer import ConsumerLoop, Handle
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.problem import Problem
from services.b3_market_feed.day import TickerDay
from services.b3_market_feed.fanout import Hub
from services.b3_market_feed.market_view import MarketView, Printed
from services.b3_market_feed.reading import ShardFeed, decode_book
from services.b3_market_feed.stream import wake


class SessionFeed:
    """One session: its entry, its view, its clients, its readers."""

    def __init__(self, context: AppContext, url: str, entry: DirectoryEntry) -> None:
        self.entry = entry
        self.view = MarketView()
        self.hub = Hub(self.view)
        self._context = context
        self._url = url
        self._tasks: dict[tuple[str, int], list[asyncio.Task[object]]] = {}
        self._caught_up: set[tuple[str, int]] = set()
        self.follow(entry)

    @property
    def ready(self) -> bool:
        """Whether every shard has been read to its end."""
        return self._caught_up >= set(self._tasks)

    def follow(self, entry: DirectoryEntry) -> None:
        """Take a new directory entry: read the shards that are new in it."""
        self.entry = entry
        for market in entry.markets:
            for shard in market.shards:
                view = self.view.shard(market.name, shard.shard)
                self.view.list_tickers(view, shard.tickers)
                if (market.name, shard.shard) not in self._tasks:
                    self._read(market, shard.shard)

    def drop(self) -> None:
        """Stop reading."""
        for tasks in self._tasks.values():
            for task in tasks:
                task.cancel()

    def now_ns(self, clock: Clock) -> int:
        """Return session time: the directory's clock, and never before the newest frame."""
        newest_ns = max((shard.at_ns for shard in self.view.shards.values()), default=0)
        return max(newest_ns, self.entry.clock.now_ns(clock.now_ns()))

    def find(self, ticker: str) -> TickerDay:
        """Return a ticker's day; raises Problem 404."""
        day = self.view.days.get(ticker)
        if day is None:
            code = RejectReason.UNKNOWN_INSTRUMENT.value
            raise Problem(404, code, f"no ticker {ticker[:12]} in session {self.entry.session}")
        return day

    def summaries(self, clock: Clock) -> tuple[MarketSummary, ...]:
        """Return the session's markets."""
        return tuple(self._summary(market, clock) for market in self.entry.markets)

    def status(self, name: str, clock: Clock) -> MarketStatus | None:
        """Return one market with its instruments, or None."""
        for market in self.entry.markets:
            if market.name == name:
                shards = [self.view.shard(name, shard.shard) for shard in market.shards]
                phases: list[MarketPhase] = [day.show_phase() for shard in shards for day in shard.days.values()]
                return MarketStatus(
                    market=self._summary(market, clock),
                    instruments=tuple(phases),
                    shards=tuple(
                        ShardProgress(shard=s.shard, log_id=s.log_id, seq=s.seq, at=format_instant(s.at_ns))
                        for s in shards
                    ),
                )
        return None

    def state(self, clock: Clock) -> SessionState:
        """Return the whole session in one answer."""
        return SessionState(
            session=self.entry.session,
            at=format_instant(self.now_ns(clock)),
            markets=self.summaries(clock),
            tickers=tuple(day.show_quote() for day in self.view.days.values()),
        )

    def _summary(self, market: MarketEntry, clock: Clock) -> MarketSummary:
        shards = [self.view.shard(market.name, shard.shard) for shard in market.shards]
        first = shards[0] if shards else None
        return MarketSummary(
            session=self.entry.session,
            market=market.name,
            business_date=self.entry.business_date,
            desired_state=self.entry.desired_state,
            phase=first.phase if first else Phase.CLOSED,
            since=format_instant(first.phase_at_ns if first else 0),
            at=format_instant(self.now_ns(clock)),
            speed=self.entry.clock.speed,
            tickers=tuple(ticker for shard in market.shards for ticker in shard.tickers),
        )

    def _read(self, market: MarketEntry, number: int) -> None:
        key = (market.name, number)
        feed = ShardFeed(
            self._url,
            events_topic=market.events_topic,
            books_topic=market.books_topic,
            view=self.view,
            shard=self.view.shard(market.name, number),
            on_printed=self._printed,
            on_caught_up=lambda: self._caught_up.add(key),
        )
        references = ConsumerLoop(self._url, self._references(key), positions={(market.books_topic, number): -1})
        self._tasks[key] = [
            self._context.supervise(f"shard {market.name}-{number}", feed.run(), may_end=True),
            self._context.supervise(f"references {market.name}-{number}", references.run(), may_end=True),
        ]

    def _printed(self, printed: list[Printed]) -> None:
        if self.ready:
            wake(self.hub.printed(printed))

    def _references(self, key: tuple[str, int]) -> Handle:
        shard = self.view.shard(*key)

        async def heard(records: Sequence[Record]) -> None:
            for record in records:
                if record.value is not None:
                    book = decode_book(record.value)
                    if book.log_id == shard.log_id:
                        self.view.note_reference(shard, book)

        return heard


class Sessions:
    """All sessions of this namespace."""

    def __init__(self, context: AppContext, url: str) -> None:
        self._context = context
        self._url = url
        self._feeds: dict[str, SessionFeed] = {}
        self._directory_read = False

    def directory_read(self) -> None:
        """Note that every session of the directory is known."""
        self._directory_read = True

    @property
    def serving(self) -> bool:
        """Whether a client can be served: there is a session, and all are ready."""
        return self.ready and bool(self._feeds)

    @property
    def feeds(self) -> list[SessionFeed]:
        """The sessions served now, in order of name."""
        return [self._feeds[key] for key in sorted(self._feeds)]

    @property
    def ready(self) -> bool:
        """Whether every session that is known has been read to its end."""
        return self._directory_read and all(feed.ready for feed in self._feeds.values())

    def changed(self, key: str, entry: DirectoryEntry | None) -> None:
        """Take a change of the directory."""
        if entry is not None and entry.namespace != self._context.settings.namespace:
            return
        feed = self._feeds.get(key)
        if entry is None:
            if feed is not None:
                feed.drop()
                del self._feeds[key]
        elif feed is None:
            self._feeds[key] = SessionFeed(self._context, self._url, entry)
        else:
            feed.follow(entry)

    def choose(self, session: str | None) -> SessionFeed:
        """Return the session meant; raises Problem 404 or, when several are open and none is named, 409."""
        if session is not None:
            for feed in self._feeds.values():
                if session in (feed.entry.session, feed.entry.key):
                    return feed
            raise Problem(404, RejectReason.UNKNOWN_SESSION.value, f"no session {session[:60]}")
        if len(self._feeds) == 1:
            return next(iter(self._feeds.values()))
        if not self._feeds:
            raise Problem(404, RejectReason.UNKNOWN_SESSION.value, "no session is open yet", retry_after_s=1)
        names = ", ".join(feed.entry.session for feed in self.feeds)
        raise Problem(409, RejectReason.SESSION_AMBIGUOUS.value, f"expected session to be one of {names}")
