"""Makes .venv ready: creates it, installs the pinned packages with a progress bar, puts `mybroker` into it.

Run through tools/bootstrap.sh with the system's Python; uses the standard library only. Promises:

- the second run does nothing: a stamp holds the hash of what was installed, and where;
- killed at any moment, the next run starts over from an empty .venv (pip's cache keeps what was fetched);
- two runs at once take turns, also when one was killed and its pip still works;
- every package must have one of the hashes in requirements*.txt.

Limits: POSIX only. Packages that left the requirements stay in an existing .venv.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOCK = ROOT / ".venv.lock"
INSTALLING = VENV / ".installing"
REQUIREMENTS = {"runtime": ROOT / "requirements.txt", "dev": ROOT / "requirements-dev.txt"}

# Raise when what the bootstrap leaves behind changes, so that an existing .venv is gone over again.
BOOTSTRAP_REVISION = 1

PLAIN_LINE_EVERY_S = 5.0
OUTPUT_TAIL_LINES = 20


class BootstrapError(Exception):
    """What a person has to do, in one sentence."""


# ---- what is there


def stamp_path(group: str) -> Path:
    """Where the hash of the installed `group` stands."""
    return VENV / f".stamp-{group}"


def wanted_stamp(group: str) -> str:
    """Hash of all that decides what .venv holds; its place counts, since scripts name it."""
    digest = hashlib.sha256(f"{BOOTSTRAP_REVISION}\n{VENV}\n".encode())
    digest.update(REQUIREMENTS[group].read_bytes())
    return digest.hexdigest()


def is_fresh(group: str) -> bool:
    """Say whether nothing has to be done for `group`."""
    try:
        return not INSTALLING.exists() and stamp_path(group).read_text() == wanted_stamp(group)
    except OSError:
        return False


@contextlib.contextmanager
def only_one() -> Iterator[int]:
    """Hold the lock; children that get the descriptor keep it held when this process is killed."""
    with LOCK.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another bootstrap of this folder is at work: waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


# ---- the environment


def works(python: Path) -> bool:
    """Say whether this interpreter starts."""
    try:
        return subprocess.run([python, "-I", "-c", "pass"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def has_pip(python: Path) -> bool:
    """Say whether this interpreter has a pip of its own."""
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def run_quietly(command: list[str]) -> None:
    """Run to the end or raise with what it said last."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        said = (finished.stdout + finished.stderr).strip().splitlines()
        raise BootstrapError(f"{' '.join(command)} failed: {said[-1] if said else 'without a word'}")


def has_module(name: str) -> bool:
    """Say whether this Python can import `name`; Debian ships venv and ensurepip apart."""
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0


def install_debian_venv() -> None:
    """As root on Debian, fetch the package that carries venv and ensurepip; show what apt says."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    how = f"this Python has no ensurepip: install it first (Debian, Ubuntu: apt-get install {name})"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BootstrapError(how)
    print(f"this Python has no ensurepip: installing {name}", flush=True)
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["apt-get", "install", "-y", "-q", name], env=environment, check=False).returncode != 0:
        raise BootstrapError(how)


def create_environment() -> None:
    """Create an empty .venv with pip in it."""
    if VENV.exists():
        shutil.rmtree(VENV)
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    if not (has_module("ensurepip") and has_module("venv")):
        install_debian_venv()
    # The mark stands before the first file does: a half-made environment is never taken for a whole one.
    VENV.mkdir()
    INSTALLING.touch()
    run_quietly([sys.executable, "-m", "venv", str(VENV)])


def ensure_environment() -> None:
    """Leave a .venv that works, without touching one that does."""
    interrupted = INSTALLING.exists()
    if interrupted:
        print("the last bootstrap was cut off: starting over", flush=True)
    if interrupted or not works(VENV_PYTHON) or not has_pip(VENV_PYTHON):
        create_environment()


# ---- the packages


def package_count(requirements: Path) -> int:
    """Number of pins in a requirements file, whatever their markers say."""
    return sum("==" in line and not line.startswith((" ", "#")) for line in requirements.read_text().splitlines())


@dataclass(slots=True)
class Progress:
    """One line that is drawn again on a terminal, or a plain line now and then anywhere else."""

    total: int
    verb: str = "fetched"
    done: int = 0
    name: str = ""
    started_s: float = 0.0
    drawn_s: float = 0.0

    def show(self, *, now_s: float, last: bool = False) -> None:
        """Draw what is known."""
        elapsed_s = now_s - self.started_s
        done = min(self.done, self.total)
        if sys.stdout.isatty():
            width = 30
            filled = width * done // max(self.total, 1)
            bar = "#" * filled + "." * (width - filled)
            line = f"\r[{bar}] {done}/{self.total} {self.verb}  {elapsed_s:4.0f} s  {self.name[:28]:28}"
            print(line, end="\n" if last else "", flush=True)
        elif last or now_s - self.drawn_s >= PLAIN_LINE_EVERY_S:
            self.drawn_s = now_s
            print(f"{done}/{self.total} packages {self.verb}, {elapsed_s:.0f} s", flush=True)

    def hear(self, line: str) -> None:
        """Follow one line of pip's output."""
        word = line.split(" ", 1)[0]
        if word == "Ignoring":
            self.total -= 1
        elif word == "Collecting":
            self.done, self.name = self.done + 1, line.split()[1].partition("=")[0]
        elif line.startswith("Requirement already satisfied"):
            self.done += 1
        elif line.startswith("Installing collected packages"):
            self.verb, self.name = "installed", ""


