"""The audit: everything the exchange logged and everything the broker stored, compared from outside.

The exchange half replays each shard. The broker half needs one instant at which nothing is on its way: everything is
read, and read again until outboxes are empty and everybody has read everything, at most for `settle_s`. A market that
never comes to rest in that time is compared as far as the broker has heard; what is left is `in_flight`. Once every
market is closed, anything still in flight is a difference.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mybroker.contracts.client_journal import JournalEntry
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, decode_entry
from mybroker.contracts.frames import decode_frame_part
from mybroker.contracts.topics import BROKER_PARTICIPANT, ORDER_EVENTS, SESSIONS, SHARED_TOPICS, WALLET_EVENTS
from mybroker.domain.phase import Phase
from mybroker.prove import broker, clients, ledger
from mybroker.prove.checks import Check, first_difference
from mybroker.prove.databases import newest_transfer, read_ledger, read_orders
from mybroker.prove.exchange import ExchangeView
from mybroker.prove.feed import check_feed_at
from mybroker.prove.rows import LedgerBook, OrdersBook, ShardName
from mybroker.prove.shards import ShardAudit, audit_shard
from mybroker.runtime.frames import FrameSequence, SequenceGap
from mybroker.runtime.kafka import read_from, watermarks

SETTLE_S = 20.0
LOOK_AGAIN_S = 0.3

_PARTITIONS = {spec.name: spec.partitions for spec in SHARED_TOPICS}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is audited and where it is: one session, its Kafka, the auditor's addresses of two databases.

    `feed_url` is where the public feed answers, None where nothing but the engines runs.
    """

    session_key: str
    kafka_url: str
    orders_url: str
    wallet_url: str
    feed_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was read at one instant. `pending` says in words what was still on its way."""

    exchange: ExchangeView
    orders: OrdersBook
    ledger: LedgerBook
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The outcome. `ok` means that no check has a difference."""

    session_key: str
    business_date: str
    at_rest: bool
    pending: tuple[str, ...]
    shards: tuple[ShardAudit, ...]
    checks: tuple[Check, ...]
    gathered: Gathered
    took_s: float = field(default=0.0)

    @property
    def ok(self) -> bool:
        """Say whether everything holds."""
        return all(check.ok for check in self.checks)

    @property
    def first_difference(self) -> str | None:
        """Return the first difference in plain words; None where there is none."""
        return first_difference(self.checks)


class NotThere(Exception):
    """There is nothing to audit under this name."""


def audit(
    place: Place,
    *,
    journals: Iterable[JournalEntry] = (),
    settle_s: float = SETTLE_S,
    tell: Tell = lambda _text: None,
) -> Audit:
    """Audit a session. Raises NotThere, and what Kafka or PostgreSQL raise where they are not there."""
    started_s = time.monotonic()
    entry = read_directory(place)
    frames = Check(name="every frame is what its command gives", unit="frames")
    tape = Check(name="the exported tape gives the same events and state hash", unit="event lines")
    tell("waiting until nothing is on its way")
    gathered = settle(place, entry, settle_s)
    shards = []
    with tempfile.TemporaryDirectory(prefix="mybroker-prove-") as folder:
        for market in entry.markets:
            for shard in market.shards:
                tell(f"replaying {market.name}-{shard.shard}")
                found = audit_shard(place.kafka_url, market, shard.shard, Path(folder), frames, tape)
                shards += [found] if found is not None else []
    tell("comparing broker, ledger and exchange")
    checks = [frames, tape, *compare(gathered, tuple(journals))]
    if all(shard.replay.phase == Phase.CLOSED.value for shard in shards):
        checks.append(_resting(gathered, checks))
        if place.feed_url is not None:
            checks.append(check_feed_at(place.feed_url, place.session_key, gathered.exchange.day, settle_s))
    return Audit(
        session_key=place.session_key,
        business_date=entry.business_date,
        at_rest=not gathered.pending,
        pending=gathered.pending,
        shards=tuple(shards),
        checks=tuple(checks),
        gathered=gathered,
        took_s=round(time.monotonic() - started_s, 2),
    )


def compare(gathered: Gathered, journals: Sequence[JournalEntry]) -> list[Check]:
    """Run every check that needs only what was gathered. Pure."""
    exchange, orders, book = gathered.exchange, gathered.orders, gathered.ledger
    shards = {shard for shard, _ in exchange.last_numbers}
    last_numbers = {shard: exchange.last_number(shard) for shard in shards}
    checks = [
        exchange.numbered,
        exchange.added_up,
        broker.check_applied(orders, last_numbers),
        broker.check_orders(orders, exchange),
        broker.check_fills(orders, exchange),
        broker.check_private_events(orders),
        ledger.check_debits_and_credits(book),
        ledger.check_balances(book),
        ledger.check_available(book),
        ledger.check_resolved_once(book),
        ledger.check_issued(book),
        ledger.check_every_order_was_held(book, exchange),
    ]
    # The ledger follows the orders; while events are on their way it is behind, which is no difference.
    if not gathered.pending:
        checks += [
            ledger.check_holds(book, exchange),
            ledger.check_postings(book, exchange),
            ledger.check_accounts(book, exchange),
        ]
    if journals:
        told = clients.fold_journal(journals)
        checks += [
            clients.check_acknowledged(told, orders, exchange),
            clients.check_unknown(told, orders, exchange),
            clients.check_client_events(journals),
        ]
    return checks


