"""Full books for the feed: every N commands, after the frames they stand on are delivered.

A feed that starts takes the newest record of each ticker and replays only what came after, instead of the day.
Only tickers that changed since their last record are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from mybroker.contracts.events import BookEntry, PhaseChanged, SessionConfigured, TradeExecuted
from mybroker.contracts.feed import BookOrder, BookRecord
from mybroker.contracts.frames import Frame
from mybroker.runtime.lifecycle import die
from services.b3_matcher.engine.engine import Engine


class BookPublisher:
    """Collects which tickers changed and writes their books to the compacted topic."""

    def __init__(self, producer: Producer, topic: str, partition: int) -> None:
        """Share the matcher's producer, so that its thread polls for both."""
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._changed: dict[str, None] = {}
        self._pending: list[BookRecord] = []
        self._due_seq = 0

    def note(self, frame: Frame) -> None:
        """Remember which tickers a frame changed."""
        for event in frame.events:
            match event:
                case BookEntry() | TradeExecuted():
                    self._changed[event.ticker] = None
                case SessionConfigured():
                    self._changed.update(dict.fromkeys(event.tickers))
                case PhaseChanged() if event.ticker is not None:
                    self._changed[event.ticker] = None
                case _:
                    pass

    def note_tickers(self, tickers: Iterable[str]) -> None:
        """Take these books as changed."""
        self._changed.update(dict.fromkeys(tickers))

    def publish(self, engine: Engine, seq: int, delivered_seq: int) -> None:
        """Take the changed books when they are due; write what was taken once its frames are delivered."""
        if not self._pending and self._changed and seq >= self._due_seq and engine.config is not None:
            self._pending = [_record(engine, ticker, seq) for ticker in self._changed]
            self._changed.clear()
            self._due_seq = seq + engine.config.rules.book_every_commands
        if self._pending and delivered_seq >= self._pending[0].seq:
            try:
                while self._pending:
                    self._write(self._pending[0])
                    del self._pending[0]
            except BufferError:
                return  # the producer is full: the rest goes with the next round

    def _write(self, record: BookRecord) -> None:
        value: Any = msgspec.json.encode(record)
        self._producer.produce(
            self._topic, value, record.ticker, partition=self._partition, on_delivery=_must_be_delivered
        )


def _record(engine: Engine, ticker: str, seq: int) -> BookRecord:
    assert engine.log_id is not None, "a running shard has a log id"
    book = engine.book(ticker)
    return BookRecord(
        log_id=engine.log_id,
        seq=seq,
        at_ns=engine.now_ns,
        ticker=ticker,
        book_seq=book.book_seq,
        phase=book.phase,
        orders=tuple(
            BookOrder(
                entry=entry.entry,
                side=entry.side,
                price_ticks=entry.price_ticks,
                quantity_shares=entry.quantity_shares,
            )
            for entry in (*book.bids, *book.asks)
        ),
        reference_price_ticks=book.reference_price_ticks,
        last_price_ticks=book.last_price_ticks,
        open_price_ticks=book.open_price_ticks,
        high_price_ticks=book.high_price_ticks,
        low_price_ticks=book.low_price_ticks,
        trades=book.trades,
        volume_shares=book.volume_shares,
        turnover_cents=book.turnover_cents,
    )


def _must_be_delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        die("book_not_delivered", error=str(error), topic=message.topic())
