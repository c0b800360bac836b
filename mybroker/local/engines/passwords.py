"""Passwords of the local engines: made once per session folder, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

PASSWORD_BYTES = 24


class Passwords:
    """Files below one folder, one password each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> str:
        """Return the password of that name, made at the first call and the same ever after."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / name
        if not path.exists():
            fresh = self._folder / f"{name}.{threading.get_native_id()}.new"
            write_private(fresh, secrets.token_hex(PASSWORD_BYTES))
            try:
                # A link fails where the name is taken: whoever was first has made the password.
                os.link(fresh, path)
            except FileExistsError:
                pass
            fresh.unlink()
        return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
