"""Write, or with --check compare, the committed files that are generated from the contracts.

`python -m mybroker.contracts.generate` writes them; `--check` exits 1 and names each one that is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mybroker.contracts.openapi import openapi_text

ROOT = Path(__file__).resolve().parent.parent.parent

GENERATED: Mapping[str, Callable[[], str]] = {"docs/openapi.json": openapi_text}
"""Path below the repository -> what it must hold."""


def stale(root: Path = ROOT) -> list[str]:
    """Return the generated files that are missing or differ from the contracts."""
    return [
        path
        for path, text in GENERATED.items()
        if not root.joinpath(path).exists() or root.joinpath(path).read_text(encoding="utf-8") != text()
    ]


def write(root: Path = ROOT) -> list[str]:
    """Write what is stale and return its paths."""
    written = stale(root)
    for path in written:
        file = root.joinpath(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(GENERATED[path](), encoding="utf-8")
    return written


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("expected nothing or --check\n")
        return 2
    if arguments:
        found = stale()
        for path in found:
            sys.stderr.write(f"{path}: stale; run python -m mybroker.contracts.generate\n")
        return 1 if found else 0
    for path in write():
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
