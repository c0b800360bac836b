"""What the door does with one request: decide, without doing. Pure.

The door looks only at what it must: who speaks (the queue says it), the session, where the ticker trades and the
throttle. Everything about the order itself is the engine's to refuse. Checks run in this order; the first that
fails is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from mybroker.contracts.commands import CancelOrder, Command, Logon, MassCancel, PlaceOrder, ReplaceOrder
from mybroker.contracts.directory import DirectoryEntry, MarketEntry
from mybroker.contracts.door import (
    DayTradesRequest,
    DoorRequest,
    MassStatusRequest,
    RefusedAtDoor,
    Resend,
    SessionLogon,
)
from mybroker.domain.refusal import RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Write this command to these shards' logs, then say so."""

    command: Command
    places: tuple[tuple[MarketEntry, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer from the index; nothing enters a log."""

    body: Resend | MassStatusRequest | DayTradesRequest


def admit(request: DoorRequest, *, entry: DirectoryEntry | None, throttled: bool) -> Append | Answer | RefusedAtDoor:
    """Decide what becomes of a request; `request.participant` is whose queue it came on."""
    body, participant = request.body, request.participant
    if getattr(body, "participant", participant) != participant:
        return _refused(request, RejectReason.NOT_LOGGED_ON, f"expected participant {participant} in the command")
    if entry is None:
        return _refused(request, RejectReason.UNKNOWN_SESSION, f"was {request.session_key}")
    if participant not in entry.participants:
        return _refused(request, RejectReason.NOT_LOGGED_ON, f"{participant} does not trade in {entry.key}")
    if throttled:
        return _refused(request, RejectReason.THROTTLED, "slow down")
    match body:
        case Resend() | MassStatusRequest() | DayTradesRequest():
            return Answer(body=body)
        case SessionLogon():
            return Append(command=Logon(participant=participant), places=all_shards(entry))
        case MassCancel() if body.ticker is None:
            return Append(command=body, places=all_shards(entry))
        case PlaceOrder() | CancelOrder() | ReplaceOrder() | MassCancel():
            return _to_its_market(request, body, entry)


def _to_its_market(
    request: DoorRequest, body: PlaceOrder | CancelOrder | ReplaceOrder | MassCancel, entry: DirectoryEntry
) -> Append | RefusedAtDoor:
    if body.ticker is None:
        return _refused(request, RejectReason.MALFORMED, "ticker: expected the instrument of the order, was none")
    found = entry.find(body.ticker)
    if found is None:
        return _refused(request, RejectReason.UNKNOWN_INSTRUMENT, f"was {body.ticker}")
    market, shard = found
    return Append(command=body, places=((market, shard.shard),))


def all_shards(entry: DirectoryEntry) -> tuple[tuple[MarketEntry, int], ...]:
    """Return every shard of a session, in the directory's order."""
    return tuple((market, shard.shard) for market in entry.markets for shard in market.shards)


def _refused(request: DoorRequest, reason: RejectReason, text: str) -> RefusedAtDoor:
    return RefusedAtDoor(
        message_id=request.message_id,
        order_id=getattr(request.body, "order_id", None),
        revision=getattr(request.body, "revision", None),
        reason=reason,
        text=text,
    )
