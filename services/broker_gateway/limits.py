"""Rate limits: one token bucket per caller and class of call, in Redis, so that all gateways share it.

One Lua script reads, refills and takes by Redis' own clock, so gateways' clocks do not matter. When Redis does not
answer the call passes and is counted: limits protect, they must not be what fails. Limits are generous by default;
MYBROKER_LIMIT_<CLASS>="calls per second:burst" changes one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from mybroker.contracts.http_routes import LimitClass
from mybroker.runtime.breaker import Breaker
from mybroker.runtime.clock import Clock
from mybroker.runtime.logging import get_logger
from mybroker.runtime.settings import Settings, SettingsError
from mybroker.runtime.telemetry import counter

OPERATION_TIMEOUT_S = 0.25
KEY_PREFIX = "gateway:limit:"

_LIMITED = counter("mbb3_rate_limited_total", "Calls refused for their rate", ["class_"])
_OPEN = counter("mbb3_rate_limit_unchecked_total", "Calls passed because Redis did not answer")

_SCRIPT = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(had[1]) or burst, tonumber(had[2]) or now_ms
tokens = math.min(burst, tokens + math.max(0, now_ms - at) * rate / 1000)
local taken = 0
if tokens >= 1 then tokens = tokens - 1; taken = 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now_ms)
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) * 1000 / rate) + 1000)
local wait_ms = 0
if taken == 0 then wait_ms = math.ceil((1 - tokens) * 1000 / rate) end
return {taken, math.floor(tokens), math.ceil((burst - tokens) * 1000 / rate), wait_ms}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So many calls a second on average, and so many at once."""

    per_second: int
    burst: int


DEFAULTS: Mapping[LimitClass, Limit] = {
    LimitClass.LOGIN: Limit(per_second=20, burst=100),
    LimitClass.ORDERS: Limit(per_second=2_000, burst=4_000),
    LimitClass.READS: Limit(per_second=2_000, burst=4_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a caller may still do. `wait_ms` is above zero where the call is refused."""

    limit: Limit
    remaining: int
    reset_ms: int
    wait_ms: int = 0

    @property
    def refused(self) -> bool:
        """Whether the call is one too many."""
        return self.wait_ms > 0

    def headers(self) -> dict[str, str]:
        """Return the headers of every answer."""
        return {
            "X-RateLimit-Limit": str(self.limit.burst),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(-(-self.reset_ms // 1000)),
        }


def limits_of(settings: Settings) -> dict[LimitClass, Limit]:
    """Return the limits in force. Raises SettingsError."""
    limits = dict(DEFAULTS)
    for class_ in LimitClass:
        variable = f"MYBROKER_LIMIT_{class_.upper()}"
        given = settings.environ.get(variable, "")
        if not given:
            continue
        per_second, _, burst = given.partition(":")
        if not (per_second.isdigit() and burst.isdigit() and int(per_second) > 0 and int(burst) > 0):
            raise SettingsError(variable, "calls per second and burst, as 100:200", given)
        limits[class_] = Limit(per_second=int(per_second), burst=int(burst))
    return limits


class RateLimits:
    """Takes one call from a caller's bucket."""

    def __init__(self, redis: Redis, limits: Mapping[LimitClass, Limit], clock: Clock) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._limits = limits
        self._clock = clock
        self._breaker = Breaker("redis_limits")

    async def take(self, class_: LimitClass, caller: str) -> Allowance:
        """Count one call of `caller`; what it answers says whether the call may go on."""
        limit = self._limits[class_]
        unchecked = Allowance(limit=limit, remaining=limit.burst, reset_ms=0)
        if not self._breaker.allows(self._clock.monotonic_ns()):
            _OPEN.inc()
            return unchecked
        key = f"{KEY_PREFIX}{class_.value}:{caller}"
        try:
            answer = await self._script(keys=[key], args=[limit.per_second, limit.burst])
        except (redis_errors.RedisError, OSError) as error:
            self._breaker.failed(self._clock.monotonic_ns())
            _OPEN.inc()
            get_logger().warning("rate_limit_not_checked", reason=type(error).__name__)
            return unchecked
        self._breaker.succeeded()
        taken, remaining, reset_ms, wait_ms = (int(part) for part in answer)
        if not taken:
            _LIMITED.labels(class_.value).inc()
        return Allowance(limit=limit, remaining=remaining, reset_ms=reset_ms, wait_ms=0 if taken else max(1, wait_ms))


def connect(url: str) -> Redis:
    """Return a client that gives up fast: a slow limiter is worse than none."""
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=OPERATION_TIMEOUT_S,
        socket_connect_timeout=OPERATION_TIMEOUT_S,
        retry=None,
        retry_on_timeout=False,
        max_connections=100,
    )
    return client
