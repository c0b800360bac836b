"""Trace contexts cross every border unchanged, and metrics are declared once under the house's names."""

import re

import pytest

from mybroker.runtime import telemetry
from mybroker.runtime.clock import ManualClock
from mybroker.runtime.ids import TimeOrderedIds

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

READ = [
    (f"00-{T}-{S}-01", (T, S, True)),
    (f"00-{T}-{S}-00", (T, S, False)),
    (f"cc-{T}-{S}-01-what-comes-later", (T, S, True)),
    (f"ff-{T}-{S}-01", None),
    (f"00-{'0' * 32}-{S}-01", None),
    (f"00-{T}-{'0' * 16}-01", None),
    (f"00-{T.upper()}-{S}-01", None),
    (f"00-{T}-{S}", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_a_traceparent_is_read_or_treated_as_absent(text: str | None, expected: tuple[str, str, bool] | None) -> None:
    trace = telemetry.parse_traceparent(text)
    assert (trace and (trace.trace_id, trace.span_id, trace.sampled)) == expected


def test_a_trace_crosses_kafka_amqp_and_http_headers() -> None:
    with telemetry.tracing(None) as trace:
        assert telemetry.extract(telemetry.inject_kafka()) == trace
        assert telemetry.extract(telemetry.inject_mapping()) == trace
        assert telemetry.child().trace_id == trace.trace_id
        assert telemetry.child().span_id != trace.span_id
    assert telemetry.current_trace() is None
    assert telemetry.inject_kafka() == []


def test_a_metric_declared_twice_is_the_same_metric() -> None:
    first = telemetry.counter("mbb3_telemetry_test_total", "For this test", ["kind"])
    assert telemetry.counter("mbb3_telemetry_test_total", "For this test", ["kind"]) is first
    first.labels("a").inc(3)
    assert b'mbb3_telemetry_test_total{kind="a"} 3.0' in telemetry.render_metrics()


@pytest.mark.parametrize("name", ["orders_total", "mbb3_orders"])
def test_a_counter_with_a_name_outside_the_house_rules_is_a_bug(name: str) -> None:
    with pytest.raises(AssertionError):
        telemetry.counter(name, "")


def test_ids_are_ordered_by_time_and_never_step_back_with_the_clock() -> None:
    clock = ManualClock(1_700_000_000_000_000_000)
    ids = TimeOrderedIds(clock)
    made = [ids.new_id() for _ in range(5_000)]
    clock._now_ns -= 60_000_000_000
    made += [ids.new_id() for _ in range(5_000)]
    clock.advance(ms=120_000)
    made.append(ids.new_id())
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in made)
