"""The real engines: each does a real write, is killed and comes back with it; nothing outlives its session.

One session is shared by most tests (starting five engines takes seconds); those that end or doubt a session have
their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pymongo import MongoClient
from redis import Redis

from mybroker.local.engines import starting
from mybroker.local.engines.children import Identity, descendants, wait_until
from mybroker.local.engines.facade import Engines
from mybroker.local.engines.model import ENGINES, POSTGRES_SERVICES, URL_VARIABLES, EngineFailed, EngineUrls
from mybroker.local.engines.rabbit import server_script

pytestmark = [pytest.mark.engines, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
HAS_RABBIT = server_script() is not None
HERE = tuple(name for name in ENGINES if name != "rabbit" or HAS_RABBIT)


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach (pytest's own is closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="mybroker-engines-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def session(open_folder: Path) -> Iterator[Engines]:
    engines = Engines(open_folder / "shared", _environment())
    began = time.monotonic()
    start = engines.begin()
    while not start.step():
        time.sleep(0.005)
    print(f"\nall engines ready in {time.monotonic() - began:.1f} s, each in ms: {start.took_ms}")
    yield engines
    engines.stop()


def _environment(**urls: str) -> dict[str, str]:
    """Ours without engine URLs, so that a developer's own setting does not decide what is tested."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MYBROKER_")} | urls


# -- one real write each, and reading it back ------------------------------------------------------------------------


def _write_kafka(urls: EngineUrls, text: str) -> None:
    admin = AdminClient({"bootstrap.servers": urls.kafka})
    for created in admin.create_topics([NewTopic("kept", 1, 1)]).values():
        created.result(10)
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": urls.kafka, "acks": "all"})
    producer.produce("kept", value=text.encode(), on_delivery=lambda error, _message: failures.append(error))
    assert producer.flush(10) == 0
    assert failures == [None]


def _read_kafka(urls: EngineUrls) -> str:
    consumer = Consumer({"bootstrap.servers": urls.kafka, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe(["kept"])
    try:
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        value = message.value()
        assert isinstance(value, bytes)
        return value.decode()
    finally:
        consumer.close()


def _write_postgres(urls: EngineUrls, text: str) -> None:
    with psycopg.connect(urls.postgres["wallet"]) as connection:
        connection.execute("create table kept (text text)")
        connection.execute("insert into kept values (%s)", [text])


def _read_postgres(urls: EngineUrls) -> str:
    with psycopg.connect(urls.auditor["wallet"]) as connection:
        row = connection.execute("select text from kept").fetchone()
    assert row is not None
    return str(row[0])


def _write_redis(urls: EngineUrls, text: str) -> None:
    with Redis.from_url(urls.redis) as client:
        client.set("kept", text)


def _read_redis(urls: EngineUrls) -> str:
    with Redis.from_url(urls.redis) as client:
        value = client.get("kept")
    assert isinstance(value, bytes)
    return value.decode()


def _write_mongo(urls: EngineUrls, text: str) -> None:
    with MongoClient[dict[str, object]](urls.mongo) as client:
        client.get_default_database()["kept"].insert_one({"_id": 1, "text": text})


def _read_mongo(urls: EngineUrls) -> str:
    with MongoClient[dict[str, object]](urls.mongo) as client:
        document = client.get_default_database()["kept"].find_one({"_id": 1})
    assert document is not None
    return str(document["text"])


def _write_rabbit(urls: EngineUrls, text: str) -> None:
    import aio_pika

    async def write() -> None:
        async with await aio_pika.connect(urls.rabbit) as connection:
            channel = await connection.channel(publisher_confirms=True)
            queue = await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key=queue.name)

    asyncio.run(write())


def _read_rabbit(urls: EngineUrls) -> str:
    import aio_pika

    async def read() -> str:
        async with await aio_pika.connect(urls.rabbit) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True)
            message = await queue.get(timeout=5)
            assert message is not None
            await message.ack()
            return message.body.decode()

    return asyncio.run(read())


