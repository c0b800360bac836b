"""Wires broker_orders: database, desk, door, relays, wallet events, reconciler, HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mybroker.contracts import topics
from mybroker.contracts.door import decode_request
from mybroker.runtime.auth import internal_headers, over_http
from mybroker.runtime.directory import Directory
from mybroker.runtime.door import DoorClient, open_door_client
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.kafka import AsyncProducer, ensure_topics
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.lifecycle import AppContext, passing
from mybroker.runtime.outbox import OutboxRow, Relay
from mybroker.runtime.postgres import Pool, migrate, open_pool
from services.broker_orders.api import OrdersApi
from services.broker_orders.day_check import DayCheck
from services.broker_orders.desk import Desk, Listeners
from services.broker_orders.intake import Intake
from services.broker_orders.market_states import FEED, MarketStates
from services.broker_orders.reads import Reads
from services.broker_orders.reconciler import IN_DOUBT_AFTER_MS, Reconciler
from services.broker_orders.replies import Replies
from services.broker_orders.report_sequence import ReportSequence
from services.broker_orders.schema import MIGRATIONS
from services.broker_orders.store import DOOR_AGGREGATE, ORDER_AGGREGATE, OrderStore
from services.broker_orders.wallet_client import WALLET, WalletClient
from services.broker_orders.wallet_events import WalletEventsHandler

SERVICE = "broker_orders"

_TOPICS = {spec.name: spec for spec in topics.SHARED_TOPICS}

Publish = Callable[[Sequence[OutboxRow]], Awaitable[object]]


async def start(context: AppContext) -> None:
    """Start the service; returns when everything runs."""
    settings = context.settings
    context.readiness.declare("database", "directory", "door")
    pool = await open_pool(settings.postgres_url("orders"), name=SERVICE)
    context.on_stop("database", pool.close)
    await migrate(pool, SERVICE, MIGRATIONS)
    context.readiness.open("database")

    wanted = [_TOPICS[name] for name in (topics.ORDER_EVENTS, topics.WALLET_EVENTS, topics.SESSIONS)]
    await asyncio.to_thread(ensure_topics, settings.kafka_url, wanted)
    directory = Directory(settings.kafka_url, clock=context.clock)
    context.supervise("directory", directory.run())
    await directory.ready()
    context.readiness.open("directory")

    door = await open_door_client(settings, topics.BROKER_PARTICIPANT)
    context.on_stop("door", door.close)
    producer = AsyncProducer(settings.kafka_url)
    context.on_stop("producer", producer.close)
    to_door, to_kafka = _relays(pool, door, producer)
    context.supervise("outbox to the door", to_door.run())
    context.supervise("outbox to Kafka", to_kafka.run())

    def wake() -> None:
        to_door.wake()
        to_kafka.wake()

    def session_now_ns(session_key: str) -> int:
        return directory.session_now_ns(session_key) or context.clock.now_ns()

    reads, store, listeners = Reads(pool), OrderStore(pool, context.clock), Listeners()
    desk = Desk(store, listeners, wake)
    context.supervise("desk", desk.run())
    sequence = ReportSequence(await reads.report_positions())
    replies = Replies(door, desk, sequence, context.clock, session_now_ns, settings.session_key)
    context.supervise("replies", replies.run())
    context.readiness.open("door")

    await _supervise_followers(context, reads, desk, session_now_ns)
    intake = _intake(context, desk, reads, store, directory, replies)
    api = OrdersApi(
        intake=intake,
        reads=reads,
        listeners=listeners,
        verifier=over_http(settings, clock=context.clock),
        settings=settings,
        day_check=DayCheck(
            replies=replies, pool=pool, directory=directory, ids=context.ids, session_key=settings.session_key
        ),
    )
    app = build_app(SERVICE, api.routes(), context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))


async def _supervise_followers(
    context: AppContext, reads: Reads, desk: Desk, session_now_ns: Callable[[str], int]
) -> None:
    """Start what follows the wallet's events, and what works off orders in doubt."""
    settings, topic = context.settings, _TOPICS[topics.WALLET_EVENTS]
    consumer = ConsumerLoop(
        settings.kafka_url,
        WalletEventsHandler(desk).handle,
        positions=await reads.kafka_positions(topic.name, topic.partitions),
    )
    context.supervise("wallet events", consumer.run())
    reconciler = Reconciler(
        reads=reads,
        desk=desk,
        clock=context.clock,
        session_now_ns=session_now_ns,
        session_key=settings.session_key,
        in_doubt_after_ms=settings.integer("MYBROKER_IN_DOUBT_AFTER_MS", IN_DOUBT_AFTER_MS),
    )
    context.supervise("reconciler", reconciler.run())


def _intake(
    context: AppContext, desk: Desk, reads: Reads, store: OrderStore, directory: Directory, replies: Replies
) -> Intake:
    settings = context.settings
    client = HttpClient({name: settings.service_url(name) for name in (WALLET, FEED)}, clock=context.clock)
    context.on_stop("http client", client.close)
    return Intake(
        desk=desk,
        reads=reads,
        store=store,
        wallet=WalletClient(client, internal_headers(settings)),
        states=MarketStates(client, context.clock),
        directory=directory,
        clock=context.clock,
        ids=context.ids,
        door_is_silent=lambda: replies.door_is_silent,
    )


def _relays(pool: Pool, door: DoorClient, producer: AsyncProducer) -> tuple[Relay, Relay]:
    """Two relays of one outbox: a door that is away does not keep events from the wallet."""
    to_door = Relay(pool, door_publisher(door), name=f"{SERVICE}.door", aggregatetypes=[DOOR_AGGREGATE])
    to_kafka = Relay(
        pool, kafka_publisher(producer, topics.ORDER_EVENTS), name=f"{SERVICE}.kafka", aggregatetypes=[ORDER_AGGREGATE]
    )
    return to_door, to_kafka


def door_publisher(door: DoorClient) -> Publish:
    """Return what sends outbox rows to the exchange's door, in their order."""

    async def publish(rows: Sequence[OutboxRow]) -> None:
        await door.send_all([decode_request(row.payload) for row in rows])
        passing("orders.relayed")

    return publish


def kafka_publisher(producer: AsyncProducer, topic: str) -> Publish:
    """Return what publishes outbox rows to a topic, keyed by account, in their order."""

    async def publish(rows: Sequence[OutboxRow]) -> None:
        sent = [
            producer.send_nowait(
                topic,
                row.aggregateid.encode(),
                row.payload,
                [(name, value.encode()) for name, value in row.headers.items()],
            )
            for row in rows
        ]
        await asyncio.gather(*sent)

    return publish
