"""The bench's own arithmetic: percentiles, rates, processor time, tables."""

from __future__ import annotations

import json

import pytest

from bench.latency import ms_text, percentile, summarise
from bench.machine import cpu_span, first_to_saturate
from bench.open_loop import Sent
from bench.orders import Measured, achieved_per_second, why_saturated
from bench.report import Result, as_document, per_second, render
from bench.traffic import Step

MS = 1_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7], 50, 7),
        ([7], 99, 7),
        ([1, 2], 50, 1),
        ([1, 2], 51, 2),
        ([1, 2, 3], 50, 2),
        (list(range(1, 101)), 50, 50),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 101)), 100, 100),
        (list(range(1, 102)), 99, 100),
        (list(range(1, 1_001)), 99, 990),
        (list(range(1, 1_001)), 1, 10),
        ([5, 5, 5, 9], 75, 5),
        ([5, 5, 5, 9], 76, 9),
    ],
)
def test_a_percentile_is_the_smallest_value_that_covers_so_many(values: list[int], percent: int, expected: int):
    assert percentile(values, percent) == expected
    covered = sum(value <= expected for value in values)
    assert covered * 100 >= percent * len(values)
    assert sum(value < expected for value in values) * 100 < percent * len(values)


def test_a_percentile_of_nothing_is_a_bug():
    with pytest.raises(AssertionError):
        percentile([], 50)
    with pytest.raises(AssertionError):
        percentile([1], 0)


def test_latencies_come_in_any_order_and_none_are_none():
    found = summarise([30, 10, 20])

    assert found is not None
    assert (found.count, found.p50_ns, found.p99_ns, found.max_ns) == (3, 20, 30, 30)
    assert summarise([]) is None


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0.0"),
        (49_999, "0.0"),
        (50_000, "0.1"),
        (1_250_000, "1.3"),
        (99_949_999, "99.9"),
        (12_345_678_901, "12345.7"),
    ],
)
def test_milliseconds_are_rounded_half_up_to_a_tenth(value_ns: int, text: str):
    assert ms_text(value_ns) == text


