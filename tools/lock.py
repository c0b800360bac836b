"""Writes requirements.txt and requirements-dev.txt from the lower bounds in pyproject.toml.

Promises: every pin carries the hashes of all its files, holds for every platform and Python from 3.11 on, and no index
address, find-links folder or path of the machine that ran it enters the files. Pins that are there are kept; give
`--upgrade` to move them, or `--upgrade-package NAME` for one.

Limit: asks the registry through uv's ordinary client, so it needs a network; `make check` does not run it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_OLDEST = "3.11"


def compile_command(output: str, *, extra: str | None, constraint: str | None, options: list[str]) -> list[str]:
    """The uv call that writes one file."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal", "--generate-hashes"]
    command += ["--python-version", PYTHON_OLDEST, "--no-emit-index-url", "--no-annotate", "--quiet"]
    command += ["--custom-compile-command", "make lock", "--output-file", output]
    if extra is not None:
        command += ["--extra", extra]
    if constraint is not None:
        command += ["--constraint", constraint]
    return command + options


def main(options: list[str]) -> int:
    """Write both files; the second keeps the pins of the first."""
    # pip's settings name folders of this machine; uv must neither read nor write them.
    environment = {name: value for name, value in os.environ.items() if name not in {"UV_FIND_LINKS", "PIP_FIND_LINKS"}}
    commands = (
        compile_command("requirements.txt", extra=None, constraint=None, options=options),
        compile_command("requirements-dev.txt", extra="dev", constraint="requirements.txt", options=options),
    )
    for command in commands:
        finished = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if finished.returncode != 0:
            return finished.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
