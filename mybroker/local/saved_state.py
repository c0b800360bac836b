"""The few facts a session keeps between runs on this machine: ports, the clock's speed, previous closes.

Nothing here is needed for correctness: without the file the session starts with new ports, at the manifest's speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class _State(msgspec.Struct, frozen=True, kw_only=True):
    ports: dict[str, int] = {}
    clock_speed: int | None = None
    reference_price_ticks: dict[str, int] = {}


class SavedState:
    """One small JSON file, replaced whole at each change."""

    def __init__(self, path: Path) -> None:
        """Read the file; one that does not read counts as none."""
        self._path = path
        try:
            self._state = msgspec.json.decode(path.read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.MsgspecError):
            self._state = _State()

    @property
    def ports(self) -> Mapping[str, int]:
        """Return the ports processes had."""
        return self._state.ports

    @property
    def clock_speed(self) -> int | None:
        """Return the speed a person set, or None: the manifest's."""
        return self._state.clock_speed

    @property
    def reference_price_ticks(self) -> Mapping[str, int]:
        """Return the previous day's closing prices, by ticker."""
        return self._state.reference_price_ticks

    def update(self, **changes: object) -> None:
        """Change fields and write the file."""
        self._state = msgspec.structs.replace(self._state, **changes)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._state))
        fresh.replace(self._path)
