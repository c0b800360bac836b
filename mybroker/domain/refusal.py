"""Every reason for which an order, a cancel or a replace is refused: one closed list.

The order of the list is the order of precedence: checks run from top to bottom and the first that
fails is the answer. `retryable` says whether the same request can succeed later without a change.
HTTP statuses are mapped from this list in `mybroker.contracts.problems`, nowhere else.
"""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """A refusal, in order of precedence: shape, existence, the phase, limits, then money."""

    # shape
    MALFORMED = "malformed"
    PRICE_MALFORMED = "price_malformed"
    PRICE_NOT_ON_TICK = "price_not_on_tick"
    PRICE_NOT_POSITIVE = "price_not_positive"
    PRICE_ABOVE_MAXIMUM = "price_above_maximum"
    PRICE_REQUIRED = "price_required"
    PRICE_NOT_ALLOWED = "price_not_allowed"
    STOP_PRICE_REQUIRED = "stop_price_required"
    STOP_PRICE_NOT_ALLOWED = "stop_price_not_allowed"
    STOP_PRICE_WRONG_SIDE = "stop_price_wrong_side"
    EXPIRES_REQUIRED = "expires_required"
    EXPIRES_NOT_ALLOWED = "expires_not_allowed"
    EXPIRES_IN_THE_PAST = "expires_in_the_past"
    QUANTITY_NOT_POSITIVE = "quantity_not_positive"
    DISPLAY_QUANTITY_INVALID = "display_quantity_invalid"
    MIN_QUANTITY_INVALID = "min_quantity_invalid"
    ORDER_TYPE_NOT_SUPPORTED = "order_type_not_supported"
    TIME_IN_FORCE_NOT_SUPPORTED = "time_in_force_not_supported"

    # who and what
    CLIENT_ORDER_ID_CONFLICT = "client_order_id_conflict"
    NOT_LOGGED_ON = "not_logged_on"
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    UNKNOWN_ORDER = "unknown_order"
    ID_BARRED = "id_barred"
    TOO_LATE = "too_late"
    REPLACE_PENDING = "replace_pending"
    SESSION_AMBIGUOUS = "session_ambiguous"
    UNKNOWN_SESSION = "unknown_session"

    # now
    QUARANTINED = "quarantined"
    MARKET_CLOSED = "market_closed"
    INSTRUMENT_HALTED = "instrument_halted"
    CANCEL_ONLY = "cancel_only"
    ORDER_TYPE_NOT_ALLOWED_IN_PHASE = "order_type_not_allowed_in_phase"
    TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE = "time_in_force_not_allowed_in_phase"
    LOCKED_IN_AUCTION = "locked_in_auction"

    # limits
    QUANTITY_NOT_MULTIPLE_OF_LOT = "quantity_not_multiple_of_lot"
    QUANTITY_ABOVE_MAXIMUM = "quantity_above_maximum"
    PRICE_OUTSIDE_REJECTION_BAND = "price_outside_rejection_band"
    NO_OPPOSITE_PRICE = "no_opposite_price"
    MIN_QUANTITY_NOT_MET = "min_quantity_not_met"
    ORDER_LIMIT_EXCEEDED = "order_limit_exceeded"
    THROTTLED = "throttled"

    # money
    INSUFFICIENT_FUNDS = "insufficient_funds"
    INSUFFICIENT_SHARES = "insufficient_shares"

    # what stands behind is away
    WALLET_UNAVAILABLE = "wallet_unavailable"
    EXCHANGE_UNAVAILABLE = "exchange_unavailable"
    IN_DOUBT_CANCELLED = "in_doubt_cancelled"

    @property
    def retryable(self) -> bool:
        """Say whether the same request may succeed later, unchanged."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        RejectReason.NOT_LOGGED_ON,
        RejectReason.REPLACE_PENDING,
        RejectReason.MARKET_CLOSED,
        RejectReason.INSTRUMENT_HALTED,
        RejectReason.CANCEL_ONLY,
        RejectReason.QUARANTINED,
        RejectReason.NO_OPPOSITE_PRICE,
        RejectReason.THROTTLED,
        RejectReason.WALLET_UNAVAILABLE,
        RejectReason.EXCHANGE_UNAVAILABLE,
        RejectReason.INSUFFICIENT_FUNDS,
        RejectReason.INSUFFICIENT_SHARES,
    }
)
