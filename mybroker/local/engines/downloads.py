"""The jars that Kafka and the MongoDB stand-in run from: pinned, checked, kept in one cache for all sessions.

`jars.csv` names every jar with its SHA-256; nothing is resolved at run time. Downloads go through jgo (no Maven, no
JDK needed) into $XDG_CACHE_HOME/mybroker, under a file lock, so that sessions that start together fetch once. A jar
that is cut short or altered is removed and fetched again, once.

`python -m mybroker.local.engines.downloads` resolves the coordinates of `PINS` anew and writes `jars.csv`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from mybroker.local.engines.model import EngineFailed, OnProgress

PINS = {
    "kafka": ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36"),
    "mongo": (
        "de.bwaldvogel:mongo-java-server:1.47.0",
        "de.bwaldvogel:mongo-java-server-h2-backend:1.47.0",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
}
LOCK_PATH = Path(__file__).with_name("jars.csv")
PARALLEL_DOWNLOADS = 6
DOWNLOAD_TIMEOUT_S = 30
HASH_CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Return the cache that all sessions of this user share."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mybroker"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel drops it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def jars(engine: str, on_progress: OnProgress) -> list[Path]:
    """Return the engine's jars, fetched where they are not in the cache.

    Raises EngineFailed when one cannot be had or is not the one that was pinned.
    """
    pinned = [(coordinate, digest) for name, coordinate, digest in read_lock() if name == engine]
    repository = cache_folder() / "jars"
    checked = cache_folder() / f"{engine}-{_fingerprint(pinned)}.checked"
    paths = [repository / _relative_path(coordinate) for coordinate, _ in pinned]
    # The file says that all were checked once; from then on only their presence is looked at: a start is 0.1 s faster.
    if checked.exists() and all(path.exists() for path in paths):
        return paths
    with locked(cache_folder() / f"{engine}.lock"):
        if not (checked.exists() and all(path.exists() for path in paths)):
            _fetch_all(engine, pinned, repository, on_progress)
            checked.touch()
    return paths


def read_lock() -> list[tuple[str, str, str]]:
    """Return (engine, coordinate, sha256) of every pinned jar, in class path order."""
    rows = [line.split(",") for line in LOCK_PATH.read_text().splitlines() if line and not line.startswith("#")]
    return [(engine, coordinate, digest) for engine, coordinate, digest in rows]


def _fetch_all(engine: str, pinned: list[tuple[str, str]], repository: Path, on_progress: OnProgress) -> None:
    done = 0
    counting = Lock()

    def fetch(pin: tuple[str, str]) -> None:
        nonlocal done
        _fetch(engine, pin[0], pin[1], repository)
        with counting:
            done += 1
            on_progress(engine, f"fetching {pin[0].split(':')[1]}", done, len(pinned))

    on_progress(engine, "fetching its packages", 0, len(pinned))
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix=f"fetch-{engine}") as pool:
        for _ in pool.map(fetch, pinned):
            pass


def _fetch(engine: str, coordinate: str, digest: str, repository: Path) -> None:
    path = repository / _relative_path(coordinate)
    for attempt in (1, 2):
        if path.exists() and _sha256(path) == digest:
            return
        path.unlink(missing_ok=True)
        try:
            _download(coordinate, repository)
        except Exception as error:
            path.unlink(missing_ok=True)
            if attempt == 2:
                raise EngineFailed(engine, f"cannot fetch {coordinate}: {error}") from error
    found = _sha256(path)
    if found != digest:
        path.unlink()
        raise EngineFailed(engine, f"{coordinate} is not the pinned one: expected sha256 {digest}, was {found}")


def _download(coordinate: str, repository: Path) -> None:
    # Imported here: it costs 0.2 s, and a start from a warm cache does not need it.
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository, timeout=DOWNLOAD_TIMEOUT_S)
    context.create_dependency(coordinate).artifact.resolve()


def _relative_path(coordinate: str) -> Path:
    group, artifact, version = coordinate.split(":")
    return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def _fingerprint(pinned: list[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(pinned).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_lock() -> None:
    """Resolve `PINS` and write the lock file anew."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache_folder() / "jars", timeout=DOWNLOAD_TIMEOUT_S)
    lines = ["# engine,coordinate,sha256; written by `python -m mybroker.local.engines.downloads`"]
    for engine, coordinates in PINS.items():
        inputs, transitive = context.resolver.resolve([context.create_dependency(text) for text in coordinates])
        for dependency in [*inputs, *transitive]:
            coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            lines.append(f"{engine},{coordinate},{_sha256(dependency.artifact.resolve())}")
            sys.stderr.write(f"{lines[-1]}\n")
    LOCK_PATH.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_lock()
