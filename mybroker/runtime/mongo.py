"""MongoDB: a client that waits for the server and comes back after its restart.

PyMongo repeats a read once by itself; writes are not repeated (the stand-in on one machine has no sessions), so
callers write idempotently (upserts, unique keys) and run them through `until_written`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, PyMongoError

from mybroker.runtime.settings import hide_password
from mybroker.runtime.telemetry import counter

T = TypeVar("T")
MongoClient = AsyncMongoClient[dict[str, Any]]

START_DEADLINE_MS = 60_000
SELECTION_TIMEOUT_MS = 2_000
OPERATION_TIMEOUT_MS = 10_000
BACKOFF_MS = 100

_RETRIED = counter("mbb3_mongo_retries_total", "Writes repeated after a lost connection")


async def open_mongo(url: str, *, deadline_ms: int = START_DEADLINE_MS) -> MongoClient:
    """Open a client, waiting for the server. Raises TimeoutError, naming the URL without its password."""
    client: MongoClient = AsyncMongoClient(
        url,
        serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS,
        connectTimeoutMS=SELECTION_TIMEOUT_MS,
        socketTimeoutMS=OPERATION_TIMEOUT_MS,
        retryWrites=False,
        retryReads=True,
        w=1,
        tz_aware=True,
        appname="mybroker",
    )
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            await client.admin.command("ping")
        except PyMongoError as error:
            if time.monotonic() > give_up_at:
                await client.close()
                raise TimeoutError(f"{hide_password(url)} did not answer for {deadline_ms} ms: {error}") from error
        else:
            return client
        await asyncio.sleep(0.05)


async def until_written(write: Callable[[], Awaitable[T]], *, deadline_ms: int = START_DEADLINE_MS) -> T:
    """Run an idempotent write until the server took it; raises the last connection error after the deadline."""
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            return await write()
        except (AutoReconnect, ConnectionFailure):
            if time.monotonic() > give_up_at:
                raise
            _RETRIED.inc()
        await asyncio.sleep(BACKOFF_MS / 1000)
