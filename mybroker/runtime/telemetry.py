"""Trace context and metrics.

Traces follow W3C `traceparent`. The current context lives in a context variable, so it follows tasks; it crosses
processes in HTTP headers, Kafka headers, AMQP headers and outbox rows through `inject_*` and `extract`. A malformed
traceparent is treated as absent, never as an error.

Metrics are declared once per process in one registry. Names begin with `mbb3_`; counters end in `_total`; label
values must be few (never an account or an order). Declaring the same name again returns the first metric.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

M = TypeVar("M", bound=MetricWrapperBase)

TRACEPARENT = "traceparent"
METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """One span of one trace."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


_current: ContextVar[TraceContext | None] = ContextVar("mybroker_trace", default=None)


def current_trace() -> TraceContext | None:
    """The trace this task works for, if any."""
    return _current.get()


def new_trace() -> TraceContext:
    """A new trace with its first span. Does not become current by itself: see `tracing`."""
    return TraceContext(trace_id=os.urandom(16).hex(), span_id=os.urandom(8).hex())


def child(parent: TraceContext | None = None) -> TraceContext:
    """A new span under `parent` (default: the current trace); a new trace when there is none."""
    above = parent or _current.get()
    if above is None:
        return new_trace()
    return TraceContext(trace_id=above.trace_id, span_id=os.urandom(8).hex(), sampled=above.sampled)


@contextmanager
def tracing(trace: TraceContext | None) -> Iterator[TraceContext]:
    """Make `trace` (None: a new one) current inside the block."""
    inside = trace or new_trace()
    token = _current.set(inside)
    try:
        yield inside
    finally:
        _current.reset(token)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Read a traceparent; None when it is absent or malformed."""
    match = _FORM.match(text) if text else None
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return TraceContext(trace_id=match[1], span_id=match[2], sampled=bool(int(match[3], 16) & 1))


def inject_mapping(trace: TraceContext | None = None) -> dict[str, str]:
    """Headers for HTTP, AMQP and outbox rows: the trace given, else the current one; empty when there is none."""
    sent = trace or _current.get()
    return {} if sent is None else {TRACEPARENT: sent.traceparent}


def inject_kafka(trace: TraceContext | None = None) -> list[tuple[str, bytes]]:
    """The same as `inject_mapping` in the form of Kafka headers."""
    sent = trace or _current.get()
    return [] if sent is None else [(TRACEPARENT, sent.traceparent.encode())]


def extract(headers: Mapping[str, object] | Iterable[tuple[str, object]] | None) -> TraceContext | None:
    """The trace in HTTP, AMQP or Kafka headers (names in lower case), or None."""
    if headers is None:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        if name == TRACEPARENT:
            return parse_traceparent(value.decode("ascii", "replace") if isinstance(value, bytes) else str(value))
    return None


REGISTRY = CollectorRegistry()
_declared: dict[str, MetricWrapperBase] = {}


def counter(name: str, says: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; its name ends in `_total`."""
    assert name.endswith("_total"), f"expected a counter's name to end in _total, was {name}"
    return _declare(Counter, name, lambda: Counter(name, says, labels, registry=REGISTRY))


def gauge(name: str, says: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare a gauge."""
    assert not name.endswith("_total"), f"expected a gauge's name without _total, was {name}"
    return _declare(Gauge, name, lambda: Gauge(name, says, labels, registry=REGISTRY))


def histogram(
    name: str, says: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
) -> Histogram:
    """Declare a histogram; times are in seconds."""
    return _declare(Histogram, name, lambda: Histogram(name, says, labels, registry=REGISTRY, buckets=buckets))


def render_metrics() -> bytes:
    """All metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


def _declare(kind: type[M], name: str, make: Callable[[], M]) -> M:
    assert name.startswith("mbb3_"), f"expected a metric name that starts with mbb3_, was {name}"
    metric = _declared.get(name)
    if metric is None:
        metric = _declared[name] = make()
    assert isinstance(metric, kind), f"expected {name} to stay a {type(metric).__name__}"
    return metric
