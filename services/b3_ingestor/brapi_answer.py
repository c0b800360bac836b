"""brapi.dev's answers, read defensively: quotes, candles and its three shapes of error.

Numbers are decoded as Decimal text, never as floats. Only `symbol`, `regularMarketPrice` and `regularMarketTime` are
needed; whatever else is missing, null, zero or of another type is left out rather than refused, because the captures
show all of it: before the opening high, low and volume are 0, `regularMarketOpen` may lie outside the day's range, a
candle's close may be null, results may be partial, and a rename changes `symbol`. Prices are rounded half to even to
the tick. Candles are keyed by their local date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from mybroker.domain.money import PRICE_TICKS_MAX, TICKS_PER_REAL, format_ticks
from mybroker.domain.schedule import NS_PER_SECOND, local_date
from services.b3_ingestor.source import Bar

NAME_LENGTH_MAX = 120
MESSAGE_LENGTH_MAX = 200
CANDLES_MAX = 400
VOLUME_MAX = 10**15
_EPOCH_SECONDS_MAX = 4_102_444_800
"""The year 2100: a later candle is no candle."""


class MalformedAnswer(ValueError):
    """An answer that is not what brapi.dev documents; says what was expected and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrapiQuote:
    """One result. `market_time` is its identity together with `symbol`."""

    symbol: str
    market_time: str
    price_ticks: int
    name: str | None
    short_name: str | None
    volume_shares: int | None
    open_ticks: int | None
    high_ticks: int | None
    low_ticks: int | None
    previous_close_ticks: int | None
    bars: tuple[Bar, ...]


def parse_answer(body: bytes, requested: str) -> BrapiQuote:
    """Read the answer of /api/quote/{ticker} for one ticker; raises MalformedAnswer.

    The result of the ticker that was asked for is taken; where there is none and only one result came, that one is
    the same company under its new name.
    """
    document = load_json(body)
    results = document.get("results") if isinstance(document, Mapping) else None
    if not isinstance(results, list) or not results:
        raise MalformedAnswer(f"{requested}: expected results, was {_shown(body)}")
    rows = [row for row in results if isinstance(row, Mapping) and isinstance(row.get("symbol"), str)]
    exact = [row for row in rows if row["symbol"] == requested]
    if not exact and len(rows) != 1:
        raise MalformedAnswer(f"{requested}: expected a result with its symbol, was {[row['symbol'] for row in rows]}")
    row = (exact or rows)[0]
    price_ticks = _price_ticks(row.get("regularMarketPrice"))
    if price_ticks is None:
        raise MalformedAnswer(f"{requested}: expected regularMarketPrice, was {row.get('regularMarketPrice')!r}")
    market_time = _instant(row.get("regularMarketTime"))
    if market_time is None:
        raise MalformedAnswer(f"{requested}: expected regularMarketTime, was {row.get('regularMarketTime')!r}")
    return BrapiQuote(
        symbol=row["symbol"],
        market_time=market_time,
        price_ticks=price_ticks,
        name=_text(row.get("longName")),
        short_name=_text(row.get("shortName")),
        volume_shares=_volume(row.get("regularMarketVolume")),
        open_ticks=_price_ticks(row.get("regularMarketOpen")),
        high_ticks=_price_ticks(row.get("regularMarketDayHigh")),
        low_ticks=_price_ticks(row.get("regularMarketDayLow")),
        previous_close_ticks=_price_ticks(row.get("regularMarketPreviousClose")),
        bars=_bars(row["symbol"], row.get("historicalDataPrice")),
    )


def error_text(body: bytes) -> str:
    """Return what an error body says, with its code where it has one; never raises."""
    try:
        document = load_json(body)
    except MalformedAnswer:
        return f"an answer that is not JSON: {_shown(body)}"
    if not isinstance(document, Mapping):
        return _shown(body)
    message, code = document.get("message"), document.get("code")
    inner = document.get("error")
    if not isinstance(message, str) and isinstance(inner, Mapping):
        issues = inner.get("issues")
        first = issues[0] if isinstance(issues, list) and issues else inner
        message = first.get("message") if isinstance(first, Mapping) else None
    text = message if isinstance(message, str) else _shown(body)
    return f"{code}: {text}"[:MESSAGE_LENGTH_MAX] if isinstance(code, str) else text[:MESSAGE_LENGTH_MAX]


def load_json(body: bytes) -> Any:
    """Decode JSON with every number with a point as Decimal; raises MalformedAnswer, for NaN and infinity too."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(f"expected JSON, was {_shown(body)} ({error})") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _price_ticks(value: object) -> int | None:
    number = _decimal(value)
    if number is None or not 0 < number * TICKS_PER_REAL < PRICE_TICKS_MAX:
        return None
    ticks = int((number * TICKS_PER_REAL).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    return ticks or None


def _volume(value: object) -> int | None:
    number = _decimal(value)
    return int(number) if number is not None and 0 <= number <= VOLUME_MAX else None


def _text(value: object) -> str | None:
    return " ".join(value.split())[:NAME_LENGTH_MAX] or None if isinstance(value, str) else None


def _instant(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if parsed.tzinfo is None else parsed.astimezone(UTC).isoformat()


def _bars(symbol: str, candles: object) -> tuple[Bar, ...]:
    if not isinstance(candles, list):
        return ()
    by_day = {}
    for candle in candles[:CANDLES_MAX]:
        bar = _bar(symbol, candle) if isinstance(candle, Mapping) else None
        if bar is not None:
            by_day[bar.day] = bar
    return tuple(by_day.values())


def _bar(symbol: str, candle: Mapping[str, Any]) -> Bar | None:
    seconds = _decimal(candle.get("date"))
    prices = [_price_ticks(candle.get(name)) for name in ("open", "high", "low", "close")]
    if seconds is None or not 0 <= seconds <= _EPOCH_SECONDS_MAX or None in prices:
        return None
    opened, high, low, close = (format_ticks(ticks) for ticks in prices if ticks is not None)
    adjusted = _decimal(candle.get("adjustedClose"))
    return Bar(
        ticker=symbol,
        day=local_date(int(seconds) * NS_PER_SECOND),
        open=opened,
        high=high,
        low=low,
        close=close,
        adjusted_close=None if adjusted is None else str(adjusted),
        volume=_volume(candle.get("volume")),
    )


def _shown(body: bytes) -> str:
    return body[:MESSAGE_LENGTH_MAX].decode("utf-8", "replace")
