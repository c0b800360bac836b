"""A status is written as Kubernetes and people read it, and read back as the plan needs it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from mybroker.contracts.market_session import (
    Condition,
    ConditionStatus,
    ConditionType,
    IngestorStatus,
    MarketSessionStatus,
    MarketStatus,
    NextTransition,
)
from mybroker.contracts.market_session_status import status_from_mapping, status_to_mapping
from mybroker.domain.schedule import parse_instant_ns

NOON_NS = parse_instant_ns("2026-11-23T12:00:00-03:00") or 0

STATUS = MarketSessionStatus(
    observed_generation=3,
    phase="Open",
    business_date=date(2026, 11, 23),
    conditions=(
        Condition(
            type=ConditionType.READY,
            status=ConditionStatus.TRUE,
            reason="AllReady",
            message="",
            observed_generation=3,
            last_transition_ns=NOON_NS,
        ),
    ),
    markets=(
        MarketStatus(name="equities", shard=0, phase="open", epoch=4, seq=900, snapshot_seq=800, ready=True),
        MarketStatus(name="equities", shard=1, phase=None, epoch=None, seq=None, snapshot_seq=None, ready=False),
    ),
    ingestors=IngestorStatus(
        replicas=2, ready=1, desired=2, reason="Schedule", selector="a=b", lag=None, scaled_at_ns=NOON_NS
    ),
    next_transition=NextTransition(phase="ClosingCall", at_session_ns=NOON_NS, at_wall_ns=None),
)


def test_a_status_is_written_in_the_words_of_the_crd() -> None:
    assert status_to_mapping(STATUS) == {
        "observedGeneration": 3,
        "phase": "Open",
        "businessDate": "2026-11-23",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "AllReady",
                "message": "",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-11-23T15:00:00Z",
            }
        ],
        "markets": [
            {
                "name": "equities",
                "shard": 0,
                "phase": "open",
                "epoch": 4,
                "seq": 900,
                "snapshotSeq": 800,
                "ready": True,
            },
            {"name": "equities", "shard": 1, "ready": False},
        ],
        "ingestors": {
            "replicas": 2,
            "ready": 1,
            "desired": 2,
            "reason": "Schedule",
            "selector": "a=b",
            "scaledAt": "2026-11-23T15:00:00Z",
        },
        "nextTransition": {"phase": "ClosingCall", "at": "2026-11-23T12:00:00-03:00"},
    }


@pytest.mark.parametrize(
    "status",
    [STATUS, replace(STATUS, next_transition=None, business_date=None, markets=())],
)
def test_a_status_is_read_back_as_it_was(status: MarketSessionStatus) -> None:
    assert status_from_mapping(status_to_mapping(status)) == status


def test_a_time_that_is_none_is_refused() -> None:
    written = status_to_mapping(STATUS)
    written["ingestors"]["scaledAt"] = "noon"
    with pytest.raises(ValueError, match="expected an instant"):
        status_from_mapping(written)
