"""Words of an order: side, type, time in force, self-trade prevention, and why one was cancelled."""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """Buy or sell."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """Order types of B3's cash market (EntryPoint OrdType)."""

    # An enum's own hash is a Python function; membership is asked several times for each command.
    __hash__ = str.__hash__

    LIMIT = "limit"
    MARKET = "market"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    """How long an order lives (EntryPoint TimeInForce)."""

    # An enum's own hash is a Python function; membership is asked several times for each command.
    __hash__ = str.__hash__

    DAY = "day"
    GTC = "gtc"
    GTD = "gtd"
    IOC = "ioc"
    FOK = "fok"
    AT_THE_CLOSE = "at_the_close"
    GOOD_FOR_AUCTION = "good_for_auction"


class SelfTradePrevention(StrEnum):
    """What happens when one investor would trade with itself."""

    NONE = "none"
    CANCEL_AGGRESSOR = "cancel_aggressor"
    CANCEL_RESTING = "cancel_resting"
    CANCEL_BOTH = "cancel_both"


class CancelReason(StrEnum):
    """Why shares of an order left the book without a trade."""

    USER = "user"
    MASS_CANCEL = "mass_cancel"
    DISCONNECT = "disconnect"
    IOC_REMAINDER = "ioc_remainder"
    AUCTION_REMAINDER = "auction_remainder"
    SELF_TRADE = "self_trade"
    REPLACED_TO_FILLED = "replaced_to_filled"
    NO_OPPOSITE_PRICE = "no_opposite_price"
    PROTECTION_PRICE = "protection_price"
    MIN_QUANTITY = "min_quantity"
    FOK = "fok"
    SUPERVISOR = "supervisor"


class Aggressor(StrEnum):
    """Which side took liquidity; auction where neither did."""

    BUY = "buy"
    SELL = "sell"
    AUCTION = "auction"
