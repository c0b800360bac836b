"""Quick tests run first, and a group that cannot run says so in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest

@pytest.mark.day
@pytest.mark.engines
def test_day(request): assert request.node.get_closest_marker("timeout").args == (1800,)

@pytest.mark.engines
def test_engine(request): assert request.node.get_closest_marker("timeout").args == (300,)

@pytest.mark.shared
def test_first_file(): raise AssertionError("must not run")

@pytest.mark.shared
def test_second_file(): raise AssertionError("must not run")

def test_plain(request): assert request.node.get_closest_marker("timeout") is None
"""


def test_slow_tests_come_last_and_missing_data_is_one_line(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    environment = {**os.environ, "MYBROKER_SHARED_DIR": str(tmp_path / "nowhere")}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]

    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout
    lines = finished.stdout.splitlines()
    ran = [line.split("::")[1].split(" ")[0] for line in lines if "::" in line and "%" in line]
    assert ran == ["test_first_file", "test_second_file", "test_plain", "test_engine", "test_day"]
    assert [line[:11] for line in lines if "real market data is not here" in line] == ["SKIPPED [2]"]
