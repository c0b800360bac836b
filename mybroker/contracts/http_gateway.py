"""What the gateway adds to the public stream, and the body of every error."""

from __future__ import annotations

import msgspec

from mybroker.contracts.http_broker import PrivateEvent


class Authenticated(msgspec.Struct, tag_field="type", tag="authenticated", frozen=True, kw_only=True):
    """The token was taken; private events of this account may be subscribed to until it ends."""

    account: str
    expires_in: int


class EventMessage(msgspec.Struct, tag_field="type", tag="event", frozen=True, kw_only=True):
    """A private event. `seq` has no gap and no repetition: subscribe to `events` with `after` = the last one seen."""

    seq: int
    event: PrivateEvent


class EventsFrom(msgspec.Struct, tag_field="type", tag="events_from", frozen=True, kw_only=True):
    """Private events follow from the first after this number."""

    after: int


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 problem+json. Programs look at `code`."""

    type: str
    title: str
    status: int
    code: str
    detail: str | None = None
    instance: str | None = None
    trace_id: str | None = None
