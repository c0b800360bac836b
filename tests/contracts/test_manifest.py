"""MarketSession manifests: what is read, what the defaults are, and what is refused with which words."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mybroker.contracts.manifest import changes_refused, parse_manifest
from mybroker.contracts.manifest_fields import SpecError
from mybroker.contracts.manifest_yaml import load_manifest, parse_yaml
from mybroker.contracts.market_session import (
    Autoscaler,
    ClockMode,
    ClockSpec,
    DeletionPolicy,
    DesiredState,
    MarketSession,
    QuoteSource,
    Roll,
    UpdateStrategy,
)
from mybroker.domain.schedule import HOURS_PRESETS, Hours, parse_instant_ns

SAMPLES = Path(__file__).resolve().parents[2] / "k8s" / "samples"
SUNDAY_NS = parse_instant_ns("2026-11-22T12:00:00-03:00") or 0

REMOVE = object()

MANIFEST: dict[str, Any] = {
    "apiVersion": "markets.mybroker.dev/v1alpha1",
    "kind": "MarketSession",
    "metadata": {"name": "pregao"},
    "spec": {
        "date": "2026-11-23",
        "clock": {"mode": "Simulated", "speed": 60},
        "markets": [
            {"name": "equities", "instruments": ["PETR4", "VALE3"]},
            {"name": "fractional", "instruments": ["PETR4F"]},
        ],
        "ingestors": {"source": "Brapi", "fallback": "Simulated"},
    },
}


def changed(path: str, value: object, manifest: dict[str, Any] = MANIFEST) -> dict[str, Any]:
    """Return a manifest with one field set, or removed; "spec.markets.0.name" counts into lists."""
    manifest = copy.deepcopy(manifest)
    place: Any = manifest
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    key: Any = int(last) if isinstance(place, list) else last
    if value is REMOVE:
        del place[key]
    else:
        place[key] = value
    return manifest


def session_of(manifest: dict[str, Any]) -> MarketSession:
    read = parse_manifest(manifest, now_ns=SUNDAY_NS)
    assert isinstance(read, MarketSession), [str(error) for error in read]
    return read


def messages(manifest: dict[str, Any]) -> list[str]:
    read = parse_manifest(manifest, now_ns=SUNDAY_NS)
    assert not isinstance(read, MarketSession), "expected a refusal"
    return [str(error) for error in read]


def test_the_smallest_manifest_has_every_default() -> None:
    smallest = changed("spec", {"markets": [{"name": "equities", "instruments": ["PETR4"]}]})
    session = session_of(smallest)

    assert (session.name, session.namespace, session.key, session.paused) == ("pregao", "local", "local.pregao", False)
    assert session.spec.date is None
    assert session.spec.roll is Roll.NONE
    assert session.spec.hours == HOURS_PRESETS["b3-summer"]
    assert session.spec.clock == ClockSpec(mode=ClockMode.WALL, speed=1)
    assert session.spec.desired_state is DesiredState.OPEN
    assert session.spec.markets[0].shards == 1
    assert session.spec.markets[0].rules.profile == "b3-equities"
    assert session.spec.ingestors.source is QuoteSource.SIMULATED
    assert session.spec.ingestors.autoscaler is Autoscaler.OPERATOR
    assert session.spec.deletion_policy is DeletionPolicy.RETAIN
    assert session.spec.update_strategy is UpdateStrategy.WHEN_CLOSED


def test_every_field_of_the_design_is_read() -> None:
    read = parse_yaml(
        """
        apiVersion: markets.mybroker.dev/v1alpha1
        kind: MarketSession
        metadata: {name: pregao, namespace: b3, generation: 3, annotations: {markets.mybroker.dev/paused: "true"}}
        spec:
          date: "2026-11-23"
          roll: NextBusinessDay
          timezone: America/Sao_Paulo
          hours: {preOpen: "09:30", open: 10:00, closingCall: "16:00", close: "16:05"}
          clock: {mode: Simulated, speed: 60}
          desiredState: Halted
          markets:
          - name: equities
            instruments: [PETR4, VALE3, ITUB4]
            shards: 2
            rules: {profile: b3-equities, lot: 10, bands: false, stp: none, auctionCandidates: ticks, extensions: true}
          - name: fractional
            instruments: [PETR4F]
          ingestors:
            source: Recording
            fallback: Simulated
            file: days/recorded.jsonl
            autoscaler: KEDA
            replicas: 2
            minReplicas: 1
            maxReplicas: 4
            symbolsPerReplica: 10
            leadTime: 1h30m
            lag: {threshold: 50}
          participants: {marketMakers: 2, noiseTraders: 5, seed: 7}
          deletionPolicy: Delete
          update: {strategy: Supervised}
        """,
        now_ns=SUNDAY_NS,
    )
    assert isinstance(read, MarketSession), [str(error) for error in read]
    spec = read.spec
    equities, fractional = spec.markets

    assert (read.namespace, read.generation, read.paused) == ("b3", 3, True)
    assert (spec.date, spec.roll, spec.desired_state) == (date(2026, 11, 23), "NextBusinessDay", "Halted")
    assert spec.hours == Hours(pre_open_minutes=570, open_minutes=600, closing_call_minutes=960, close_minutes=965)
    assert (equities.shards, equities.rules.lot, equities.rules.bands, equities.rules.stp) == (2, 10, False, "none")
    assert equities.rules.auction_candidates == "ticks"
    assert (equities.rules.extensions, fractional.rules.extensions) == (True, False)
    assert (equities.rules.auction_bands, fractional.rules.auction_bands) == (False, False)
    assert (fractional.is_fractional, equities.is_fractional) == (True, False)
    assert (spec.ingestors.file, spec.ingestors.lag_threshold) == ("days/recorded.jsonl", 50)
    assert spec.ingestors.lead_time_seconds == 5_400
    assert (spec.participants.market_makers, spec.participants.noise_traders, spec.participants.seed) == (2, 5, 7)
    assert (spec.deletion_policy, spec.update_strategy) == ("Delete", "Supervised")


F_HINT = "a ticker without F (F tickers need a market named fractional or profile b3-fractional)"

REFUSED: list[tuple[str, object, str]] = [
    ("apiVersion", "v1", 'apiVersion: expected markets.mybroker.dev/v1alpha1, was "v1"'),
    ("kind", REMOVE, "kind: expected MarketSession, was nothing"),
    ("spec", REMOVE, "spec.markets: expected a list of 1 to 8, was nothing"),
    ("spec", "open", 'spec: expected a mapping, was "open"'),
    ("metadata.name", "Pregão", "metadata.name: expected a name of a-z, 0-9 and hyphens, at most 40 long, no dot"),
    ("metadata.name", "a.b", "metadata.name: expected a name of a-z, 0-9 and hyphens, at most 40 long, no dot"),
    ("metadata.name", REMOVE, "at most 40 long, no dot, was nothing"),
    ("metadata.namespace", "B3", "metadata.namespace: expected a namespace of a-z, 0-9 and hyphens"),
    ("spec.date", "23/11/2026", 'spec.date: expected a date as "2026-11-23", in quotes, from 2000 to 2099, was "23/'),
    ("spec.date", 20261123, "in quotes, from 2000 to 2099, was 20261123"),
    ("spec.date", "2026-02-30", 'spec.date: expected a date as "2026-11-23"'),
    ("spec.date", "1999-01-04", "from 2000 to 2099"),
    ("spec.date", "2026-11-22", 'a day on which B3 trades (the next is 2026-11-23), was "2026-11-22"'),
    ("spec.date", "2026-12-24", 'a day on which B3 trades (the next is 2026-12-28), was "2026-12-24"'),
    ("spec.clock", {"mode": "Wall", "speed": 60}, "spec.clock.speed: expected 1 with a Wall clock"),
    ("spec.clock.speed", 0, "spec.clock.speed: expected a whole number from 1 to 3600, was 0"),
    ("spec.clock.speed", True, "spec.clock.speed: expected a whole number from 1 to 3600, was true"),
    ("spec.clock.mode", "Simulatd", 'one of Simulated, Wall (did you mean Simulated?), was "Simulatd"'),
    ("spec.roll", "Daily", 'spec.roll: expected one of NextBusinessDay, None, was "Daily"'),
    (
        "spec.timezone",
        "Europe/Lisbon",
        'spec.timezone: expected America/Sao_Paulo, the exchange\'s, was "Europe/Lisbon"',
    ),
    ("spec.hours", {"preset": "b3-autumn"}, 'spec.hours.preset: expected one of b3-winter, b3-summer, was "b3-autumn"'),
    ("spec.hours", {"preset": "b3-winter", "open": "10:00"}, "either preset or explicit times, was preset"),
    ("spec.hours", {"open": "10:00"}, "spec.hours: expected all of preOpen, open, closingCall, close, was only open"),
    (
        "spec.hours",
        {"preOpen": "09:45", "open": "9:50", "closingCall": "16:55", "close": "17:00"},
        'spec.hours.open: expected a local time as "09:45", was "9:50"',
    ),
    (
        "spec.hours",
        {"preOpen": "10:00", "open": "09:45", "closingCall": "16:55", "close": "17:00"},
        "spec.hours: expected preOpen < open < closingCall < close, was 10:00, 09:45, 16:55, 17:00",
    ),
    ("spec.desiredState", "open", 'one of Scheduled, Open, Halted, Closed (did you mean Open?), was "open"'),
    ("spec.markets", [], "spec.markets: expected a list of 1 to 8, was a list of 0"),
    ("spec.markets", {"equities": []}, "spec.markets: expected a list of 1 to 8, was a mapping"),
    (
        "spec.markets.0.name",
        "my-market",
        "spec.markets[0].name: expected a name of a-z and 0-9, at most 20 long, without",
    ),
    ("spec.markets.0.name", "b3.main", 'without hyphen or dot, was "b3.main"'),
    (
        "spec.markets.1",
        {"name": "equities", "instruments": ["ITUB4"]},
        "spec.markets[1].name: expected a name not used before (at spec.markets[0])",
    ),
    ("spec.markets.0.instruments", [], "spec.markets[0].instruments: expected a list of 1 to 256, was a list of 0"),
    (
        "spec.markets.0.instruments.1",
        "vale3",
        "spec.markets[0].instruments[1]: expected a ticker as PETR4, BPAC11 or PETR4F",
    ),
    ("spec.markets.0.instruments.1", "PETR4", "a ticker not used before (at spec.markets[0].instruments[0])"),
    ("spec.markets.0.instruments.1", "VALE3F", f'spec.markets[0].instruments[1]: expected {F_HINT}, was "VALE3F"'),
    ("spec.markets.1.instruments.0", "ITUB4", 'a ticker with F in a fractional market, was "ITUB4"'),
    ("spec.markets.0.shards", 17, "spec.markets[0].shards: expected a whole number from 1 to 16, was 17"),
    ("spec.markets.0.shards", 3, "spec.markets[0].shards: expected at most one shard per instrument (2), was 3"),
    (
        "spec.markets.0.rules",
        {"profile": "nyse"},
        "spec.markets[0].rules.profile: expected one of b3-equities, b3-frac",
    ),
    ("spec.markets.0.rules", {"bands": "no"}, 'spec.markets[0].rules.bands: expected true or false, was "no"'),
    (
        "spec.ingestors.source",
        "Bloomberg",
        "spec.ingestors.source: expected one of Brapi, Cotahist, Recording, Simulated",
    ),
    ("spec.ingestors.fallback", "Brapi", "spec.ingestors.fallback: expected another source than Brapi"),
    (
        "spec.ingestors.source",
        "Cotahist",
        "spec.ingestors.file: expected the file that source Cotahist reads, was nothing",
    ),
    ("spec.ingestors.fallback", "Recording", "the file that fallback Recording reads"),
    ("spec.ingestors.file", "x.zip", "spec.ingestors.file: expected no file with source Brapi"),
    ("spec.ingestors.minReplicas", 7, "spec.ingestors.minReplicas: expected at most maxReplicas (6), was 7"),
    (
        "spec.ingestors.autoscaler",
        "KEDA",
        "spec.ingestors.lag: expected {threshold: …}, which autoscaler KEDA scales by",
    ),
    (
        "spec.ingestors.leadTime",
        "10 min",
        'spec.ingestors.leadTime: expected a duration as "10m" or "1h30m", was "10 min"',
    ),
    ("spec.ingestors.leadTime", "", "a duration as"),
    ("spec.ingestors.leadTime", "13h", "spec.ingestors.leadTime: expected at most 12h"),
    (
        "spec.ingestors.lag",
        {"treshold": 5},
        "spec.ingestors.lag.treshold: expected no such field (did you mean threshold?)",
    ),
    (
        "spec.participants",
        {"noiseTraders": -1},
        "spec.participants.noiseTraders: expected a whole number from 0 to 200",
    ),
    ("spec.participants", {"seed": 1.5}, "spec.participants.seed: expected a whole number from 0 to 9007199254740991"),
    ("spec.deletionPolicy", "Keep", "spec.deletionPolicy: expected one of Retain, Delete"),
    ("spec.update", {"strategy": "Now"}, "spec.update.strategy: expected one of WhenClosed, Supervised, Immediate"),
    ("spec.desiredstate", "Open", 'spec.desiredstate: expected no such field (did you mean desiredState?), was "Open"'),
    ("spec.markets.0.instrument", [], "spec.markets[0].instrument: expected no such field (did you mean instruments?)"),
    ("spec.xyzzy", 1, "spec.xyzzy: expected one of clock, date, deletionPolicy, desiredState, hours, ingestors"),
    ("specs", {}, "specs: expected no such field (did you mean spec?)"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=[f"{row[0]}={row[1]}"[:60] for row in REFUSED])
def test_a_wrong_manifest_is_refused_with_path_and_reason(path: str, value: object, message: str) -> None:
    refused = messages(changed(path, value))
    assert len(refused) == 1, refused
    assert message in refused[0]


def test_all_mistakes_come_at_once_in_the_order_of_the_fields() -> None:
    manifest = changed("spec.date", "2026-11-22")
    manifest["spec"]["clock"]["speed"] = -1
    manifest["spec"]["markets"][0]["instruments"] = ["PETR4", "petr4", "PETR4"]
    manifest["spec"]["ingestors"]["minReplicas"] = 9

    assert [message.split(": ", 1)[0] for message in messages(manifest)] == [
        "spec.date",
        "spec.clock.speed",
        "spec.markets[0].instruments[1]",
        "spec.markets[0].instruments[2]",
        "spec.ingestors.minReplicas",
    ]


def test_a_past_date_needs_a_simulated_clock() -> None:
    past = changed("spec.date", "2024-11-08")
    assert session_of(past).spec.date == date(2024, 11, 8)

    past["spec"]["clock"] = {"mode": "Wall"}
    assert messages(past) == [
        'spec.date: expected today (2026-11-22) or later with a Wall clock, was "2024-11-08"',
    ]


def test_today_is_not_past() -> None:
    manifest = changed("spec.clock", {"mode": "Wall"})
    late_on_monday_ns = parse_instant_ns("2026-11-23T23:59:00-03:00") or 0
    assert isinstance(parse_manifest(manifest, now_ns=late_on_monday_ns), MarketSession)


def test_an_object_read_back_from_a_cluster_is_accepted() -> None:
    manifest = changed("status", {"phase": "Open"})
    manifest["metadata"] |= {"uid": "1", "resourceVersion": "5", "managedFields": [], "generation": 2}
    assert session_of(manifest).generation == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1 column 6: expected YAML, was expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2\n", "line 2 column 1: expected YAML, was key 'a' twice"),
        ("", "manifest: expected one MarketSession as a YAML mapping, was 0 documents"),
        ("- 1\n", "manifest: expected one MarketSession as a YAML mapping, was list"),
        ("a: 1\n---\nb: 2\n", "manifest: expected one MarketSession as a YAML mapping, was 2 documents"),
    ],
)
def test_text_that_is_no_manifest_is_refused_with_its_place(text: str, message: str) -> None:
    read = parse_yaml(text, now_ns=SUNDAY_NS)
    assert isinstance(read, tuple)
    assert [str(error) for error in read] == [message]


def test_an_unquoted_date_and_time_are_text_and_not_something_else() -> None:
    read = parse_yaml(
        "apiVersion: markets.mybroker.dev/v1alpha1\nkind: MarketSession\nmetadata: {name: x}\n"
        "spec: {date: 2026-11-23, hours: {preOpen: 09:45, open: 10:00, closingCall: 16:55, close: 17:00},\n"
        "  markets: [{name: on, instruments: [PETR4]}]}\n",
        now_ns=SUNDAY_NS,
    )
    assert isinstance(read, MarketSession), [str(error) for error in read]
    assert read.spec.date == date(2026, 11, 23)
    assert read.spec.hours == HOURS_PRESETS["b3-winter"]
    assert read.spec.markets[0].name == "on"


def test_a_file_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    read = load_manifest(tmp_path / "none.yaml", now_ns=SUNDAY_NS)
    assert isinstance(read, tuple)
    assert "none.yaml: expected a readable file in UTF-8, was" in str(read[0])


@pytest.mark.parametrize("name", ["pregao.yaml", "dia-cotahist.yaml"])
def test_the_samples_are_valid(name: str) -> None:
    read = load_manifest(SAMPLES / name, now_ns=SUNDAY_NS)
    assert isinstance(read, MarketSession), [str(error) for error in read]
    assert read.spec.clock.mode is ClockMode.SIMULATED
    assert read.spec.ingestors.fallback is QuoteSource.SIMULATED


def test_a_files_path_is_taken_from_the_manifests_folder() -> None:
    read = load_manifest(SAMPLES / "dia-cotahist.yaml", now_ns=SUNDAY_NS)
    assert isinstance(read, MarketSession)
    assert read.spec.ingestors.file is not None
    path = Path(read.spec.ingestors.file)
    assert path.is_absolute()
    assert path == (SAMPLES / "../../../shared/data/cotahist/COTAHIST_D08112024.ZIP").resolve()


CHANGES: list[tuple[str, object, bool, str | None]] = [
    ("spec.markets.0.shards", 1, False, "spec.markets[0].shards: expected 2 or more, shards only grow, was 1"),
    ("spec.markets.0.shards", 3, False, None),
    ("spec.markets.0.shards", 3, True, "spec.markets[0].shards: expected 2 while the market is open, was 3"),
    ("spec.date", "2026-11-24", True, 'spec.date: expected 2026-11-23 while a market is open, was "2026-11-24"'),
    ("spec.date", "2026-11-24", False, None),
    (
        "spec.markets.0.instruments",
        ["PETR4", "VALE3", "ABEV3"],
        True,
        "expected ITUB4 to stay while the market is open",
    ),
    ("spec.markets.0.instruments", ["PETR4", "VALE3", "ABEV3"], False, None),
    ("spec.markets.0.instruments", ["PETR4", "VALE3", "ITUB4", "ABEV3"], True, None),
    ("spec.markets.1", REMOVE, True, "spec.markets: expected market fractional to stay while it is open, was nothing"),
    ("spec.markets.1", REMOVE, False, None),
    ("spec.clock.speed", 120, True, None),
]


@pytest.mark.parametrize(("path", "value", "markets_open", "message"), CHANGES)
def test_a_running_session_refuses_some_changes(
    path: str, value: object, markets_open: bool, message: str | None
) -> None:
    before = changed("spec.markets.0", {"name": "equities", "instruments": ["PETR4", "VALE3", "ITUB4"], "shards": 2})
    after = changed(path, value, before)

    refused = changes_refused(session_of(before).spec, session_of(after).spec, markets_open=markets_open)

    assert [type(error) for error in refused] == ([] if message is None else [SpecError])
    if message is not None:
        assert message in str(refused[0])
