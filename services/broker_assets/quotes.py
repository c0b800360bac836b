"""Which quote counts and when it is stale. Pure."""

from mybroker.contracts.http_assets import LastQuote
from mybroker.contracts.quotes import Quote
from mybroker.domain.schedule import parse_instant_ns

STALE_AFTER_MS = 3_600_000


def supersedes(new: Quote, old: Quote | None) -> bool:
    """Say whether a quote replaces the one that is known: it is not older, by the market's time, then by arrival."""
    return old is None or _order(new) >= _order(old)


def show(quote: Quote, *, now_ns: int, stale_after_ms: int = STALE_AFTER_MS) -> LastQuote:
    """Return a quote with its age; too old is stale, whatever its source said."""
    received_ns = parse_instant_ns(quote.received_at)
    age_ms = max(0, (now_ns - received_ns) // 1_000_000) if received_ns is not None else stale_after_ms
    return LastQuote(
        ticker=quote.ticker,
        price=quote.price,
        source=quote.source,
        updated_at=quote.updated_at,
        received_at=quote.received_at,
        age_ms=age_ms,
        stale=quote.stale or age_ms >= stale_after_ms,
        name=quote.name,
        open=quote.open,
        high=quote.high,
        low=quote.low,
        previous_close=quote.previous_close,
        volume=quote.volume,
    )


def _order(quote: Quote) -> tuple[int, int]:
    return parse_instant_ns(quote.updated_at) or 0, parse_instant_ns(quote.received_at) or 0
