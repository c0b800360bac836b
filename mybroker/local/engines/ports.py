"""Free ports on 127.0.0.1, kept across restarts and never given to two sessions at once.

A port is held from the moment it is chosen until the session ends, by an abstract socket named after it: the kernel
drops that with the process, so a crash leaves nothing to clean. Ports come from below the kernel's range for outgoing
connections, which could otherwise take one between the choice and the engine's bind.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping, Sequence

PORT_MIN = 20_000
PORT_MAX = 31_999
TRIES_MAX = 2_000
LISTENS_TIMEOUT_S = 0.2


class PortClaims:
    """The ports one session holds."""

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket] = {}

    def choose(self, names: Sequence[str], before: Mapping[str, int], patience_ms: int = 0) -> dict[str, int]:
        """Return a free port for each name: the one it had before when that is free, else a new one.

        `patience_ms` is how long to wait for a former port that something still holds.
        """
        deadline_s = time.monotonic() + patience_ms / 1_000
        chosen: dict[str, int] = {}
        for name in names:
            port = before.get(name)
            while port is not None and not self.claim(port):
                if time.monotonic() > deadline_s:
                    port = None
                    break
                time.sleep(0.05)
            chosen[name] = port if port is not None else self._new()
        return chosen

    def release(self) -> None:
        for claim in self._claims.values():
            claim.close()
        self._claims.clear()

    def _new(self) -> int:
        # Chance keeps two sessions that start together from walking the same ports; nothing is derived from it.
        for port in random.sample(range(PORT_MIN, PORT_MAX + 1), TRIES_MAX):
            if self.claim(port):
                return port
        raise OSError(f"no free port between {PORT_MIN} and {PORT_MAX} on 127.0.0.1")

    def claim(self, port: int) -> bool:
        """Take this very port if it is free; says whether it is ours now."""
        if port in self._claims:
            return False
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0mybroker-port-{port}")
        except OSError:
            claim.close()
            return False
        if not is_free(port):
            claim.close()
            return False
        self._claims[port] = claim
        return True


def is_free(port: int) -> bool:
    """Say whether an engine could listen there now (a closed connection's remains do not count)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Say whether somebody accepts connections on 127.0.0.1 there. Costs nothing, unlike a client that fails."""
    with socket.socket() as probe:
        probe.settimeout(LISTENS_TIMEOUT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0
