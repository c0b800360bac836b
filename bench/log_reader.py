"""Reading a topic while it grows, noting when each record came: a thread with a consumer of its own.

Records are kept whole and looked at afterwards, so that decoding does not delay the next one's time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from confluent_kafka import TopicPartition

from mybroker.runtime.kafka import make_consumer, poll_batch, watermarks

BATCH_MAX = 1_000
POLL_TIMEOUT_S = 0.1
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Heard:
    """One record and when it came (monotonic clock)."""

    value: bytes
    heard_ns: int


class LogReader:
    """Reads what comes after now in some partitions of a topic. Use it in a `with` block."""

    def __init__(self, kafka_url: str, topic: str, partitions: int = 1) -> None:
        """Note where each partition ends now."""
        self.records: list[Heard] = []
        self._consumer = make_consumer(kafka_url)
        ends = [watermarks(self._consumer, topic, partition)[1] for partition in range(partitions)]
        self._consumer.assign([TopicPartition(topic, partition, end) for partition, end in enumerate(ends)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="log reader", daemon=True)

    def __enter__(self) -> LogReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def wait_count(self, count: int, *, within_s: float) -> None:
        """Wait until so many records came; raises TimeoutError."""
        give_up_s = time.monotonic() + within_s
        while len(self.records) < count:
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"{len(self.records)} of {count} records came within {within_s:g} s")
            time.sleep(LOOK_EVERY_S)

    def _read(self) -> None:
        while not self._stopping.is_set():
            batch = poll_batch(self._consumer, BATCH_MAX, timeout_s=POLL_TIMEOUT_S)
            now_ns = time.monotonic_ns()
            self.records += [Heard(message.value() or b"", now_ns) for message in batch if message.error() is None]