WRITES: dict[str, Callable[[EngineUrls, str], None]] = {
    "kafka": _write_kafka,
    "postgres": _write_postgres,
    "redis": _write_redis,
    "mongo": _write_mongo,
    "rabbit": _write_rabbit,
}
READS: dict[str, Callable[[EngineUrls], str]] = {
    "kafka": _read_kafka,
    "postgres": _read_postgres,
    "redis": _read_redis,
    "mongo": _read_mongo,
    "rabbit": _read_rabbit,
}


# -- one session -----------------------------------------------------------------------------------------------------


def test_every_engine_does_a_real_operation_and_tells_its_memory(session: Engines) -> None:
    health = session.check()

    assert {name: found.ok for name, found in health.items()} == dict.fromkeys(HERE, True)
    assert all(found.ours and found.pid and found.resident_bytes > 1_000_000 for found in health.values())
    print({name: f"{found.resident_bytes >> 20} MB, check {found.took_ms} ms" for name, found in health.items()})


@pytest.mark.parametrize("name", HERE)
def test_an_acknowledged_write_survives_the_kill_of_its_engine(session: Engines, name: str) -> None:
    WRITES[name](session.urls, f"written to {name}")
    before = session.urls

    session.kill(name)
    assert session.ended() == (name,)
    began = time.monotonic()
    session.restart(name)
    print(f"{name}: ready {time.monotonic() - began:.2f} s after its kill")

    assert session.urls == before
    assert READS[name](session.urls) == f"written to {name}"


@pytest.mark.parametrize("name", HERE)
def test_a_clean_restart_keeps_the_url_and_gives_a_new_process(session: Engines, name: str) -> None:
    url, pid = session.urls, session.pids()[name]

    session.restart(name)

    assert session.urls == url
    assert session.pids()[name] != pid
    assert session.check()[name].ok


def test_everything_listens_on_this_machine_only(session: Engines) -> None:
    ours = {pid for child in session.pids().values() for pid in descendants(child)}
    assert ours

    for listener in _listeners_of(ours):
        assert listener in {"127.0.0.1", "::ffff:127.0.0.1"}


def test_no_engine_hears_the_terminals_control_c(session: Engines) -> None:
    for pid in session.pids().values():
        assert os.getsid(pid) == pid


def test_a_service_can_reach_its_own_database_only(session: Engines) -> None:
    with psycopg.connect(session.urls.postgres["identity"]) as connection:
        connection.execute("create table mine (id int)")
    other = session.urls.postgres["identity"].removesuffix("/identity") + "/wallet"

    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(other)


def test_the_auditor_reads_every_database_and_writes_none(session: Engines) -> None:
    for service in POSTGRES_SERVICES:
        with psycopg.connect(session.urls.postgres[service]) as owner:
            owner.execute("create table audited (id int)")
            owner.execute("insert into audited values (7)")
        with psycopg.connect(session.urls.auditor[service]) as auditor:
            assert auditor.execute("select id from audited").fetchone() == (7,)
        with psycopg.connect(session.urls.auditor[service]) as auditor:
            auditor.execute("set transaction read write")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                auditor.execute("insert into audited values (8)")


def test_services_get_neither_the_admins_nor_the_auditors_url(session: Engines) -> None:
    env = session.urls.as_env()

    assert session.urls.postgres_admin not in env.values()
    assert not [url for url in env.values() if "auditor" in url]
    assert set(env) == {
        "MYBROKER_KAFKA_URL",
        "MYBROKER_REDIS_URL",
        "MYBROKER_MONGO_URL",
        "MYBROKER_RABBIT_URL",
        *(f"MYBROKER_POSTGRES_{service.upper()}_URL" for service in POSTGRES_SERVICES),
    }


def test_passwords_can_be_read_by_their_owner_only(session: Engines, open_folder: Path) -> None:
    secrets = open_folder / "shared" / "secrets"

    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}


def test_a_folder_serves_one_session_at_a_time(session: Engines, open_folder: Path) -> None:
    with pytest.raises(EngineFailed, match=f"process {os.getpid()} already runs engines"):
        Engines(open_folder / "shared", _environment()).prepare()


