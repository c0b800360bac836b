"""Wires the wallet: database, posting queue, order events in, wallet events out, HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import psycopg
from psycopg_pool import PoolTimeout

from mybroker.contracts import topics
from mybroker.runtime.auth import over_http
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.kafka import AsyncProducer, ensure_topics
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.outbox import OutboxRow, Relay
from mybroker.runtime.postgres import is_connection_loss, migrate, open_pool
from services.broker_wallet.api import WalletApi
from services.broker_wallet.handlers import OrderEventsHandler
from services.broker_wallet.invariants import Invariants, check_invariants
from services.broker_wallet.postings import Postings
from services.broker_wallet.schema import MIGRATIONS
from services.broker_wallet.store import LedgerStore
from services.broker_wallet.views import Views

SERVICE = "broker_wallet"
INVARIANTS_EVERY_S = 15
INVARIANTS_SHARE_MAX = 20
"""A run that takes long comes that many times rarer than it takes."""

_TOPICS = {spec.name: spec for spec in topics.SHARED_TOPICS}


async def start(context: AppContext) -> None:
    """Start the wallet; returns when everything runs."""
    settings = context.settings
    context.readiness.declare("database", "kafka")
    pool = await open_pool(settings.postgres_url("wallet"), name=SERVICE)
    context.on_stop("database", pool.close)
    await migrate(pool, SERVICE, MIGRATIONS)
    context.readiness.open("database")

    orders_topic, wallet_topic = _TOPICS[topics.ORDER_EVENTS], _TOPICS[topics.WALLET_EVENTS]
    wanted = [orders_topic, wallet_topic, _TOPICS[topics.SESSIONS]]
    await asyncio.to_thread(ensure_topics, settings.kafka_url, wanted)
    producer = AsyncProducer(settings.kafka_url)
    context.on_stop("producer", producer.close)

    store = LedgerStore(pool)
    relay = Relay(pool, publisher(producer, topics.WALLET_EVENTS), name=SERVICE)
    context.supervise("outbox", relay.run())
    postings = Postings(store, relay.wake)
    context.supervise("postings", postings.run())

    handler = OrderEventsHandler(store, relay.wake)
    consumer = ConsumerLoop(
        settings.kafka_url,
        handler.handle,
        positions=await store.positions(orders_topic.name, orders_topic.partitions),
        on_caught_up=lambda _topic, _partition: context.readiness.open("kafka"),
    )
    context.supervise("order events", consumer.run())
    directory = Directory(settings.kafka_url, clock=context.clock)
    context.supervise("directory", directory.run())

    async def check() -> Invariants:
        return await check_invariants(pool)

    def session_now_ns() -> int:
        return directory.session_now_ns(settings.session_key) or context.clock.now_ns()

    context.supervise("invariants", _watch(context, check))
    api = WalletApi(
        postings=postings,
        views=Views(pool),
        verifier=over_http(settings, clock=context.clock),
        settings=settings,
        check=check,
        session_now_ns=session_now_ns,
    )
    app = build_app(SERVICE, api.routes(), context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))


def publisher(producer: AsyncProducer, topic: str) -> Callable[[Sequence[OutboxRow]], Awaitable[object]]:
    """Return what publishes outbox rows to a topic, keyed by aggregate, in their order."""

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


async def _watch(context: AppContext, check: Callable[[], Awaitable[Invariants]]) -> None:
    """Recompute the invariants for the gauges, for ever; a lost database is waited for."""
    while True:
        started = time.monotonic()
        try:
            found = await check()
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            if not is_connection_loss(error):
                raise
            context.log.warning("invariants_not_checked", reason=str(error).strip())
        else:
            for broken in (c for c in found.checks if not c.ok):
                context.log.error("invariant_broken", invariant=broken.name, first=list(broken.first))
        took_s = time.monotonic() - started
        await asyncio.sleep(max(INVARIANTS_EVERY_S, INVARIANTS_SHARE_MAX * took_s))
