"""What is seen now: all that `make_plan` may know besides the manifest. A shell fills it in, and adds nothing to it.

None always means "not known", which is never treated as zero or as gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.market_session import MarketSessionStatus
from mybroker.domain.phase import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSeen:
    """A workload that exists. `restarts` counts as `restarts_after_exit` says; instants are wall time."""

    name: str
    spec_hash: str
    config_hash: str
    running: bool
    ready: bool
    restarts: int = 0
    started_at_ns: int = 0
    exited_at_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSeen:
    """One shard as its matcher (or its log) shows it.

    `business_date` is the configured one, as "2026-11-23"; `at_ns` the session instant its engine has reached.
    """

    name: str
    shard: int
    phase: Phase | None = None
    business_date: str | None = None
    at_ns: int | None = None
    epoch: int | None = None
    seq: int | None = None
    snapshot_seq: int | None = None
    ready: bool = False
    message: str = ""
    """What is wrong with the shard (divergence, a quarantined instrument); empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The world as a shell sees it.

    - `directory`: the session's record, the only memory of day, clock and placement; None before the first.
    - `clock_stopped`: the record's clock is from before a stop of everything and must not be believed; true from a
      shell's start until the plan's next directory record is published.
    - `clock_speed_override`: what an operator set by `mybroker clock` (0 is paused); None leaves the manifest's speed.
    - `highest_tick_ns`: the latest session instant any shard has reached, None where none has a tick. It is read only
      once every shard is seen ready on the day.
    - `reference_price_ticks`: previous closes by ticker, latched by the shell when it rolls the day; they must not
      move within a day.
    - `topics`: partitions by topic. `fetch_lag`: fetch tasks waiting.
    - `update_approved`: someone let a matcher update through (strategy Supervised).
    """

    directory: DirectoryEntry | None = None
    workloads: tuple[WorkloadSeen, ...] = ()
    markets: tuple[MarketSeen, ...] = ()
    topics: Mapping[str, int] | None = None
    fetch_lag: int | None = None
    highest_tick_ns: int | None = None
    clock_stopped: bool = False
    clock_speed_override: int | None = None
    reference_price_ticks: Mapping[str, int] = field(default_factory=dict)
    previous_status: MarketSessionStatus | None = None
    update_approved: bool = False

    def workload(self, name: str) -> WorkloadSeen | None:
        """Return a workload by name, or None."""
        return next((seen for seen in self.workloads if seen.name == name), None)

    def market(self, name: str, shard: int) -> MarketSeen | None:
        """Return a shard, or None."""
        return next((seen for seen in self.markets if (seen.name, seen.shard) == (name, shard)), None)

    def shards_of(self, name: str) -> tuple[MarketSeen, ...]:
        """Return the shards of a market that were seen."""
        return tuple(seen for seen in self.markets if seen.name == name)