@pytest.mark.parametrize(
    ("count", "took_ns", "rate"),
    [(100, SECOND, 100), (100, 2 * SECOND, 50), (1, 3 * SECOND, 0), (10, 0, 0), (7, SECOND // 2, 14)],
)
def test_a_rate_is_whole_and_rounded_down(count: int, took_ns: int, rate: int):
    assert per_second(count, took_ns) == rate


def step_of(
    rate: int,
    seconds: int,
    *,
    acknowledged: int,
    last_ms: int,
    latency_ms: int = 10,
    trade_ms: int = 20,
    held_back: int = 0,
) -> Step:
    """A step whose acknowledged orders all took the same time; the last answer came `last_ms` after the start."""
    step = Step(rate_per_second=rate)
    planned = rate * seconds
    step.sent = Sent(started_ns=SECOND, ended_ns=SECOND, sent=planned - held_back, held_back=held_back, late_ns_max=0)
    step.acknowledged_ns = [latency_ms * MS] * acknowledged
    step.traded_ns = [trade_ms * MS] * (acknowledged // 2)
    step.last_acknowledged_at_ns = SECOND + last_ms * MS
    return step


@pytest.mark.parametrize(
    ("step", "achieved", "why"),
    [
        (step_of(100, 10, acknowledged=1_000, last_ms=9_995), 100, None),
        (step_of(100, 10, acknowledged=950, last_ms=9_995), 95, None),
        (step_of(100, 10, acknowledged=949, last_ms=9_995), 94, "less than 95 %"),
        (step_of(100, 10, acknowledged=1_000, last_ms=12_500), 80, "less than 95 %"),
        (step_of(100, 10, acknowledged=1_000, last_ms=9_995, latency_ms=1_000), 100, None),
        (step_of(100, 10, acknowledged=1_000, last_ms=9_995, latency_ms=1_001), 100, "acknowledgement p99"),
        (step_of(100, 10, acknowledged=1_000, last_ms=9_995, trade_ms=1_001), 100, "order to trade p99"),
        (step_of(100, 10, acknowledged=500, last_ms=9_995, held_back=500), 50, "less than 95 %"),
        (step_of(100, 10, acknowledged=0, last_ms=0), 0, "less than 95 %"),
        (step_of(10, 10, acknowledged=100, last_ms=10_400), 9, None),
    ],
)
def test_a_step_is_saturated_when_less_or_later_comes_than_was_offered(step: Step, achieved: int, why: str | None):
    assert achieved_per_second(step) == achieved
    said = why_saturated(step)
    assert said is None if why is None else said is not None and said.startswith(why)


def test_an_order_costs_what_is_used_above_the_idle_session():
    idle = cpu_span({}, {"kafka": 1_000, "orders": 500}, took_ms=5_000, machine_ms=1_500)
    cpu = cpu_span({}, {"kafka": 3_000, "orders": 3_500, "wallet": 500}, took_ms=10_000, machine_ms=9_000)
    measured = Measured(step=step_of(100, 10, acknowledged=1_000, last_ms=9_995), cpu=cpu, idle=idle)

    assert measured.cpu_ms_per_order == "4.0"


def test_processor_time_is_told_by_program_and_the_rest_is_others():
    span = cpu_span(
        {"orders": 1_000, "wallet": 500, "matcher": 9_000},
        {"orders": 3_000, "wallet": 600, "matcher": 50, "feed": 70},
        took_ms=2_000,
        machine_ms=3_000,
    )

    assert [(share.name, share.used_ms) for share in span.shares] == [
        ("orders", 2_000),
        ("wallet", 100),
        ("feed", 70),
        ("matcher", 50),  # started again meanwhile
    ]
    assert span.others_ms == 3_000 - 2_220
    assert span.percent_of_core(2_000) == 100


@pytest.mark.parametrize(
    ("used_ms", "machine_ms", "told"),
    [
        ({"orders": 950, "wallet": 300}, 1_400, "one core of orders"),
        ({"orders": 800, "wallet": 700, "kafka": 300, "feed": 100}, 1_990, "the machine's 2 cores"),
        ({"orders": 400, "wallet": 300}, 1_950, "the machine's 2 cores, most of it programs that are not ours 125 %"),
        ({"orders": 400, "wallet": 300}, 900, "not the processor"),
        ({}, 0, "not the processor"),
    ],
)
def test_what_saturates_first_is_a_full_core_or_the_machine_or_a_wait(
    used_ms: dict[str, int], machine_ms: int, told: str
):
    span = cpu_span({}, used_ms, took_ms=1_000, machine_ms=machine_ms)

    assert first_to_saturate(span, 2).startswith(told)


def test_a_table_has_every_field_once_numbers_to_the_right_and_a_dash_for_what_is_missing():
    result = Result(name="some", title="a title")
    result.add_row(what="first", rate_per_s=1_234_567, p50_ms="1.5")
    result.add_row(what="the second", rate_per_s=7, others_percent=12)
    result.notes.append("a note")

    assert render(result).splitlines() == [
        "some: a title",
        "  what        rate per s  p50 ms  others percent",
        "  first        1,234,567     1.5               -",
        "  the second           7       -              12",
        "  a note",
    ]


def test_further_tables_follow_and_the_document_holds_them_as_values():
    result = Result(name="some", title="a title")
    result.add_row(rate=1)
    result.add_table("more").add_row(program="kafka", percent=40)

    assert render(result).splitlines() == [
        "some: a title",
        "  rate",
        "     1",
        "",
        "some: more",
        "  program  percent",
        "  kafka         40",
    ]
    document = json.loads(json.dumps(as_document(result)))
    assert document["rows"] == [{"rate": 1}]
    assert document["more"][0]["rows"] == [{"program": "kafka", "percent": 40}]
