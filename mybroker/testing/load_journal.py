"""The client's own record of what it asked and heard; see `contracts.client_journal`. One writer, flushed a line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Any

from mybroker.contracts.client_journal import JournalEntry, encode_line


class JournalWriter:
    """Appends entries to a file. A line is with the kernel when `write` returns, so a killed client loses none."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        self.path = path
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def write(self, account: str, action: str, outcome: str, **facts: Any) -> None:
        """Append one entry, stamped with wall time."""
        entry = JournalEntry(at_ns=time.time_ns(), account=account, action=action, outcome=outcome, **facts)
        self._file.write(encode_line(entry))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
