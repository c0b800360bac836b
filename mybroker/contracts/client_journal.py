"""What a trading program did and heard, kept on its own side: one JSON object a line.

Load clients write it as they go, the audit reads it afterwards and asks: is everything that was acknowledged really
there, and everything whose outcome stayed unknown there once or not at all. A request is written before it is sent
("asked") and again when its outcome is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from mybroker.contracts.codec import Malformed


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `action`: place, cancel, replace or events. `outcome`: asked, acknowledged, refused, unknown;
    of events: next (the following number came), gap or repeated (with the number expected and the one that came).
    """

    at_ns: int
    account: str
    action: str
    outcome: str
    client_order_id: str | None = None
    order_id: str | None = None
    ticker: str | None = None
    side: str | None = None
    quantity_shares: int | None = None
    status: int | None = None
    code: str | None = None
    expected_seq: int | None = None
    seq: int | None = None
    took_ms: int | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(JournalEntry)


def encode_line(entry: JournalEntry) -> bytes:
    """Write an entry as one line with its newline."""
    return _ENCODER.encode(entry) + b"\n"


def read_journal(path: Path) -> Iterator[JournalEntry]:
    """Yield the entries of a file; a last line cut short by a crash is left out. Raises Malformed."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _DECODER.decode(line)
            except msgspec.MsgspecError as error:
                raise Malformed(f"{path.name} line {number}: {error}, was {line[:120]!r}") from error
