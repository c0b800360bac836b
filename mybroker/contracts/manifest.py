"""Reading a MarketSession manifest: a mapping becomes a `MarketSession`, or every mistake with its path.

The rules here are those of the CRD, so that `mybroker up` refuses what Kubernetes would refuse. Pure: what depends on
today takes `now_ns`. `manifest_changes` holds the rules about changing a session that is there already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Any

from mybroker.contracts.manifest_fields import Fields, SpecError, matches, shown, spec_error
from mybroker.contracts.market_session import (
    API_VERSION,
    CLOCK_SPEED_MAX,
    FRACTIONAL_MARKET_NAME,
    INGESTOR_REPLICAS_MAX,
    INSTRUMENTS_PER_MARKET_MAX,
    KIND,
    LAG_THRESHOLD_MAX,
    LEAD_TIME_SECONDS_MAX,
    MARKET_MAKERS_MAX,
    MARKET_NAME_PATTERN,
    MARKETS_MAX,
    NOISE_TRADERS_MAX,
    PAUSED_ANNOTATION,
    PROFILE_EQUITIES,
    PROFILE_FRACTIONAL,
    SEED_MAX,
    SESSION_NAME_PATTERN,
    SHARDS_MAX,
    SOURCES_THAT_READ_A_FILE,
    SYMBOLS_PER_REPLICA_MAX,
    Autoscaler,
    ClockMode,
    ClockSpec,
    DeletionPolicy,
    DesiredState,
    IngestorSpec,
    MarketSession,
    MarketSessionSpec,
    MarketSpec,
    ParticipantsSpec,
    QuoteSource,
    Roll,
    UpdateStrategy,
)
from mybroker.domain.calendar import B3, YEAR_MIN, Calendar
from mybroker.domain.instrument import TICKER_PATTERN, is_fractional_ticker
from mybroker.domain.order import SelfTradePrevention
from mybroker.domain.rules import AuctionCandidates, AuctionInterval, Rules
from mybroker.domain.schedule import (
    EXCHANGE_TIMEZONE_NAME,
    HOURS_PRESETS,
    Hours,
    format_clock,
    local_date,
    parse_clock_minutes,
)

NAMESPACE_DEFAULT = "local"
NAMESPACE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DATE_YEAR_MAX = 2099
QUANTITY_RULE_MAX_SHARES = 10_000_000_000

_METADATA_FIELDS = (
    "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation "
    "labels managedFields name namespace ownerReferences resourceVersion selfLink uid"
).split()
_HOURS_FIELDS = ("preOpen", "open", "closingCall", "close")
_DURATION = re.compile(r"(?:(\d{1,2})h)?(?:(\d{1,4})m)?(?:(\d{1,5})s)?")


def parse_manifest(
    manifest: Mapping[str, Any], *, now_ns: int, calendar: Calendar = B3
) -> MarketSession | tuple[SpecError, ...]:
    """Read a manifest.

    Returns the session with every default filled in, or all mistakes in the order of the fields. `now_ns` (wall)
    decides only whether a date has passed.
    """
    errors: list[SpecError] = []
    top = Fields(manifest, "", errors)
    if (version := top.get("apiVersion")) != API_VERSION:
        top.refuse("apiVersion", API_VERSION, version)
    if (kind := top.get("kind")) != KIND:
        top.refuse("kind", KIND, kind)
    top.get("status")  # an object read back from a cluster carries one
    name, namespace, generation, paused = _metadata(top.mapping("metadata"))
    spec_fields = top.mapping("spec")
    spec = _spec(spec_fields, now_ns, calendar) if spec_fields.is_mapping else None
    top.finish()
    if errors or spec is None:
        return tuple(errors)
    return MarketSession(name=name, namespace=namespace, generation=generation, paused=paused, spec=spec)


def _metadata(fields: Fields) -> tuple[str, str, int, bool]:
    name_expected = "a name of a-z, 0-9 and hyphens, at most 40 long, no dot"
    if not fields.has("name"):
        fields.refuse(fields.at("name"), name_expected, None)
    name = fields.text("name", pattern=SESSION_NAME_PATTERN, expected=name_expected) or ""
    namespace = fields.text("namespace", pattern=NAMESPACE_PATTERN, expected="a namespace of a-z, 0-9 and hyphens")
    generation = fields.integer("generation", default=1, minimum=1, maximum=2**53 - 1)
    annotations = fields.get("annotations")
    paused = isinstance(annotations, Mapping) and annotations.get(PAUSED_ANNOTATION) in ("true", True)
    for known in _METADATA_FIELDS:
        fields.get(known)
    fields.finish()
    return name, namespace or NAMESPACE_DEFAULT, generation, paused


def _spec(fields: Fields, now_ns: int, calendar: Calendar) -> MarketSessionSpec:
    day = _date(fields, calendar)
    roll = fields.choice("roll", Roll, default=Roll.NONE)
    timezone = fields.get("timezone") or EXCHANGE_TIMEZONE_NAME
    if timezone != EXCHANGE_TIMEZONE_NAME:
        fields.refuse(fields.at("timezone"), f"{EXCHANGE_TIMEZONE_NAME}, the exchange's", timezone)
    hours = _hours(fields.mapping("hours"))
    clock = _clock(fields.mapping("clock"))
    if day is not None and clock.mode is ClockMode.WALL and day < local_date(now_ns):
        fields.refuse(fields.at("date"), f"today ({local_date(now_ns)}) or later with a Wall clock", day.isoformat())
    desired_state = fields.choice("desiredState", DesiredState, default=DesiredState.OPEN)
    markets = _markets(fields)
    ingestors = _ingestors(fields.mapping("ingestors"))
    participants = _participants(fields.mapping("participants"))
    deletion_policy = fields.choice("deletionPolicy", DeletionPolicy, default=DeletionPolicy.RETAIN)
    update = fields.mapping("update")
    strategy = update.choice("strategy", UpdateStrategy, default=UpdateStrategy.WHEN_CLOSED)
    update.finish()
    fields.finish()
    return MarketSessionSpec(
        markets=markets,
        date=day,
        roll=roll,
        hours=hours,
        clock=clock,
        desired_state=desired_state,
        ingestors=ingestors,
        participants=participants,
        deletion_policy=deletion_policy,
        update_strategy=strategy,
    )


def _date(fields: Fields, calendar: Calendar) -> date | None:
    value = fields.get("date")
    if value is None:
        return None
    expected = f'a date as "2026-11-23", in quotes, from {YEAR_MIN} to {DATE_YEAR_MAX}'
    if not isinstance(value, str) or not matches(r"\d{4}-\d{2}-\d{2}", value):
        fields.refuse(fields.at("date"), expected, value)
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        fields.refuse(fields.at("date"), expected, value)
        return None
    if not YEAR_MIN <= day.year <= DATE_YEAR_MAX:
        fields.refuse(fields.at("date"), expected, value)
        return None
    if not calendar.is_business_day(day):
        following = calendar.next_business_day(day)
        fields.refuse(fields.at("date"), f"a day on which B3 trades (the next is {following})", value)
        return None
    return day


def _hours(fields: Fields) -> Hours:
    default = HOURS_PRESETS["b3-summer"]
    preset = fields.get("preset")
    given = [name for name in _HOURS_FIELDS if fields.has(name)]
    minutes = {name: _clock_minutes(fields, name) for name in _HOURS_FIELDS}
    fields.finish()
    if preset is not None and given:
        both = f"preset {shown(preset)} and {', '.join(given)}"
        fields.errors.append(SpecError(path=fields.path, expected="either preset or explicit times", given=both))
        return default
    if preset is not None:
        if preset not in HOURS_PRESETS:
            fields.refuse(fields.at("preset"), f"one of {', '.join(HOURS_PRESETS)}", preset)
        return HOURS_PRESETS.get(str(preset), default)
    if not given:
        return default
    if given != list(_HOURS_FIELDS):
        expected = f"all of {', '.join(_HOURS_FIELDS)}"
        fields.errors.append(SpecError(path=fields.path, expected=expected, given=f"only {', '.join(given)}"))
        return default
    known = [time for time in minutes.values() if time is not None]
    if len(known) != len(_HOURS_FIELDS):
        return default
    if any(later <= earlier for earlier, later in pairwise(known)):
        shown_times = ", ".join(format_clock(time) for time in known)
        fields.errors.append(
            SpecError(path=fields.path, expected="preOpen < open < closingCall < close", given=shown_times)
        )
        return default
    return Hours(
        pre_open_minutes=known[0], open_minutes=known[1], closing_call_minutes=known[2], close_minutes=known[3]
    )


def _clock_minutes(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    minutes = parse_clock_minutes(value) if isinstance(value, str) else None
    if minutes is None:
        fields.refuse(fields.at(name), 'a local time as "09:45"', value)
    return minutes


def _clock(fields: Fields) -> ClockSpec:
    # A mode that is wrong is one mistake; what only a Wall clock forbids would be a second about the same field.
    mode = fields.choice("mode", ClockMode, default=ClockMode.SIMULATED if fields.has("mode") else ClockMode.WALL)
    speed = fields.integer("speed", default=1, minimum=1, maximum=CLOCK_SPEED_MAX)
    fields.finish()
    if mode is ClockMode.WALL and speed != 1:
        fields.refuse(fields.at("speed"), "1 with a Wall clock (mode Simulated can be faster)", speed)
    return ClockSpec(mode=mode, speed=speed)


def _markets(fields: Fields) -> tuple[MarketSpec, ...]:
    markets: list[MarketSpec] = []
    path_by_name: dict[str, str] = {}
    path_by_ticker: dict[str, str] = {}
    for path, item in fields.items("markets", count_min=1, count_max=MARKETS_MAX):
        market = _market(Fields(item, path, fields.errors), path_by_ticker)
        if market.name in path_by_name:
            fields.refuse(f"{path}.name", f"a name not used before (at {path_by_name[market.name]})", market.name)
        elif market.name:
            path_by_name[market.name] = path
        markets.append(market)
    return tuple(markets)


def _market(fields: Fields, path_by_ticker: dict[str, str]) -> MarketSpec:
    name_expected = "a name of a-z and 0-9, at most 20 long, without hyphen or dot"
    if not fields.has("name"):
        fields.refuse(fields.at("name"), name_expected, None)
    name = fields.text("name", pattern=MARKET_NAME_PATTERN, expected=name_expected) or ""
    rules = _rules(fields.mapping("rules"), name)
    fractional = rules.profile == PROFILE_FRACTIONAL
    tickers: list[str] = []
    for path, ticker in fields.items("instruments", count_min=1, count_max=INSTRUMENTS_PER_MARKET_MAX):
        if not isinstance(ticker, str) or not matches(TICKER_PATTERN, ticker):
            fields.refuse(path, "a ticker as PETR4, BPAC11 or PETR4F", ticker)
        elif ticker in path_by_ticker:
            fields.refuse(path, f"a ticker not used before (at {path_by_ticker[ticker]})", ticker)
        elif fractional != is_fractional_ticker(ticker):
            fields.refuse(path, _fractional_expected(fractional=fractional), ticker)
        else:
            tickers.append(ticker)
        if isinstance(ticker, str):
            path_by_ticker.setdefault(ticker, path)
    shards = fields.integer("shards", default=1, minimum=1, maximum=SHARDS_MAX)
    if tickers and shards > len(tickers):
        fields.refuse(fields.at("shards"), f"at most one shard per instrument ({len(tickers)})", shards)
    fields.finish()
    return MarketSpec(name=name, instruments=tuple(tickers), shards=shards, rules=rules)


def _fractional_expected(*, fractional: bool) -> str:
    if fractional:
        return "a ticker with F in a fractional market"
    return (
        f"a ticker without F (F tickers need a market named {FRACTIONAL_MARKET_NAME} or profile {PROFILE_FRACTIONAL})"
    )


def _rules(fields: Fields, market_name: str) -> Rules:
    default = PROFILE_FRACTIONAL if market_name == FRACTIONAL_MARKET_NAME else PROFILE_EQUITIES
    profile = fields.get("profile") or default
    if profile not in (PROFILE_EQUITIES, PROFILE_FRACTIONAL):
        fields.refuse(fields.at("profile"), f"one of {PROFILE_EQUITIES}, {PROFILE_FRACTIONAL}", profile)
        profile = default
    standard = Rules()
    has_lot = fields.has("lot")
    lot = fields.integer("lot", default=1, minimum=1, maximum=1_000_000)
    rules = Rules(
        profile=profile,
        lot=lot if has_lot else None,
        bands=fields.boolean("bands", default=standard.bands),
        # Off unless asked for: what they halt waits for a supervisor, and a session has one only if somebody is there.
        auction_bands=fields.boolean("auctionBands", default=False),
        extensions=fields.boolean("extensions", default=False),
        stp=fields.choice("stp", SelfTradePrevention, default=standard.stp),
        auction_candidates=fields.choice("auctionCandidates", AuctionCandidates, default=standard.auction_candidates),
        auction_interval=fields.choice("auctionInterval", AuctionInterval, default=standard.auction_interval),
        quantity_max_shares=fields.integer(
            "quantityMax", default=standard.quantity_max_shares, minimum=1, maximum=QUANTITY_RULE_MAX_SHARES
        ),
    )
    fields.finish()
    return rules


def _ingestors(fields: Fields) -> IngestorSpec:
    source = fields.choice_or_none("source", QuoteSource)
    if source is None and not fields.has("source"):
        source = QuoteSource.SIMULATED
    fallback = fields.choice_or_none("fallback", QuoteSource)
    file = fields.text("file", expected="a file's path", length_max=1_024)
    autoscaler = fields.choice("autoscaler", Autoscaler, default=Autoscaler.OPERATOR)
    replicas = fields.integer("replicas", default=1, minimum=0, maximum=INGESTOR_REPLICAS_MAX)
    min_replicas = fields.integer("minReplicas", default=1, minimum=0, maximum=INGESTOR_REPLICAS_MAX)
    max_replicas = fields.integer("maxReplicas", default=6, minimum=1, maximum=INGESTOR_REPLICAS_MAX)
    per_replica = fields.integer("symbolsPerReplica", default=20, minimum=1, maximum=SYMBOLS_PER_REPLICA_MAX)
    lead_time_seconds = _duration_seconds(fields, "leadTime", default=600, maximum=LEAD_TIME_SECONDS_MAX)
    has_lag = fields.has("lag")
    lag = fields.mapping("lag")
    threshold = lag.integer("threshold", default=20, minimum=1, maximum=LAG_THRESHOLD_MAX)
    lag.finish()
    fields.finish()
    if source is not None:
        _sources_agree(fields, source, fallback)
    if min_replicas > max_replicas:
        fields.refuse(fields.at("minReplicas"), f"at most maxReplicas ({max_replicas})", min_replicas)
    if autoscaler is Autoscaler.KEDA and not has_lag:
        fields.refuse(fields.at("lag"), "{threshold: …}, which autoscaler KEDA scales by", None)
    return IngestorSpec(
        source=source or QuoteSource.SIMULATED,
        fallback=fallback,
        file=file,
        autoscaler=autoscaler,
        replicas=replicas,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        symbols_per_replica=per_replica,
        lead_time_seconds=lead_time_seconds,
        lag_threshold=threshold if has_lag else None,
    )


def _sources_agree(fields: Fields, source: QuoteSource, fallback: QuoteSource | None) -> None:
    if fallback is source:
        fields.refuse(fields.at("fallback"), f"another source than {source}", fallback)
    readers = [(name, wanted) for name, wanted in (("source", source), ("fallback", fallback)) if wanted is not None]
    readers = [(name, wanted) for name, wanted in readers if wanted in SOURCES_THAT_READ_A_FILE]
    if readers and not fields.has("file"):
        fields.refuse(fields.at("file"), f"the file that {readers[0][0]} {readers[0][1]} reads", None)
    if not readers and fields.has("file"):
        expected = f"no file with source {source} (only Cotahist and Recording read one)"
        fields.refuse(fields.at("file"), expected, fields.get("file"))


def _duration_seconds(fields: Fields, name: str, *, default: int, maximum: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        fields.refuse(fields.at(name), 'a duration as "10m" or "1h30m"', value)
        return default
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total_seconds = hours * 3_600 + minutes * 60 + seconds
    if total_seconds > maximum:
        fields.refuse(fields.at(name), f"at most {maximum // 3_600}h", value)
        return default
    return total_seconds


def _participants(fields: Fields) -> ParticipantsSpec:
    participants = ParticipantsSpec(
        market_makers=fields.integer("marketMakers", default=0, minimum=0, maximum=MARKET_MAKERS_MAX),
        noise_traders=fields.integer("noiseTraders", default=0, minimum=0, maximum=NOISE_TRADERS_MAX),
        seed=fields.integer("seed", default=1, minimum=0, maximum=SEED_MAX),
    )
    fields.finish()
    return participants


def changes_refused(
    before: MarketSessionSpec, after: MarketSessionSpec, *, markets_open: bool
) -> tuple[SpecError, ...]:
    """Return what may not be changed from one spec to the next; the CRD's transition rules.

    Shards never shrink. While a market is open, date, timezone and shards are fixed and no market or instrument leaves.
    """
    errors: list[SpecError] = []
    after_by_name = {market.name: market for market in after.markets}
    if markets_open and before.date is not None and after.date != before.date:
        errors.append(spec_error("spec.date", f"{before.date} while a market is open", str(after.date)))
    if markets_open and after.timezone != before.timezone:
        errors.append(spec_error("spec.timezone", f"{before.timezone} while a market is open", after.timezone))
    for old in before.markets:
        new = after_by_name.get(old.name)
        if new is None:
            if markets_open:
                errors.append(spec_error("spec.markets", f"market {old.name} to stay while it is open", None))
            continue
        path = f"spec.markets[{after.markets.index(new)}]"
        if new.shards < old.shards:
            errors.append(spec_error(f"{path}.shards", f"{old.shards} or more, shards only grow", new.shards))
        elif markets_open and new.shards != old.shards:
            errors.append(spec_error(f"{path}.shards", f"{old.shards} while the market is open", new.shards))
        gone = [ticker for ticker in old.instruments if ticker not in new.instruments]
        if markets_open and gone:
            expected = f"{', '.join(gone)} to stay while the market is open"
            errors.append(spec_error(f"{path}.instruments", expected, new.instruments))
    return tuple(errors)
