"""Names of topics, queues, keys and collections: built here, nowhere else.

Names that stay compatible with the published series: `trading-assets-market-data-v1`, `order-events-v1`,
`wallet-events-v1`, `mq-broker-to-b3`, `mq-b3-to-broker`, `dlq-broker-to-b3`, `market:price:{TICKER}`,
`price_history`. A market's topics carry namespace and session, so two sessions never share one.
"""

from __future__ import annotations

from dataclasses import dataclass

SESSIONS = "b3-sessions-v1"
MARKET_DATA = "trading-assets-market-data-v1"
FETCH_TASKS = "trading-assets-fetch-tasks-v1"
ORDER_EVENTS = "order-events-v1"
WALLET_EVENTS = "wallet-events-v1"
DOOR_REQUESTS = "b3-door-requests-v1"
DOOR_REPORTS = "b3-door-reports-v1"
DOOR_DEAD_LETTERS = "b3-door-dead-letters-v1"

BROKER_PARTICIPANT = "MYBROKER"
QUEUE_BROKER_TO_B3 = "mq-broker-to-b3"
QUEUE_B3_TO_BROKER = "mq-b3-to-broker"
DEAD_LETTERS_BROKER_TO_B3 = "dlq-broker-to-b3"

PRICE_HISTORY = "price_history"


def market_price_key(ticker: str) -> str:
    """Return the Redis key that holds a ticker's last quote."""
    return f"market:price:{ticker}"


def request_queue(participant: str) -> str:
    """Return the queue on which a participant sends requests to the exchange's door."""
    return QUEUE_BROKER_TO_B3 if participant == BROKER_PARTICIPANT else f"{QUEUE_BROKER_TO_B3}.{participant}"


def report_queue(participant: str) -> str:
    """Return the queue on which the exchange's door answers a participant."""
    return QUEUE_B3_TO_BROKER if participant == BROKER_PARTICIPANT else f"{QUEUE_B3_TO_BROKER}.{participant}"


def commands_topic(namespace: str, session: str, market: str) -> str:
    """Return a market's command log; a shard is a partition; kept without limit."""
    return f"b3-commands-{namespace}.{session}.{market}"


def events_topic(namespace: str, session: str, market: str) -> str:
    """Return a market's event log: frames, a shard is a partition; kept without limit."""
    return f"b3-events-{namespace}.{session}.{market}"


def books_topic(namespace: str, session: str, market: str) -> str:
    """Return a market's compacted topic of full book snapshots, keyed by ticker."""
    return f"b3-books-{namespace}.{session}.{market}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it must exist: compacted ones keep the newest of a key, others keep `retention_ms` (-1: all)."""

    name: str
    partitions: int = 1
    compacted: bool = False
    retention_ms: int = -1


def market_topics(namespace: str, session: str, market: str, shards: int) -> tuple[TopicSpec, ...]:
    """Return the three topics of one market."""
    return (
        TopicSpec(name=commands_topic(namespace, session, market), partitions=shards),
        TopicSpec(name=events_topic(namespace, session, market), partitions=shards),
        TopicSpec(name=books_topic(namespace, session, market), partitions=shards, compacted=True),
    )


DAY_MS = 86_400_000

SHARED_TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(name=SESSIONS, compacted=True),
    TopicSpec(name=MARKET_DATA, partitions=6, retention_ms=7 * DAY_MS),
    TopicSpec(name=FETCH_TASKS, partitions=6, retention_ms=DAY_MS),
    TopicSpec(name=ORDER_EVENTS, partitions=4),
    TopicSpec(name=WALLET_EVENTS, partitions=4),
    TopicSpec(name=DOOR_REQUESTS, partitions=4),
    TopicSpec(name=DOOR_REPORTS, partitions=4),
    TopicSpec(name=DOOR_DEAD_LETTERS),
)
