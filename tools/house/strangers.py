"""What must never stand in a commit: hosts of package registries, paths of the machine it was made on, lock files that
carry either, keys.

The patterns are written in pieces, so that this file is not its own first finding.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tools.house.source import Finding

REGISTRY_HOSTS = (
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("np", "mjs.org"),
    ("np", "mjs.com"),
    ("yarn", "pkg.com"),
    ("crates", ".io"),
    ("maven.", "apache.org"),
    ("maven.", "org/maven2"),
    ("proxy.", "golang.org"),
    ("sum.", "golang.org"),
    ("deb.", "debian.org"),
    ("archive.", "ubuntu.com"),
)
MACHINE_FOLDERS = ("wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me", "opt/" + "wheels", "tmp/" + "team", "Use" + "rs")
LOCK_FILES_REFUSED = frozenset({"uv.lock", "Cargo.lock", "poetry.lock", "Pipfile.lock"})
FILE_BYTES_MAX = 4_000_000

HOST = re.compile("|".join(re.escape(first + second) for first, second in REGISTRY_HOSTS), re.IGNORECASE)
# A folder name counts at the start of an absolute path only: neither in an address nor inside a longer path.
MACHINE_PATH = re.compile(rf"(?<![A-Za-z0-9_.}}\])~-])/(?:{'|'.join(MACHINE_FOLDERS)})/")
PRIVATE_KEY = re.compile("-----BEGIN [A-Z ]*PRIV" + "ATE KEY-----")
PATTERNS = ((HOST, "names the host of a package registry"), (MACHINE_PATH, "names a path of one machine"))


def check_strangers(root: Path, paths: list[str]) -> Iterator[Finding]:
    """Yield every line and file that does not belong into the repository."""
    for path in paths:
        if PurePosixPath(path).name in LOCK_FILES_REFUSED:
            yield Finding(path=path, line=1, rule="lockfile", message="carries registry addresses: do not track it")
            continue
        content = (root / path).read_bytes()
        if len(content) > FILE_BYTES_MAX:
            message = f"has {len(content)} bytes, at most {FILE_BYTES_MAX} belong into a repository"
            yield Finding(path=path, line=1, rule="bytes", message=message)
        elif b"\0" not in content[:8192]:
            yield from check_text(path, content.decode(errors="replace"))


def check_text(path: str, text: str) -> Iterator[Finding]:
    """Yield every line of one text file that holds what it must not."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, message in PATTERNS:
            match = pattern.search(line)
            if match:
                yield Finding(path=path, line=number, rule="stranger", message=f"{message}: {match.group(0)}")
        if PRIVATE_KEY.search(line):
            yield Finding(path=path, line=number, rule="secret", message="holds a private key")
