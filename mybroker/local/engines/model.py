"""The words every engine shares: its interface, its URLs, its health, and the one error that is raised.

An engine is driven in two halves. `launch` runs in the main thread and forks (a child's parent-death signal is bound
to the thread that forked it); `become_ready` runs in a worker thread and returns only after a real operation worked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from mybroker.local.engines.children import Child

OnProgress = Callable[[str, str, int, int], None]
"""Called with (engine, text, done, total); total 0 means that there is nothing to count. From any thread."""

Waiting = Callable[[], bool]
"""What a launching engine waits for: asked again until it answers True. Never blocks."""

POSTGRES_SERVICES = ("identity", "orders", "wallet", "assets")
"""One database and one owner of the same name each."""

ENGINES = ("kafka", "postgres", "redis", "mongo", "rabbit")
"""In start order: the slowest that services need first. Named by the protocol the services speak."""

URL_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "kafka": "MYBROKER_KAFKA_URL",
        "postgres": "MYBROKER_POSTGRES_ADMIN_URL",
        "redis": "MYBROKER_REDIS_URL",
        "mongo": "MYBROKER_MONGO_URL",
        "rabbit": "MYBROKER_RABBIT_URL",
    }
)


class EngineFailed(Exception):
    """An engine could not be had, started or reached. The text is for the person at the terminal."""

    def __init__(self, engine: str, text: str) -> None:
        super().__init__(f"{engine}: {text}")
        self.engine = engine
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUrls:
    """Where everything listens. `rabbit` is None where there is none: order entry then uses its Kafka route."""

    kafka: str
    postgres_admin: str
    postgres: Mapping[str, str]
    auditor: Mapping[str, str]
    redis: str
    mongo: str
    rabbit: str | None

    def as_env(self) -> dict[str, str]:
        """Return what every service gets. No admin and no auditor: those are not theirs."""
        env = {
            "MYBROKER_KAFKA_URL": self.kafka,
            "MYBROKER_REDIS_URL": self.redis,
            "MYBROKER_MONGO_URL": self.mongo,
            "MYBROKER_RABBIT_URL": self.rabbit or "",
        }
        return env | {f"MYBROKER_POSTGRES_{name.upper()}_URL": url for name, url in self.postgres.items()}

    def as_auditor_env(self) -> dict[str, str]:
        """Return `as_env` with PostgreSQL's URLs replaced by those that may only read: what `prove` runs with."""
        return self.as_env() | {f"MYBROKER_POSTGRES_{name.upper()}_URL": url for name, url in self.auditor.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """What a check of one engine found. `pid` and `resident_bytes` are None and 0 for one that is not ours."""

    name: str
    ok: bool
    text: str
    ours: bool
    pid: int | None
    resident_bytes: int
    took_ms: int


class Engine(Protocol):
    """One engine that this session starts itself."""

    name: str

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 where clients connect."""
        ...

    @property
    def url(self) -> str:
        """Where it listens; known before it runs. PostgreSQL's is the admin's."""
        ...

    @property
    def note(self) -> str:
        """One line a person should know about this engine, or ""."""
        ...

    @property
    def log_path(self) -> str:
        """Where to look when it does not start."""
        ...

    def prepare(self, on_progress: OnProgress) -> None:
        """Download and lay out what it runs from. Safe to call by several sessions at once."""
        ...

    def launch(self) -> Iterator[Waiting]:
        """Start its processes, yielding what to wait for between them. Main thread only."""
        ...

    def children(self) -> tuple[Child, ...]:
        """Its processes, the server last: stopping goes backwards."""
        ...

    def forget_ended(self) -> None:
        """Drop processes that have ended from the record."""
        ...

    def probe(self) -> None:
        """Do one real operation or raise. Takes at most a few seconds."""
        ...

    def settle(self) -> None:
        """Put in place, once after a start, what the services need (databases, owners). Idempotent."""
        ...


def without_password(url: str) -> str:
    """Return the URL as it may be printed."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
