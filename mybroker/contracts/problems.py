"""Which HTTP status and title each refusal has: the one table.

422 is for payloads that are malformed, 400 for values that can never be right, 404 for what is not there, 409 for
what the state of order, account or market does not allow now, 429 for too much, 503 for what is away.
"""

from __future__ import annotations

from types import MappingProxyType

from mybroker.domain.refusal import RejectReason as R

RETRY_AFTER_S = 1
"""What 429 and 503 tell the caller to wait where nothing better is known."""

_TABLE: dict[R, tuple[int, str]] = {
    R.MALFORMED: (422, "The request is malformed"),
    R.PRICE_MALFORMED: (422, "The price is not decimal text"),
    R.PRICE_NOT_ON_TICK: (400, "The price is finer than the tick"),
    R.PRICE_NOT_POSITIVE: (400, "The price must be above zero"),
    R.PRICE_ABOVE_MAXIMUM: (400, "The price is above the maximum"),
    R.PRICE_REQUIRED: (400, "This order type needs a price"),
    R.PRICE_NOT_ALLOWED: (400, "This order type takes no price"),
    R.STOP_PRICE_REQUIRED: (400, "This order type needs a stop price"),
    R.STOP_PRICE_NOT_ALLOWED: (400, "This order type takes no stop price"),
    R.STOP_PRICE_WRONG_SIDE: (400, "The stop price is on the wrong side of the price"),
    R.EXPIRES_REQUIRED: (400, "This time in force needs a date"),
    R.EXPIRES_NOT_ALLOWED: (400, "This time in force takes no date"),
    R.EXPIRES_IN_THE_PAST: (400, "The date has passed"),
    R.QUANTITY_NOT_POSITIVE: (400, "The quantity must be above zero"),
    R.DISPLAY_QUANTITY_INVALID: (400, "The displayed quantity does not fit the order"),
    R.MIN_QUANTITY_INVALID: (400, "The minimum quantity does not fit the order"),
    R.ORDER_TYPE_NOT_SUPPORTED: (400, "This order type is not supported"),
    R.TIME_IN_FORCE_NOT_SUPPORTED: (400, "This time in force is not supported"),
    R.CLIENT_ORDER_ID_CONFLICT: (409, "This client order id was used for another order"),
    R.NOT_LOGGED_ON: (503, "The broker is not logged on at the exchange"),
    R.UNKNOWN_INSTRUMENT: (404, "This ticker is not traded here"),
    R.UNKNOWN_ORDER: (404, "There is no such order"),
    R.ID_BARRED: (409, "This order id can never be used"),
    R.TOO_LATE: (409, "The order is done"),
    R.REPLACE_PENDING: (409, "An earlier cancel or replace of this order is not answered yet"),
    R.SESSION_AMBIGUOUS: (409, "Several sessions are open: name one"),
    R.UNKNOWN_SESSION: (404, "There is no such session"),
    R.QUARANTINED: (409, "The instrument is in quarantine"),
    R.MARKET_CLOSED: (409, "The market is closed"),
    R.INSTRUMENT_HALTED: (409, "The instrument is halted"),
    R.CANCEL_ONLY: (409, "The market takes cancels only"),
    R.ORDER_TYPE_NOT_ALLOWED_IN_PHASE: (409, "This order type is not allowed in this phase"),
    R.TIME_IN_FORCE_NOT_ALLOWED_IN_PHASE: (409, "This time in force is not allowed in this phase"),
    R.LOCKED_IN_AUCTION: (409, "The order is locked in the auction"),
    R.QUANTITY_NOT_MULTIPLE_OF_LOT: (400, "The quantity is no multiple of the lot"),
    R.QUANTITY_ABOVE_MAXIMUM: (400, "The quantity is above the maximum"),
    R.PRICE_OUTSIDE_REJECTION_BAND: (409, "The price is outside the rejection band"),
    R.NO_OPPOSITE_PRICE: (409, "There is nothing to trade against"),
    R.MIN_QUANTITY_NOT_MET: (409, "The minimum quantity is not there"),
    R.ORDER_LIMIT_EXCEEDED: (409, "The account has too many open orders"),
    R.THROTTLED: (429, "Too many orders"),
    R.INSUFFICIENT_FUNDS: (409, "The account has not enough cash available"),
    R.INSUFFICIENT_SHARES: (409, "The account has not enough shares available"),
    R.WALLET_UNAVAILABLE: (503, "The wallet is not answering"),
    R.EXCHANGE_UNAVAILABLE: (503, "The exchange is not answering"),
    R.IN_DOUBT_CANCELLED: (409, "The order was in doubt and has been cancelled"),
}

PROBLEMS = MappingProxyType(_TABLE)
assert set(PROBLEMS) == set(R), f"refusals without a status: {sorted(set(R) - set(PROBLEMS))}"


def status_of(reason: R) -> int:
    """Return the HTTP status of a refusal."""
    return PROBLEMS[reason][0]


def title_of(reason: R) -> str:
    """Return what a refusal means, in one sentence."""
    return PROBLEMS[reason][1]
