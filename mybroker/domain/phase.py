"""The phases of a trading day, in the words of B3, and what each one allows.

Source: shared design "exchange-rules.md", phases; B3's group phases and UMDF trading status.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """A market's (or one instrument's) trading phase."""

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
