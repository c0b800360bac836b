"""What a shell is asked to do, in the order it is to be done. Every action may be done twice without harm.

`why` is for people and takes no part in comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class EnsureTopics:
    """Create these topics, or add partitions to them; never take any away."""

    topics: tuple[TopicSpec, ...]


@dataclass(frozen=True, slots=True)
class RollDay:
    """The day is over: latch closing prices as reference prices; the directory record that follows names the next."""

    ended: date
    following: date


@dataclass(frozen=True, slots=True)
class PublishDirectory:
    """Write this record to the directory topic."""

    entry: DirectoryEntry
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Start the workload of this name, its files written first."""

    name: str
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the workload of this name and forget it."""

    name: str
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Replace:
    """Stop the workload of this name and start it as it is wanted now."""

    name: str
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Configure:
    """Write the files that this running workload reads again by itself."""

    name: str
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class HaltMarket:
    """Append Halt to a shard's command log."""

    market: str
    shard: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ResumeMarket:
    """Append Resume to a shard's command log."""

    market: str
    shard: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class CloseMarket:
    """Append SetPhase(closed) to a shard's command log."""

    market: str
    shard: int
    why: str = field(default="", compare=False)


Action = (
    EnsureTopics
    | RollDay
    | PublishDirectory
    | Start
    | Stop
    | Replace
    | Configure
    | HaltMarket
    | ResumeMarket
    | CloseMarket
)
