"""What a position cost: a fold over the share entries of one account, in their order.

Buying adds what was paid. Selling takes out the average cost of what is sold, rounded down to the cent, and realises
the rest of the proceeds. A position that is sold out costs nothing. The same fold, run over the entries again, must
give what the account says: the audit does so.
"""

from __future__ import annotations

from mybroker.domain.money import floor_div


def cost_after_credit(cost_cents: int, value_cents: int) -> int:
    """Return the cost of a position after shares worth `value_cents` came in."""
    return cost_cents + value_cents


def cost_and_realised_after_debit(
    *, quantity_shares: int, cost_cents: int, realised_cents: int, sold_shares: int, value_cents: int
) -> tuple[int, int]:
    """Return cost and realised result after `sold_shares` of `quantity_shares` left for `value_cents`."""
    assert 0 < sold_shares <= quantity_shares, f"expected up to {quantity_shares} shares to leave, were {sold_shares}"
    if sold_shares == quantity_shares:
        cost_out_cents = cost_cents
    else:
        cost_out_cents = floor_div(cost_cents * sold_shares, quantity_shares)
    return cost_cents - cost_out_cents, realised_cents + value_cents - cost_out_cents


def average_price_text(cost_cents: int, quantity_shares: int) -> str | None:
    """Write cost over quantity as decimal text with four places, rounded down; None without shares."""
    if quantity_shares <= 0:
        return None
    ten_thousandths = floor_div(cost_cents * 100, quantity_shares)
    whole, rest = divmod(ten_thousandths, 10_000)
    return f"{whole}.{rest:04d}"