def test_a_second_session_does_not_meet_the_first(session: Engines, open_folder: Path) -> None:
    second = Engines(open_folder / "second", _environment())
    urls = second.start()
    try:
        ports = [
            json.loads((open_folder / name / "engines.json").read_text())["ports"] for name in ("shared", "second")
        ]
        assert not set(ports[0].values()) & set(ports[1].values())
        WRITES["redis"](session.urls, "first")
        WRITES["redis"](urls, "second")
        assert READS["redis"](session.urls) == "first"
        with psycopg.connect(urls.postgres["wallet"]) as connection:
            assert connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(session.urls.postgres["wallet"].replace(_password(session), _password(second)))
    finally:
        second.stop()
    assert all(health.ok for health in session.check().values())


def test_an_engine_whose_url_is_given_is_checked_and_not_started(session: Engines, open_folder: Path) -> None:
    urls = session.urls
    given = {
        "MYBROKER_KAFKA_URL": urls.kafka,
        "MYBROKER_POSTGRES_ADMIN_URL": urls.postgres_admin,
        "MYBROKER_REDIS_URL": urls.redis,
        "MYBROKER_MONGO_URL": urls.mongo,
        "MYBROKER_RABBIT_URL": urls.rabbit or "",
    } | {f"MYBROKER_POSTGRES_{service.upper()}_URL": url for service, url in urls.postgres.items()}

    guest = Engines(open_folder / "guest", _environment(**given))
    try:
        found = guest.start()

        assert guest.pids() == {}
        assert (found.kafka, found.postgres, found.redis) == (urls.kafka, urls.postgres, urls.redis)
        assert {name: health.ours for name, health in guest.check().items()} == dict.fromkeys(HERE, False)
        with pytest.raises(EngineFailed, match="given by its URL, not ours"):
            guest.restart("kafka")
    finally:
        guest.stop()
    assert session.pids().keys() == set(HERE)


