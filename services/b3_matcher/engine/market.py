"""What all instruments of a shard share: who owns it, its configuration, its time, its phase, its circuit breaker.

Like every item it gives an image of what may change, takes one back, and says what the state hash covers.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from mybroker.contracts.commands import SessionConfig
from mybroker.domain.phase import Phase

_MARKET_CHANGES = (
    "log_id",
    "owner",
    "epoch",
    "engine_version_wanted",
    "revision",
    "config",
    "now_ns",
    "phase",
    "halted",
    "day_over",
    "call_ends_ns",
    "circuit_breaker_level",
    "circuit_breaker_halts",
    "circuit_breaker_until_ns",
    "index_number",
)
_market_image = attrgetter(*_MARKET_CHANGES)


class Market:
    """What all instruments share."""

    __slots__ = (*_MARKET_CHANGES, "hashed", "stamp")

    def __init__(self, engine_version: int) -> None:
        self.log_id: str | None = None
        self.owner = ""
        self.epoch = -1
        self.engine_version_wanted = engine_version
        self.revision = 0
        self.config: SessionConfig | None = None
        self.now_ns = 0
        self.phase = Phase.CLOSED
        self.halted = False
        self.day_over = False
        self.call_ends_ns: int | None = None
        """When the reopening call after a circuit breaker's halt ends."""
        self.circuit_breaker_level = 0
        """The highest level of the circuit breaker reached today."""
        self.circuit_breaker_halts = False
        """The halt in force is the circuit breaker's."""
        self.circuit_breaker_until_ns: int | None = None
        self.index_number = 0
        self.stamp = -1
        self.hashed = 0

    @property
    def effective_phase(self) -> Phase:
        """The phase the market is seen in: a halt hides the schedule's phase, except closed."""
        return Phase.HALTED if self.halted and self.phase is not Phase.CLOSED else self.phase

    def image(self) -> tuple[Any, ...]:
        """Return what may change."""
        image: tuple[Any, ...] = _market_image(self)
        return image

    def restore(self, image: tuple[Any, ...]) -> None:
        """Put a before-image back."""
        for name, value in zip(_MARKET_CHANGES, image, strict=True):
            setattr(self, name, value)

    def canonical(self) -> tuple[object, ...]:
        """Return what the hash covers: not the log's id, the owner, its epoch or the engine version."""
        date = "" if self.config is None else self.config.business_date
        return (
            "market",
            self.revision,
            date,
            self.now_ns,
            self.phase._value_,
            self.halted,
            self.day_over,
            self.call_ends_ns,
            (self.circuit_breaker_level, self.circuit_breaker_halts, self.circuit_breaker_until_ns, self.index_number),
        )
