"""What the shard's owner owes the log now: ticks and configuration. Pure.

Time enters a market only here. Every scheduled instant gets a tick of its own, in order, however late; between
them a tick comes every TICK_EVERY_WALL_NS so that the engine's clock moves. A day that is over needs no ticks.
Configuration is appended wherever the manifest differs from what the engine has, once per revision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mybroker.contracts.commands import Command, ConfigureSession, SessionConfig, Tick
from services.b3_matcher.engine.engine import Engine

TICK_EVERY_WALL_NS = 200_000_000
DUE_INSTANTS_MAX = 64


@dataclass(slots=True)
class Appended:
    """What this owner has appended already, applied or not."""

    tick_at_ns: int = 0
    tick_wall_ns: int = 0
    revision: int = 0


def owed(
    engine: Engine,
    wanted: SessionConfig | None,
    appended: Appended,
    *,
    epoch: int,
    session_now_ns: int | None,
    wall_ns: int,
) -> Iterator[Command]:
    """Yield the commands to append now and note them in `appended`.

    `session_now_ns` None: the session has no clock yet.
    """
    if wanted is not None and engine.config != wanted and appended.revision <= engine.revision:
        appended.revision = engine.revision + 1
        yield ConfigureSession(epoch=epoch, revision=appended.revision, config=wanted)
        return
    if engine.config is None or session_now_ns is None:
        return
    last_ns = max(engine.now_ns, appended.tick_at_ns)
    for _ in range(DUE_INSTANTS_MAX):
        due_ns = engine.next_due_ns(last_ns)
        if due_ns is None or due_ns > session_now_ns:
            break
        last_ns = appended.tick_at_ns = due_ns
        appended.tick_wall_ns = wall_ns
        yield Tick(epoch=epoch, at_ns=due_ns)
    if engine.is_closed and engine.next_due_ns(last_ns) is None:
        return
    if session_now_ns > last_ns and wall_ns - appended.tick_wall_ns >= TICK_EVERY_WALL_NS:
        appended.tick_at_ns = session_now_ns
        appended.tick_wall_ns = wall_ns
        yield Tick(epoch=epoch, at_ns=session_now_ns)


def next_duty_wall_ns(appended: Appended, *, wall_ns: int, due_wall_ns: int | None) -> int:
    """Return the wall instant at which to look again: the next tick, or the next scheduled instant before it."""
    look_ns = max(wall_ns, appended.tick_wall_ns + TICK_EVERY_WALL_NS)
    return min(look_ns, due_wall_ns) if due_wall_ns is not None else look_ns
