"""The exchange half of the audit: each shard's logs, replayed by the very engine, in a process of its own.

The replay compares every frame (order, content, digest, state hashes); it also writes the command log as a tape, and
that tape, played through `match`, must give the event log's lines and the same state hash.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mybroker.contracts.directory import MarketEntry
from mybroker.prove.checks import Check

REPLAY_WITHIN_S = 600
REPLAYED = (0, 1)
"""Exit codes with a result: nothing differs, something does."""


class ReplayDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay first parts from the log."""

    seq: int
    offset: int
    command: str
    expected: str
    was: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What `services.b3_matcher.replay` says of one shard; the fields the audit shows."""

    log_id: str
    commands: int
    frames: int
    frames_in_log: int
    repeated_frames: int
    in_flight: int
    digest: str
    state_hash: str
    hashes_compared: int
    phase: str
    business_date: str | None = None
    orders: int
    rejected: int
    duplicates: int
    ignored: int
    quarantined: int
    trades: int
    busted: int
    volume_shares: int
    turnover_cents: int
    difference: ReplayDifference | None = None


class ShardAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One shard: its replay, and whether its tape gave the same."""

    market: str
    shard: int
    replay: Replayed
    tape_lines: int
    tape_state_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesCompared:
    """How far two streams of event lines agree, and the hash line that ends the second."""

    compared: int
    differs: str | None
    state_hash: str | None


def audit_shard(
    kafka_url: str, market: MarketEntry, shard: int, folder: Path, frames: Check, tape: Check
) -> ShardAudit | None:
    """Replay one shard into `folder` and compare; None where it could not be replayed, which is a difference."""
    name = f"{market.name}-{shard}"
    tape_path, lines_path = folder / f"{name}.tape", folder / f"{name}.lines"
    replay = _run(
        "services.b3_matcher.replay",
        *("--kafka", kafka_url, "--commands", market.commands_topic, "--events", market.events_topic),
        *("--partition", str(shard), "--tape", str(tape_path), "--lines", str(lines_path)),
    )
    if replay.returncode not in REPLAYED:
        frames.differ(f"{name}: could not be replayed: {_last_line(replay.stderr)}")
        return None
    result = msgspec.json.decode(replay.stdout, type=Replayed)
    frames.compared += result.frames_in_log
    frames.in_flight += result.in_flight
    if result.difference is not None:
        at = result.difference
        frames.differ(
            f"{name} frame {at.seq} (command {at.offset}, {_short(at.command)}):"
            f" expected {_short(at.expected)}, was {_short(at.was)}"
        )
    if result.quarantined:
        frames.differ(f"{name}: the engine failed on {result.quarantined} commands and quarantined them")
    lines, tape_hash = _compare_tape(name, tape_path, lines_path, folder / f"{name}.matched", result, tape)
    return ShardAudit(market=market.name, shard=shard, replay=result, tape_lines=lines, tape_state_hash=tape_hash)


def _compare_tape(
    name: str, tape_path: Path, lines_path: Path, out: Path, result: Replayed, check: Check
) -> tuple[int, str | None]:
    """Play the tape through `match`; returns the lines compared and the hash at its end."""
    matched = _run("services.b3_matcher.match", str(tape_path), "--all", "--hash", "--out", str(out))
    if matched.returncode:
        check.differ(f"{name}: match refused the exported tape: {_last_line(matched.stderr)}")
        return 0, None
    with lines_path.open() as logged, out.open() as played:
        lines = compare_lines(logged, played, in_flight=result.in_flight > 0)
    check.compared += lines.compared
    if lines.differs is not None:
        check.differ(f"{name} event line {lines.compared + 1}: {lines.differs}")
    check.expect(f"{name}, state hash after the tape", result.state_hash, lines.state_hash)
    return lines.compared, lines.state_hash


def compare_lines(logged: Iterator[str], played: Iterator[str], *, in_flight: bool) -> LinesCompared:
    """Compare line by line; the last line played is the hash. Commands in flight have lines at one side only."""
    compared = 0
    differs: str | None = None
    for expected in logged:
        was = next(played, "nothing more")
        if expected != was:
            differs = f"the log has {_short(expected)}, the tape gives {_short(was)}"
            break
        compared += 1
    beyond = 0
    newest: deque[str] = deque(maxlen=2)
    for line in played:
        newest.append(line)
        beyond += 1
    if differs is None and beyond > 1 and not in_flight:
        differs = f"the log has nothing more, the tape gives {_short(newest[0])}"
    return LinesCompared(compared=compared, differs=differs, state_hash=_hash_of(newest[-1]) if newest else None)


def _hash_of(line: str) -> str | None:
    state_hash = json.loads(line).get("state_hash")
    return state_hash if isinstance(state_hash, str) else None


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=REPLAY_WITHIN_S)


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 300 else text[:300] + "…"
