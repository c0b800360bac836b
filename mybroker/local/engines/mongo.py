"""MongoDB's protocol: `mongod` where it is on PATH, else a stand-in that speaks it, and says that it is one.

The stand-in (`mongo_server`) has unique indexes, upserts, bulk writes and simple aggregation; no sessions,
transactions or change streams. Both acknowledge a write only when a kill can no longer lose it: the stand-in commits
before it answers, and the URL asks mongod for its journal.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mybroker.local.engines import downloads
from mybroker.local.engines.children import Child, Nursery
from mybroker.local.engines.class_archive import MakeEngine, archive_path, make_archive
from mybroker.local.engines.model import OnProgress, Waiting
from mybroker.local.engines.mongo_server import JVM_OPTIONS

PORT_NAMES = ("mongo",)
DATABASE = "mybroker"
PROBE_COLLECTION = "engine_check"
PROBE_TIMEOUT_MS = 2_000


class Mongo:
    """This session's MongoDB or its stand-in."""

    name = "mongo"

    def __init__(
        self, folder: Path, ports: dict[str, int], nursery: Nursery, archive_to_make: Path | None = None
    ) -> None:
        self._folder = folder / "mongo"
        self._port = ports["mongo"]
        self._nursery = nursery
        self._mongod = shutil.which("mongod")
        self._archive_to_make = archive_to_make
        self._archive: Path | None = None
        self._jars: list[Path] = []

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self._port}/{DATABASE}?directConnection=true&journal=true"

    @property
    def note(self) -> str:
        if self._mongod is not None:
            return ""
        return "a stand-in that speaks MongoDB's protocol (no mongod on PATH, no MYBROKER_MONGO_URL)"

    @property
    def log_path(self) -> str:
        return str(self._folder / "mongo.log")

    def children(self) -> tuple[Child, ...]:
        return self._nursery.children()

    def forget_ended(self) -> None:
        self._nursery.forget_ended()

    def prepare(self, on_progress: OnProgress) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._mongod is not None:
            return
        self._jars = downloads.jars(self.name, on_progress)
        if self._archive_to_make is not None:
            return
        archive = archive_path(self.name, self._jars, JVM_OPTIONS)
        if not archive.exists():
            on_progress(self.name, "making its later starts faster", 0, 0)
        if archive.exists() or make_archive(self.name, archive, _training(archive), PORT_NAMES):
            self._archive = archive

    def launch(self) -> Iterator[Waiting]:
        if self._mongod is not None:
            data = self._folder / "mongod"
            data.mkdir(exist_ok=True)
            command = [self._mongod, "--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(self._port)]
            command += ["--nounixsocket", "--quiet"]
        else:
            # -P keeps the caller's folder out of the path: a file there must not stand for a module of ours.
            command = [sys.executable, "-P", "-m", "mybroker.local.engines.mongo_server"]
            command += ["--port", str(self._port), "--file", str(self._folder / "stand-in.mv")]
            command += ["--jars", os.pathsep.join(str(jar) for jar in self._jars)]
            if self._archive is not None:
                command += ["--archive", str(self._archive)]
            if self._archive_to_make is not None:
                command += ["--make-archive", str(self._archive_to_make)]
        self._nursery.spawn("mongo", command, log=Path(self.log_path), env=_environment())
        yield from ()

    def probe(self) -> None:
        probe(self.url)

    def settle(self) -> None:
        """Nothing: whoever writes a collection makes its indexes."""


def probe(url: str) -> None:
    """Write one document and read it back."""
    from pymongo import MongoClient

    with MongoClient[dict[str, object]](
        url,
        serverSelectionTimeoutMS=PROBE_TIMEOUT_MS,
        connectTimeoutMS=PROBE_TIMEOUT_MS,
        socketTimeoutMS=PROBE_TIMEOUT_MS,
        retryWrites=False,
    ) as client:
        checks = client.get_default_database(DATABASE)[PROBE_COLLECTION]
        checks.replace_one({"_id": 1}, {"checked": True}, upsert=True)
        if checks.find_one({"_id": 1}) is None:
            raise RuntimeError(f"a document was written to {PROBE_COLLECTION} and not found")


def _training(archive: Path) -> MakeEngine:
    def make(folder: Path, ports: dict[str, int], nursery: Nursery) -> Mongo:
        engine = Mongo(folder, ports, nursery, archive_to_make=archive)
        engine.prepare(lambda _engine, _text, _done, _total: None)
        return engine

    return make


def _environment() -> dict[str, str]:
    """Return our environment with our import path: the server is found however we were started."""
    root = str(Path(__file__).parents[3])
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
