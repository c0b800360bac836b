"""A process ends with 0 when it is asked to, with 1 when a part of it fails, and never lives on half."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENVIRON = {"MYBROKER_NAMESPACE": "local", "MYBROKER_SESSION": "test", "PATH": os.environ["PATH"]}
PREAMBLE = """
import asyncio
from mybroker.runtime.lifecycle import passing, run_service
async def forever():
    await asyncio.Event().wait()
"""


@contextmanager
def program(body: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PREAMBLE + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRON | environ,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    heard = ""
    for line in process.stdout:
        heard += line
        if words in line:
            return heard
    raise AssertionError(f"expected {words!r}, heard:\n{heard}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully_in_reverse_order(number: signal.Signals) -> None:
    body = """
    async def start(context):
        async def say(word):
            print("stopped", word, flush=True)
        context.on_stop("first", lambda: say("first"))
        context.on_stop("second", lambda: say("second"))
        context.supervise("work", forever())
    run_service("test", start)
    """
    with program(body) as process:
        wait_for(process, "service_started")
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert output.index("stopped second") < output.index("stopped first")


FAILURES = {
    "a task that fails": 'async def boom():\n    await asyncio.sleep(0.01)\n    raise ValueError("it broke")',
    "a task that ends unasked": "async def boom():\n    await asyncio.sleep(0.01)  # it broke",
    "a start that fails": None,
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_go_on_ends_the_process_with_a_logged_reason(case: str) -> None:
    task = FAILURES[case]
    if task is None:
        body = 'async def start(context):\n    raise ValueError("it broke")\nrun_service("test", start)'
    else:
        body = f'{task}\nasync def start(context):\n    context.supervise("boom", boom())\nrun_service("test", start)'
    with program(body) as process:
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 1
        assert "task_failed" in output
        assert "it broke" in output or "ended, expected it to run" in output


def test_a_stop_that_hangs_ends_at_the_deadline() -> None:
    body = """
    from mybroker.runtime import lifecycle
    lifecycle.STOP_DEADLINE_MS = 200
    async def start(context):
        context.on_stop("stuck", forever)
    run_service("test", start)
    """
    with program(body) as process:
        wait_for(process, "service_started")
        process.terminate()
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 1
        assert "stop_deadline_passed" in output


def test_a_wrong_environment_ends_with_one_clear_line() -> None:
    with program('run_service("test", None)', MYBROKER_SESSION="No") as process:
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 1
        expected = "expected a name of a-z, 0-9, _ and hyphens, at most 40 long, given 'No'"
        assert output == f"test: MYBROKER_SESSION: {expected}\n"


def test_a_failpoint_kills_at_the_passing_it_was_told() -> None:
    body = """
    for turn in range(5):
        print("turn", turn, flush=True)
        passing("other")
        passing("routed")
    """
    with program(body, MYBROKER_KILL_AT="routed:3") as process:
        output, _ = process.communicate(timeout=10)
        assert process.returncode == -signal.SIGKILL
        assert output.split("\n") == ["turn 0", "turn 1", "turn 2", ""]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent death signals are Linux's")
def test_a_service_dies_with_its_parent_when_told_to() -> None:
    body = """
    import subprocess, sys
    code = '''
    import asyncio, os
    from mybroker.runtime.lifecycle import run_service
    async def start(context):
        print("child", os.getpid(), flush=True)
    run_service("test", start)
    '''
    import textwrap, time
    subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    time.sleep(60)
    """
    with program(body, MYBROKER_DIE_WITH_PARENT="1") as process:
        child = int(wait_for(process, "child").split()[-1])
        process.kill()
        give_up_at = time.monotonic() + 10
        while is_running(child):
            assert time.monotonic() < give_up_at, f"expected {child} to die with its parent"
            time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