def installed_count() -> int:
    """Number of packages in .venv now; pip itself says nothing while it unpacks."""
    return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))


def install(group: str, lock_descriptor: int) -> None:
    """Install what `group` pins, showing how far it is."""
    requirements = REQUIREMENTS[group]
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar=off", "--require-hashes", "--no-deps", "--requirement", str(requirements)]
    started_s = time.monotonic()
    progress = Progress(total=package_count(requirements), started_s=started_s, drawn_s=started_s)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[lock_descriptor],
    )
    assert process.stdout is not None, "the pipe was asked for"
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=read_lines, args=(process.stdout, lines), daemon=True).start()
    tail = follow(lines, progress)
    if process.wait() != 0:
        print("\n" + "\n".join(tail), file=sys.stderr)
        raise BootstrapError(f"pip could not install {requirements.name}; its last words stand above")
    progress.verb, progress.done, progress.name = "ready", progress.total, ""
    progress.show(now_s=time.monotonic(), last=True)


def read_lines(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    """Pass on each line, then None."""
    for line in stream:
        lines.put(line.strip())
    lines.put(None)


def follow(lines: "queue.SimpleQueue[str | None]", progress: Progress) -> list[str]:
    """Draw until pip is done; returns the last lines it wrote."""
    tail: list[str] = []
    before = installed_count()
    while True:
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            line = ""
        if line is None:
            return tail
        if line:
            tail = [*tail[1 - OUTPUT_TAIL_LINES :], line]
            progress.hear(line)
        if progress.verb == "installed":
            progress.done = max(installed_count() - before, 0)
        progress.show(now_s=time.monotonic())


# ---- the project itself


def install_project() -> None:
    """Let .venv's Python see the repository and put `mybroker` beside it; nothing is built."""
    (site_packages,) = VENV.glob("lib/python*/site-packages")
    (site_packages / "mybroker.pth").write_text(f"{ROOT}\n")
    script = VENV / "bin" / "mybroker"
    # A shell line first, so that a path that is long or has spaces in it works too.
    script.write_text(
        "#!/bin/sh\n"
        f"''':'\nexec '{VENV_PYTHON}' \"$0\" \"$@\"\n'''\n"
        "import sys\n\n"
        "from mybroker.cli.main import main\n\n"
        "sys.exit(main())\n"
    )
    script.chmod(0o755)


def bootstrap(group: str) -> None:
    """Make .venv ready for `group`."""
    with only_one() as lock_descriptor:
        if is_fresh(group) and works(VENV_PYTHON):
            return
        started_s = time.monotonic()
        ensure_environment()
        INSTALLING.touch()
        install(group, lock_descriptor)
        install_project()
        # The development set holds the runtime set, pin for pin.
        for name in REQUIREMENTS if group == "dev" else (group,):
            stamp_path(name).write_text(wanted_stamp(name))
        INSTALLING.unlink()
        print(f".venv is ready for {group} after {time.monotonic() - started_s:.0f} s", flush=True)


def main() -> int:
    """Run from the command line; 0 when .venv is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=sorted(REQUIREMENTS))
    parser.add_argument("--is-fresh", action="store_true", help="only say by the exit code whether all is in place")
    arguments = parser.parse_args()
    if arguments.is_fresh:
        return 0 if is_fresh(arguments.group) else 1
    try:
        bootstrap(arguments.group)
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: cut off; the next run starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
