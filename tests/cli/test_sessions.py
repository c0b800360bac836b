"""Which session a command means, and what `down` does to runners that live, died, or were never there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from mybroker.cli.failure import Failure
from mybroker.cli.main import run
from mybroker.cli.sessions import chosen_session, running_sessions
from mybroker.cli.up import SAMPLE
from mybroker.local.engines.children import Identity, wait_until
from mybroker.local.session_folder import RunnerRecord, SessionFolder


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("MYBROKER_HOME", str(tmp_path))
    return tmp_path


def a_runner(base, key: str, *, pid: int, started_ticks: int | None = None) -> SessionFolder:
    folder = SessionFolder(base, key)
    folder.make()
    if started_ticks is None:
        identity = Identity.of(pid)
        assert identity is not None
        started_ticks = identity.started_ticks
    folder.write_record(RunnerRecord(pid=pid, started_ticks=started_ticks, session_key=key, manifest="x.yaml"))
    return folder


def test_the_only_running_session_is_meant(base):
    a_runner(base, "local.one", pid=os.getpid())
    assert chosen_session(None).key == "local.one"
    assert chosen_session("one").key == "local.one"


def test_of_several_one_must_be_named(base):
    a_runner(base, "local.one", pid=os.getpid())
    a_runner(base, "other.two", pid=os.getpid())
    with pytest.raises(Failure, match=r"local\.one, other\.two"):
        chosen_session(None)
    assert chosen_session("other.two").key == "other.two"
    with pytest.raises(Failure, match=r"does not run.*running: local\.one"):
        chosen_session("two")


def test_a_record_whose_process_number_went_to_another_is_no_running_session(base):
    a_runner(base, "local.one", pid=os.getpid(), started_ticks=1)
    assert running_sessions() == []


def test_down_never_signals_a_process_that_only_has_the_number(base, capfd):
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        a_runner(base, "local.one", pid=bystander.pid, started_ticks=1)
        assert run(["down"]) == 0
        assert bystander.poll() is None
        assert "does not run" in capfd.readouterr().out
    finally:
        bystander.kill()
        bystander.communicate()


def test_down_asks_the_runner_to_stop_and_says_so(base, capfd):
    runner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        a_runner(base, "local.one", pid=runner.pid)
        assert run(["down", "--json"]) == 0
        events = [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]
        assert events == ["stopping", "stopped"]
        assert runner.wait(10) == -signal.SIGTERM
    finally:
        runner.kill()
        runner.communicate()


def test_down_ends_what_a_killed_runner_left(base, capfd):
    folder = SessionFolder(base, "local.one")
    folder.make()
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        identity = Identity.of(left.pid)
        assert identity is not None
        entry = {
            "name": "broker/orders",
            "pid": identity.pid,
            "started_ticks": identity.started_ticks,
            "boot_id": identity.boot_id,
            "stop_signal": int(signal.SIGTERM),
        }
        folder.processes.write_text(json.dumps([entry]))
        assert run(["down"]) == 0
        assert "ended 1 processes left over" in capfd.readouterr().out
        assert wait_until(lambda: left.poll() is not None, 5_000)
    finally:
        left.kill()
        left.communicate()


def test_down_delete_removes_the_sessions_folder_and_asks_first(base, monkeypatch, capfd):
    folder = SessionFolder(base, "local.one")
    folder.make()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert run(["down", "--delete"]) == 130
    assert folder.path.exists()
    assert run(["down", "--delete", "--yes"]) == 0
    assert not folder.path.exists()


def test_a_session_that_runs_is_not_started_twice(base, capfd):
    with SessionFolder(base, "local.pregao").hold():
        a_runner(base, "local.pregao", pid=os.getpid())
        assert run(["up", str(SAMPLE)]) == 1
    assert f"session local.pregao runs already: process {os.getpid()}" in capfd.readouterr().err
