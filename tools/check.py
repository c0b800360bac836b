"""Runs every check of the house and prints one line for each, with what it said when it failed.

`python -m tools.check [FOLDER ...]` is `make check`. All checks run, two at a time, whatever the others found; the exit
code is 0 when all passed.
"""

import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
FOLDERS = ("mybroker", "services", "tools", "tests", "bench")
GENERATOR = "mybroker.contracts.generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One program whose exit code 0 means that all is well."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a check said."""

    check: Check
    passed: bool
    output: str
    took_s: float


def checks(folders: list[str]) -> list[Check]:
    """Every check over `folders`, the slowest first."""
    python = sys.executable
    scripts = Path(python).parent
    # A folder without a Python file is an error to mypy, not an empty success.
    folders = [folder for folder in folders if any((ROOT / folder).rglob("*.py"))]
    found = [
        Check(name="types (mypy --strict)", command=(python, "-m", "mypy", *folders)),
        Check(name="format (ruff format)", command=(python, "-m", "ruff", "format", "--check", *folders)),
        Check(name="lint (ruff)", command=(python, "-m", "ruff", "check", *folders)),
        Check(name="house rules (tools.house)", command=(python, "-m", "tools.house")),
        Check(name="walls (import-linter)", command=(str(scripts / "lint-imports"), "--no-logo")),
    ]
    if importlib.util.find_spec("mybroker.contracts") and importlib.util.find_spec(GENERATOR):
        found.append(Check(name="generated contracts", command=(python, "-m", GENERATOR, "--check")))
    return found


def run(check: Check) -> Outcome:
    """Run one check to its end."""
    started_s = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    finished = subprocess.run(
        check.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    took_s = time.monotonic() - started_s
    return Outcome(check=check, passed=finished.returncode == 0, output=finished.stdout, took_s=took_s)


def main(folders: list[str]) -> int:
    """Run all checks and print each as it ends."""
    passed = failed = 0
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for outcome in pool.map(run, checks(folders or list(FOLDERS))):
            print(
                f"{'ok    ' if outcome.passed else 'FAILED'}  {outcome.check.name}  {outcome.took_s:.1f} s", flush=True
            )
            if outcome.passed:
                passed += 1
            else:
                failed += 1
                print(outcome.output.rstrip(), flush=True)
    print(f"checks: {passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