def test_a_given_server_whose_roles_are_another_sessions_is_refused(session: Engines, open_folder: Path) -> None:
    given = {URL_VARIABLES["postgres"]: session.urls.postgres_admin, URL_VARIABLES["kafka"]: session.urls.kafka}
    guest = Engines(
        open_folder / "stranger",
        _environment(**given, MYBROKER_REDIS_URL=session.urls.redis, MYBROKER_MONGO_URL=session.urls.mongo),
    )

    with pytest.raises(EngineFailed, match="role 'identity' exists with a password that is not this session's"):
        guest.start()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("kafka", "127.0.0.1:{port}"),
        ("postgres", "postgresql://postgres:hidden@127.0.0.1:{port}/postgres"),
        ("redis", "redis://:hidden@127.0.0.1:{port}/0"),
        ("mongo", "mongodb://127.0.0.1:{port}/mybroker"),
        ("rabbit", "amqp://me:hidden@127.0.0.1:{port}/"),
    ],
)
def test_a_dead_url_is_named_with_its_variable_and_without_its_password(
    session: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setattr(starting, "GIVEN_READY_WITHIN_S", 0.3)
    with socket.socket() as silent:
        # Bound and never listening: nobody else can take the port while the test looks at it.
        silent.bind(("127.0.0.1", 0))
        given = {URL_VARIABLES[name]: url.format(port=silent.getsockname()[1])}
        others = {"MYBROKER_RABBIT_URL": ""} | {
            variable: dict(_urls_by_variable(session.urls))[variable]
            for other, variable in URL_VARIABLES.items()
            if other not in (name, "rabbit")
        }
        services = {f"MYBROKER_POSTGRES_{s.upper()}_URL": session.urls.postgres[s] for s in POSTGRES_SERVICES}

        with pytest.raises(EngineFailed) as failed:
            Engines(tmp_path, _environment(**(others | services | given))).start()

    assert failed.value.engine == name
    assert URL_VARIABLES[name] in failed.value.text
    assert "127.0.0.1" in failed.value.text
    assert "hidden" not in failed.value.text


# -- a session of its own --------------------------------------------------------------------------------------------


def test_stop_leaves_no_process_and_the_next_start_finds_ports_and_data(open_folder: Path) -> None:
    engines = Engines(open_folder / "again", _environment(MYBROKER_RABBIT_URL=""))
    urls = engines.start()
    pids = [pid for server in engines.pids().values() for pid in descendants(server)]
    WRITES["postgres"](urls, "before the stop")
    began = time.monotonic()
    engines.stop()
    print(f"stopped in {time.monotonic() - began:.2f} s")
    assert not [pid for pid in pids if Identity.of(pid) is not None]

    began = time.monotonic()
    assert engines.start() == urls
    print(f"started again in {time.monotonic() - began:.2f} s")
    try:
        assert READS["postgres"](urls) == "before the stop"
    finally:
        engines.stop()


def test_a_taken_port_is_replaced_by_a_free_one(open_folder: Path) -> None:
    given = {"MYBROKER_RABBIT_URL": ""}
    engines = Engines(open_folder / "moved", _environment(**given))
    engines.prepare()
    before = engines.urls
    engines.stop()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", int(before.redis.rpartition(":")[2].removesuffix("/0"))))
        engines.prepare()
        after = engines.urls
        engines.stop()

    assert after.redis != before.redis
    assert after.kafka == before.kafka


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_a_home_closed_to_others_keeps_its_permissions_and_postgres_still_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    engines = Engines(home / "session", _environment(MYBROKER_RABBIT_URL=""))
    try:
        urls = engines.start()
        WRITES["postgres"](urls, "kept elsewhere")
        engines.restart("postgres")

        assert READS["postgres"](urls) == "kept elsewhere"
        assert "data in /var/lib/mybroker/sessions/" in engines.notes()["postgres"]
        assert home.stat().st_mode & 0o777 == 0o700
    finally:
        engines.stop()
        engines.remove_data()


STARTER = """
    import json, os, sys, time
    from pathlib import Path
    from mybroker.local.engines.children import descendants
    from mybroker.local.engines.facade import Engines

    engines = Engines(Path(sys.argv[1]), os.environ)
    start = engines.begin()
    while not start.step():
        time.sleep(0.005)
    tree = [pid for pid in descendants(os.getpid()) if pid != os.getpid()]
    print(json.dumps({"pids": tree, "redis": engines.urls.redis}), flush=True)
    time.sleep(300)
"""


def test_a_killed_starter_leaves_no_process_and_its_folder_starts_again(open_folder: Path) -> None:
    folder = open_folder / "crashed"
    command = [sys.executable, "-c", textwrap.dedent(STARTER), str(folder)]
    starter = subprocess.Popen(command, env=_environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    try:
        told = json.loads(starter.stdout.readline())
        identities = [identity for pid in told["pids"] if (identity := Identity.of(pid)) is not None]
        assert len(identities) >= len(HERE)
        with Redis.from_url(told["redis"]) as client:
            client.set("kept", "before the crash")
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait(10)
        starter.stdout.close()
    began = time.monotonic()
    assert wait_until(lambda: all(identity.is_gone() for identity in identities), 15_000), [
        Path(f"/proc/{identity.pid}/cmdline").read_bytes()[:80] for identity in identities if identity.is_running()
    ]
    print(f"{len(identities)} processes gone {time.monotonic() - began:.2f} s after the kill of their starter")

    engines = Engines(folder, _environment())
    urls = engines.start()
    try:
        assert READS["redis"](urls) == "before the crash"
    finally:
        engines.stop()


def _password(engines: Engines) -> str:
    return engines.urls.postgres["wallet"].partition(":")[2].partition(":")[2].partition("@")[0]


def _urls_by_variable(urls: EngineUrls) -> dict[str, str]:
    return {
        "MYBROKER_KAFKA_URL": urls.kafka,
        "MYBROKER_POSTGRES_ADMIN_URL": urls.postgres_admin,
        "MYBROKER_REDIS_URL": urls.redis,
        "MYBROKER_MONGO_URL": urls.mongo,
    }


def _listeners_of(pids: set[int]) -> set[str]:
    """Return the addresses on which any of these processes listens."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                words = bytes.fromhex(columns[1].partition(":")[0])
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                addresses.add(socket.inet_ntop(family, packed))
    assert addresses, "engines that listen nowhere were not looked at"
    return addresses
