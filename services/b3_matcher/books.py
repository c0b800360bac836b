"""Full books for the feed: every N commands, after the frames they stand on are delivered.

A feed that starts takes the newest record of each ticker and replays only what came after, instead of the day.
Only tickers that changed since their last record are written.
"""

from __future__ import annotations

from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from mybroker.contracts.events import BookEntry, PhaseChanged, SessionConfigured, TradeExecuted
from mybroker.contracts.feed import BookRecord
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

    def publish(self, engine: Engine, seq: int, delivered_seq: int) -> None:
        """Take the changed books when they are due; write what was taken once its frames are delivered."""
        if not self._pending and self._changed and seq >= self._due_seq and engine.config is not None:
            self._pending = [_record(engine, ticker, seq) for ticker in self._changed]
            self._changed.clear()
            self._due_seq = seq + engine.config.rules.book_every_commands
        if self._pending and delivered_seq >= self._pending[0].seq:
            for record in self._pending:
                self._write(record)
            self._pending = []

    def _write(self, record: BookRecord) -> None:
        value: Any = msgspec.json.encode(record)
        self._producer.produce(
            self._topic, value, record.ticker, partition=self._partition, on_delivery=_must_be_delivered
        )


def _record(engine: Engine, ticker: str, seq: int) -> BookRecord:
    assert engine.log_id is not None, "a running shard has a log id"
    return engine.book_record(ticker, seq=seq)


def _must_be_delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        die("book_not_delivered", error=str(error), topic=message.topic())
