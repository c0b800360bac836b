"""The directory: what `b3-sessions-v1` says of each session, and the session's clock.

One compacted record a session, keyed "namespace.session", written by the runner or the operator. Order entry,
feed, broker and participants find markets here; everyone computes session time from its clock record.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mybroker.contracts.codec import Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClock:
    """Session time as a line: at wall instant `anchor_wall_ns` it was `anchor_session_ns`, `speed` 0 is paused."""

    anchor_wall_ns: int
    anchor_session_ns: int
    speed: int

    def now_ns(self, wall_ns: int) -> int:
        """Return the session instant at a wall instant (ns since the epoch, both)."""
        return self.anchor_session_ns + (wall_ns - self.anchor_wall_ns) * self.speed

    def wall_ns_at(self, session_ns: int) -> int | None:
        """Return the wall instant at which a session instant comes; None while paused."""
        if self.speed == 0:
            return None
        return self.anchor_wall_ns + -(-(session_ns - self.anchor_session_ns) // self.speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard of a market: a partition, and the tickers it trades."""

    shard: int
    tickers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketEntry:
    """One market of a session, with its three topics."""

    name: str
    commands_topic: str
    events_topic: str
    books_topic: str
    shards: tuple[ShardEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryEntry:
    """A session: its day, clock, markets and the participants its door serves."""

    namespace: str
    session: str
    revision: int
    business_date: str
    desired_state: str
    clock: SessionClock
    markets: tuple[MarketEntry, ...]
    participants: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the record's key in the directory topic."""
        return f"{self.namespace}.{self.session}"

    def find(self, ticker: str) -> tuple[MarketEntry, ShardEntry] | None:
        """Return where a ticker trades, or None."""
        for market in self.markets:
            for shard in market.shards:
                if ticker in shard.tickers:
                    return market, shard
        return None


_DECODER = msgspec.json.Decoder(DirectoryEntry)


def encode_entry(entry: DirectoryEntry) -> bytes:
    """Encode a directory record's value."""
    return msgspec.json.encode(entry)


def decode_entry(data: bytes) -> DirectoryEntry:
    """Decode a directory record's value; raises Malformed."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"directory entry: {error}, was {data[:120]!r}") from error
