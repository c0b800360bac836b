"""The phases of a trading day, in the words of B3, and what each one allows.

Source: shared design "exchange-rules.md", phases; B3's group phases and UMDF trading status.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """A market's (or one instrument's) trading phase."""

    # An enum's own hash is a Python function; membership is asked several times for each command.
    __hash__ = str.__hash__

    CLOSED = "closed"
    PRE_OPEN = "pre_open"
    OPEN = "open"
    CLOSING_CALL = "closing_call"
    AFTER_MARKET = "after_market"
    HALTED = "halted"
    AUCTION = "auction"
    CANCEL_ONLY = "cancel_only"


CALL_PHASES = frozenset({Phase.PRE_OPEN, Phase.CLOSING_CALL, Phase.AUCTION})
"""Orders are collected and nothing trades until the uncross."""

CONTINUOUS_PHASES = frozenset({Phase.OPEN, Phase.AFTER_MARKET})
"""Orders trade on entry."""

PHASES_THAT_ACCEPT_ORDERS = CALL_PHASES | CONTINUOUS_PHASES

PHASES_THAT_ACCEPT_CANCELS = PHASES_THAT_ACCEPT_ORDERS | {Phase.CANCEL_ONLY, Phase.HALTED}


class StatusReason(StrEnum):
    """Why an instrument is in a call or a halt of its own (UMDF security status)."""

    BAND_LAST_PRICE = "band_last_price"
    BAND_MEAN_PRICE = "band_mean_price"
    BAND_STATIC = "band_static"
    LATE_CHANGE = "late_change"
    """A call is longer: price, quantity, unfilled balance or an earlier order's fill changed near its end."""
    PROTECTION = "protection"
    """A call is longer: its price left the protection band."""
    PROTECTION_HALT = "protection_halt"
    """The price stayed outside the protection band: a supervisor decides."""
