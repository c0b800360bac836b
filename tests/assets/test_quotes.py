"""Which quote counts, and when it is stale."""

import pytest

from mybroker.contracts.quotes import Quote
from mybroker.domain.schedule import parse_instant_ns
from services.broker_assets.quotes import show, supersedes

TEN = "2026-11-23T10:00:00-03:00"
ELEVEN_IN_UTC = "2026-11-23T14:00:00+00:00"


def quote(updated_at=TEN, received_at=TEN, **more):
    return Quote(
        ticker="PETR4",
        price="38.00",
        source="brapi",
        updated_at=updated_at,
        received_at=received_at,
        session_key="local.pregao",
        **more,
    )


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (quote(), None, True),
        (quote(ELEVEN_IN_UTC), quote(TEN), True),
        (quote(TEN), quote(ELEVEN_IN_UTC), False),
        (quote(TEN, ELEVEN_IN_UTC), quote(TEN, TEN), True),
        (quote(TEN, TEN), quote(TEN, ELEVEN_IN_UTC), False),
        (quote(), quote(), True),
    ],
    ids=["the first", "a newer one", "an older one", "received later", "received earlier", "the same again"],
)
def test_a_quote_counts_when_it_is_not_older(new, old, expected):
    assert supersedes(new, old) is expected


@pytest.mark.parametrize(
    ("given", "age_ms", "stale"),
    [
        (quote(), 5_000, False),
        (quote(stale=True), 5_000, True),
        (quote(), 3_600_000, True),
        (quote(), 3_599_999, False),
        (quote(received_at="once upon a time"), 5_000, True),
    ],
    ids=["fresh", "its source says so", "too old", "just not", "no time"],
)
def test_a_quote_is_stale_by_its_source_or_by_its_age(given, age_ms, stale):
    now_ns = parse_instant_ns(TEN) + age_ms * 1_000_000
    assert show(given, now_ns=now_ns).stale is stale


def test_a_quote_from_a_clock_ahead_of_ours_is_not_of_negative_age():
    now_ns = parse_instant_ns(TEN)
    assert now_ns is not None
    assert show(quote(received_at=ELEVEN_IN_UTC), now_ns=now_ns).age_ms == 0