def _resting(gathered: Gathered, checks: Sequence[Check]) -> Check:
    """A finished day has nothing on its way."""
    check = Check(name="nothing is left on its way", unit="checks", compared=len(checks))
    for text in gathered.pending:
        check.differ(text)
    for other in checks:
        if other.in_flight:
            check.differ(f"{other.name}: {other.in_flight} {other.unit} are still in flight")
    return check


def settle(place: Place, entry: DirectoryEntry, settle_s: float) -> Gathered:
    """Gather until nothing is on its way or the time is over; the last look is the answer."""
    give_up_at = time.monotonic() + settle_s
    while True:
        gathered = gather(place, entry)
        if not gathered.pending or time.monotonic() > give_up_at:
            return gathered
        time.sleep(LOOK_AGAIN_S)


def gather(place: Place, entry: DirectoryEntry) -> Gathered:
    """Read everything once: the ledger, then orders, then the logs, so that each one read later is ahead, not behind.

    The exchange is folded up to the report number the broker has applied.
    """
    log_ids = {name: _log_id(place, market, name.shard) for name, market in _shards(entry)}
    book = read_ledger(place.wallet_url)
    orders = read_orders(place.orders_url, place.session_key, sorted(log_ids.values()))
    exchange = ExchangeView(participant=BROKER_PARTICIPANT, session_key=place.session_key, upto=orders.applied)
    for name, market in _shards(entry):
        fold_shard(place.kafka_url, exchange, name, market)
    pending = tuple(
        _pending(
            exchange,
            orders,
            book,
            ends={topic: _ends(place, topic) for topic in (ORDER_EVENTS, WALLET_EVENTS)},
            newest=newest_transfer(place.wallet_url),
        )
    )
    return Gathered(exchange=exchange, orders=orders, ledger=book, pending=pending)


def _pending(
    exchange: ExchangeView,
    orders: OrdersBook,
    book: LedgerBook,
    *,
    ends: Mapping[str, Mapping[int, int]],
    newest: int,
) -> Iterable[str]:
    if exchange.in_flight_reports:
        yield f"{exchange.in_flight_reports} execution reports the broker has not stored yet"
    if orders.unsent:
        yield f"{orders.unsent} rows in the outbox of broker_orders"
    if book.unsent:
        yield f"{book.unsent} rows in the outbox of broker_wallet"
    if newest > book.newest:
        yield f"{newest - book.newest} transfers that the ledger made while it was read"
    readers = ((ORDER_EVENTS, book.positions, "broker_wallet"), (WALLET_EVENTS, orders.positions, "broker_orders"))
    for topic, positions, reader in readers:
        behind = sum(max(0, end - max(0, positions.get(partition, 0))) for partition, end in ends[topic].items())
        if behind:
            yield f"{behind} messages of {topic} that {reader} has not read yet"


def read_directory(place: Place) -> DirectoryEntry:
    """Return the newest directory record of the session; raises NotThere."""
    newest: bytes | None = None
    for record in read_from(place.kafka_url, SESSIONS, 0, 0):
        if record.key == place.session_key.encode():
            newest = record.value
    if newest is None:
        raise NotThere(f"{SESSIONS} has no session {place.session_key}")
    return decode_entry(newest)


def _shards(entry: DirectoryEntry) -> list[tuple[ShardName, MarketEntry]]:
    return [(ShardName(market=m.name, shard=s.shard), m) for m in entry.markets for s in m.shards]


def _log_id(place: Place, market: MarketEntry, shard: int) -> str:
    for record in read_from(place.kafka_url, market.events_topic, shard, 0, until=1):
        return decode_frame_part(record.value or b"").frame.log_id
    return ""


def fold_shard(kafka_url: str, exchange: ExchangeView, name: ShardName, market: MarketEntry) -> None:
    """Fold a shard's event log into the view; a gap is a difference of its report numbers."""
    sequence = FrameSequence(f"{market.events_topic}[{name.shard}]")
    try:
        for record in read_from(kafka_url, market.events_topic, name.shard, 0):
            frame = sequence.hear(decode_frame_part(record.value or b""))
            if frame is not None:
                exchange.take(name, frame)
    except SequenceGap as gap:
        exchange.numbered.differ(f"{name}: {gap}")


def _ends(place: Place, topic: str) -> dict[int, int]:
    return {
        partition: watermarks(place.kafka_url, topic, partition)[1] for partition in range(_PARTITIONS.get(topic, 1))
    }
