"""Wiring of assets: catalogue, quotes from Kafka into PostgreSQL and Redis, HTTP."""

from collections.abc import Sequence

from mybroker.contracts import topics
from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.codec import Malformed
from mybroker.contracts.quotes import Quote, decode_quote
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.kafka import Record
from mybroker.runtime.kafka_consumer import ConsumerLoop
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.postgres import migrate, open_pool
from mybroker.runtime.redis import open_redis
from mybroker.runtime.telemetry import counter
from services.broker_assets.api import Api
from services.broker_assets.quotes import STALE_AFTER_MS, supersedes
from services.broker_assets.store import MIGRATIONS, Store

SERVICE = "broker_assets"

_QUOTES = counter("mbb3_quotes_total", "Quotes taken into the catalogue", ["source"])
_MALFORMED = counter("mbb3_quotes_malformed_total", "Messages that are no quote")


async def start(context: AppContext) -> None:
    """Start assets."""
    settings = context.settings
    context.readiness.declare("catalogue")
    pool = await open_pool(settings.postgres_url("assets"), name=SERVICE, connections_max=4)
    context.on_stop("database", pool.close)
    await migrate(pool, SERVICE, MIGRATIONS)
    redis = await open_redis(settings.redis_url, retries_max=1)
    context.on_stop("redis", redis.aclose)
    store = Store(pool, redis)
    catalogue = shipped_catalogue()
    await store.put_catalogue(catalogue.instruments.values())
    await store.restore()
    directory = Directory(settings.kafka_url, clock=context.clock)
    stale_after_ms = settings.integer("MYBROKER_QUOTE_STALE_AFTER_MS", STALE_AFTER_MS)
    api = Api(catalogue, store, directory, context.clock, stale_after_ms=stale_after_ms)
    consumer = ConsumerLoop(
        settings.kafka_url,
        Intake(context, store).heard,
        topics=[topics.MARKET_DATA],
        group=SERVICE,
        commit_handled=True,
    )
    context.supervise("directory", directory.run())
    context.supervise("quotes", consumer.run())
    context.readiness.open("catalogue")
    app = build_app(SERVICE, api.routes(), context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))


class Intake:
    """Takes batches of quotes; the newest of each ticker is written, what is no quote is counted and dropped."""

    def __init__(self, context: AppContext, store: Store) -> None:
        self._context = context
        self._store = store

    async def heard(self, records: Sequence[Record]) -> None:
        """Write a batch."""
        newest: dict[str, Quote] = {}
        for record in records:
            try:
                quote = decode_quote(record.value or b"")
            except Malformed as error:
                _MALFORMED.inc()
                self._context.log.warning("quote_malformed", offset=record.offset, reason=str(error))
                continue
            _QUOTES.labels(quote.source).inc()
            if supersedes(quote, newest.get(quote.ticker)):
                newest[quote.ticker] = quote
        if newest:
            await self._store.put_quotes(list(newest.values()))
