"""MarketSession (`markets.mybroker.dev/v1alpha1`): what its author asks for, and what is reported back.

These are values only: `manifest` reads and checks a spec, `market_session_status` writes a status, and the CRD
is generated from the same limits. Nobody writes a spec but its author: the current day, clock and phases are status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from mybroker.domain.rules import Rules
from mybroker.domain.schedule import EXCHANGE_TIMEZONE_NAME, HOURS_PRESETS, Hours

API_VERSION = "markets.mybroker.dev/v1alpha1"
KIND = "MarketSession"
PAUSED_ANNOTATION = "markets.mybroker.dev/paused"

SESSION_NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""A DNS label without dots, short enough that children's names stay labels."""

MARKET_NAME_PATTERN = r"^[a-z][a-z0-9]{0,19}$"
"""No hyphen and no dot: a topic's name and a workload's name must split back into their parts."""

MARKETS_MAX = 8
INSTRUMENTS_PER_MARKET_MAX = 256
SHARDS_MAX = 16
CLOCK_SPEED_MAX = 3_600
INGESTOR_REPLICAS_MAX = 32
SYMBOLS_PER_REPLICA_MAX = 1_000
LEAD_TIME_SECONDS_MAX = 12 * 3_600
LAG_THRESHOLD_MAX = 100_000
MARKET_MAKERS_MAX = 20
NOISE_TRADERS_MAX = 200
SEED_MAX = 2**53 - 1
"""The largest integer every JSON reader keeps exact."""

PROFILE_EQUITIES = "b3-equities"
PROFILE_FRACTIONAL = "b3-fractional"
FRACTIONAL_MARKET_NAME = "fractional"
"""A market of this name has the fractional profile where it names none."""


class Roll(StrEnum):
    """Whether the session goes on after its first day."""

    NEXT_BUSINESS_DAY = "NextBusinessDay"
    NONE = "None"


class ClockMode(StrEnum):
    """Where session time comes from."""

    SIMULATED = "Simulated"
    WALL = "Wall"


class DesiredState(StrEnum):
    """What the author wants the markets to do."""

    SCHEDULED = "Scheduled"
    OPEN = "Open"
    HALTED = "Halted"
    CLOSED = "Closed"


class QuoteSource(StrEnum):
    """Where quotes come from."""

    BRAPI = "Brapi"
    COTAHIST = "Cotahist"
    RECORDING = "Recording"
    SIMULATED = "Simulated"


SOURCES_THAT_READ_A_FILE = frozenset({QuoteSource.COTAHIST, QuoteSource.RECORDING})


class Autoscaler(StrEnum):
    """Who owns the number of ingestors."""

    OPERATOR = "Operator"
    KEDA = "KEDA"
    NONE = "None"


class DeletionPolicy(StrEnum):
    """What becomes of logs and snapshots when the object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class UpdateStrategy(StrEnum):
    """When a matcher may be replaced by another version."""

    WHEN_CLOSED = "WhenClosed"
    SUPERVISED = "Supervised"
    IMMEDIATE = "Immediate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSpec:
    """Session time: the wall's, or a simulated one `speed` times as fast."""

    mode: ClockMode = ClockMode.WALL
    speed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """One market: its book of tickers, split over `shards` matchers."""

    name: str
    instruments: tuple[str, ...]
    shards: int = 1
    rules: Rules = field(default_factory=Rules)

    @property
    def is_fractional(self) -> bool:
        """Say whether its tickers are F tickers."""
        return self.rules.profile == PROFILE_FRACTIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestorSpec:
    """Who brings prices. `lag_threshold` is fetch tasks waiting per replica; None scales by the schedule alone."""

    source: QuoteSource = QuoteSource.SIMULATED
    fallback: QuoteSource | None = None
    file: str | None = None
    autoscaler: Autoscaler = Autoscaler.OPERATOR
    replicas: int = 1
    min_replicas: int = 1
    max_replicas: int = 6
    symbols_per_replica: int = 20
    lead_time_seconds: int = 600
    lag_threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantsSpec:
    """Other brokers that trade by themselves."""

    market_makers: int = 0
    noise_traders: int = 0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSessionSpec:
    """What the author asks for, defaults filled in."""

    markets: tuple[MarketSpec, ...]
    date: date | None = None
    roll: Roll = Roll.NONE
    timezone: str = EXCHANGE_TIMEZONE_NAME
    hours: Hours = HOURS_PRESETS["b3-summer"]
    clock: ClockSpec = field(default_factory=ClockSpec)
    desired_state: DesiredState = DesiredState.OPEN
    ingestors: IngestorSpec = field(default_factory=IngestorSpec)
    participants: ParticipantsSpec = field(default_factory=ParticipantsSpec)
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    update_strategy: UpdateStrategy = UpdateStrategy.WHEN_CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSession:
    """One MarketSession: identity, spec, and what the object's metadata says of it."""

    name: str
    namespace: str
    spec: MarketSessionSpec
    generation: int = 1
    paused: bool = False

    @property
    def key(self) -> str:
        """Return "namespace.name", the session's key in the directory."""
        return f"{self.namespace}.{self.name}"


class ConditionStatus(StrEnum):
    """A condition's value; Unknown is not False."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """The conditions of a MarketSession, in the order they are listed."""

    READY = "Ready"
    MATCHERS_READY = "MatchersReady"
    INGESTORS_SCALED = "IngestorsScaled"
    TOPICS_READY = "TopicsReady"
    LAG_KNOWN = "LagKnown"
    PAUSED = "Paused"
    DEGRADED = "Degraded"
    UPGRADE_PENDING = "UpgradePending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition; `last_transition_ns` (wall) moves only when `status` flips."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str
    observed_generation: int
    last_transition_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketStatus:
    """One shard of a market; None is not known."""

    name: str
    shard: int
    phase: str | None
    epoch: int | None
    seq: int | None
    snapshot_seq: int | None
    ready: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestorStatus:
    """The fetchers: how many there are, how many are wanted, and why."""

    replicas: int
    ready: int
    desired: int
    reason: str
    selector: str
    lag: int | None
    scaled_at_ns: int
    """When `desired` last changed (wall); scaling in waits on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTransition:
    """The next phase by the schedule, in session time; the wall instant is None while the clock is paused."""

    phase: str
    at_session_ns: int
    at_wall_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSessionStatus:
    """What is reported back. `phase` is one word for people, derived; programs read the conditions."""

    observed_generation: int
    phase: str
    business_date: date | None
    conditions: tuple[Condition, ...]
    markets: tuple[MarketStatus, ...]
    ingestors: IngestorStatus
    next_transition: NextTransition | None

    def find(self, condition_type: str) -> Condition | None:
        """Return a condition by its type, or None."""
        return next((condition for condition in self.conditions if condition.type == condition_type), None)

    def condition(self, condition_type: str) -> tuple[str, str]:
        """Return (status, reason) of a condition; ("Unknown", "NotReported") where it is not there."""
        found = self.find(condition_type)
        return (found.status.value, found.reason) if found else (ConditionStatus.UNKNOWN.value, "NotReported")
