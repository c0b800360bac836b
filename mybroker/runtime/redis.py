"""Redis (or Valkey): a client that waits for the server and comes back after its restart.

Commands are repeated after a lost connection, so they must bear it: counters of limits may count one call twice,
never lose one. Nothing that is money lives here. A server that is loading its data counts as not there yet.
"""

import asyncio
import time

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from mybroker.runtime.settings import hide_password

START_DEADLINE_MS = 60_000
RETRIES_MAX = 6
CONNECTIONS_MAX = 50
OPERATION_TIMEOUT_S = 2.0


async def open_redis(url: str, *, deadline_ms: int = START_DEADLINE_MS, retries_max: int = RETRIES_MAX) -> Redis:
    """Open a client that returns text, waiting for the server. Raises the built-in TimeoutError."""
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        max_connections=CONNECTIONS_MAX,
        socket_timeout=OPERATION_TIMEOUT_S,
        socket_connect_timeout=OPERATION_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries_max),
        retry_on_error=[redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.BusyLoadingError],
    )
    give_up_at = time.monotonic() + deadline_ms / 1000
    while True:
        try:
            await client.ping()
        except redis_errors.RedisError as error:
            if time.monotonic() > give_up_at:
                await client.aclose()
                reason = f"{hide_password(url)} did not answer for {deadline_ms} ms: {error}"
                raise TimeoutError(reason) from error
        else:
            return client
        await asyncio.sleep(0.05)
