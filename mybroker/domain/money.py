"""Money and prices as integers: the only place where decimal text becomes ticks or cents.

A tick of B3's cash market is R$ 0.01, so one tick of price times one share is one cent.
Invariants: no float in or out; a text that is not exact on the tick is refused, never rounded.
Limits: prices up to PRICE_TICKS_MAX, quantities up to QUANTITY_SHARES_MAX.
"""

from __future__ import annotations

import re

from mybroker.domain.refusal import RejectReason

TICKS_PER_REAL = 100
PRICE_TICKS_MAX = 10_000_000_00
QUANTITY_SHARES_MAX = 10_000_000_000

_DECIMAL_TEXT = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,18}))?")


def parse_price_ticks(text: str) -> int | RejectReason:
    """Turn decimal text ("30.05") into ticks.

    Refuses `price_malformed` for what is not plain decimal text, `price_not_on_tick` for a finer price,
    `price_not_positive` for zero and below, `price_above_maximum` beyond PRICE_TICKS_MAX.
    """
    match = _DECIMAL_TEXT.fullmatch(text)
    if match is None:
        return RejectReason.PRICE_MALFORMED
    sign, whole, fraction = match.groups()
    fraction = fraction or ""
    if fraction[2:].strip("0"):
        return RejectReason.PRICE_NOT_ON_TICK
    price_ticks = int(whole) * TICKS_PER_REAL + int(fraction[:2].ljust(2, "0"))
    if sign or price_ticks == 0:
        return RejectReason.PRICE_NOT_POSITIVE
    if price_ticks > PRICE_TICKS_MAX:
        return RejectReason.PRICE_ABOVE_MAXIMUM
    return price_ticks


def parse_cents(text: str) -> int | None:
    """Turn decimal text of an amount ("-1234.56") into cents; None where it is not exact to the cent."""
    match = _DECIMAL_TEXT.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction = match.groups()
    fraction = fraction or ""
    if fraction[2:].strip("0"):
        return None
    amount_cents = int(whole) * 100 + int(fraction[:2].ljust(2, "0"))
    return -amount_cents if sign else amount_cents


def format_ticks(price_ticks: int) -> str:
    """Write a price as decimal text with two places: 3005 is "30.05"."""
    return format_cents(price_ticks)


def format_cents(amount_cents: int) -> str:
    """Write an amount as decimal text with two places: -5 is "-0.05"."""
    sign = "-" if amount_cents < 0 else ""
    whole, cents = divmod(abs(amount_cents), 100)
    return f"{sign}{whole}.{cents:02d}"


def notional_cents(price_ticks: int, quantity_shares: int) -> int:
    """Return what `quantity_shares` cost at `price_ticks`; exact, because a tick is a cent a share."""
    return price_ticks * quantity_shares


def floor_div(amount: int, divisor: int) -> int:
    """Divide towards minus infinity; named so that rounding is visible at the call."""
    return amount // divisor


def ceil_div(amount: int, divisor: int) -> int:
    """Divide towards plus infinity; named so that rounding is visible at the call."""
    return -(-amount // divisor)
