"""brapi.dev's answers are read as the captures show them: oddities left out, never a float, errors as text."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mybroker.testing.brapi_server import error_body, quote_body
from services.b3_ingestor.brapi_answer import MalformedAnswer, error_text, parse_answer

BEFORE_THE_OPENING: dict[str, Any] = {
    "regularMarketDayHigh": 0,
    "regularMarketDayLow": 0,
    "regularMarketVolume": 0,
    "regularMarketDayRange": "0 - 0",
    "regularMarketOpen": 42.59,
    "regularMarketPreviousClose": 40.81,
}
CANDLES = [
    {
        "date": 1750683600,
        "open": 66.09,
        "high": 66.69,
        "low": 66.09,
        "close": 66.63,
        "volume": 719,
        "adjustedClose": 66.6,
    },
    {"date": 1750770000, "open": 65.31, "high": 67.83, "low": 65.31, "close": None, "volume": 0},
    {"date": 1750771000, "open": 65.31, "high": 67.83, "low": 65.31, "close": 67.35, "volume": 5},
    {"date": 1750772000, "open": 65.31, "high": 67.90, "low": 65.31, "close": 67.40, "volume": 6},
    {"date": "soon", "open": 1, "high": 1, "low": 1, "close": 1},
    "no candle",
]


def test_a_price_is_read_from_its_decimal_text() -> None:
    assert parse_answer(quote_body("PETR4", "30.81"), "PETR4").price_ticks == 3081
    assert parse_answer(quote_body("PETR4", "30.810000000000002"), "PETR4").price_ticks == 3081
    assert parse_answer(quote_body("PETR4", "31"), "PETR4").price_ticks == 3100
    assert parse_answer(quote_body("PETR4", "30.815"), "PETR4").price_ticks == 3082
    assert parse_answer(quote_body("PETR4", "30.825"), "PETR4").price_ticks == 3082


def test_before_the_opening_zeros_are_no_prices() -> None:
    read = parse_answer(quote_body("EGIE3", "39.93", **BEFORE_THE_OPENING), "EGIE3")

    assert (read.high_ticks, read.low_ticks, read.volume_shares) == (None, None, 0)
    assert (read.open_ticks, read.previous_close_ticks) == (4259, 4081)


def test_names_lose_their_padding() -> None:
    assert parse_answer(quote_body("PETR4", "30.81"), "PETR4").short_name == "PETR4 PN N2"


def test_candles_are_kept_by_local_date_and_broken_ones_left_out() -> None:
    bars = parse_answer(quote_body("GMCO34", "74.61", historicalDataPrice=CANDLES), "GMCO34").bars

    assert [(bar.day, bar.close) for bar in bars] == [(date(2025, 6, 23), "66.63"), (date(2025, 6, 24), "67.40")]
    assert bars[0].adjusted_close == "66.6"


def test_a_single_result_under_another_symbol_is_the_same_company_renamed() -> None:
    assert parse_answer(quote_body("AXIA3", "50.00"), "ELET3").symbol == "AXIA3"


def test_the_result_that_was_asked_for_is_taken_among_several() -> None:
    both = json.loads(quote_body("VALE3", "60.10"))["results"] + json.loads(quote_body("PETR4", "30.81"))["results"]
    assert parse_answer(json.dumps({"results": both}).encode(), "PETR4").symbol == "PETR4"


MALFORMED = {
    "nothing": (b"", "expected JSON"),
    "a page": (b"<html>Bad gateway</html>", "expected JSON"),
    "half an answer": (quote_body("PETR4", "30.81")[:-20], "expected JSON"),
    "a list": (b"[]", "expected results"),
    "no results": (b'{"results":[]}', "expected results"),
    "results that are no list": (b'{"results":"PETR4"}', "expected results"),
    "a result without a symbol": (b'{"results":[{"regularMarketPrice":1}]}', "with its symbol"),
    "no price": (quote_body("PETR4", "null"), "regularMarketPrice"),
    "a price as text": (quote_body("PETR4", '"30.81"'), "regularMarketPrice"),
    "a price of zero": (quote_body("PETR4", "0"), "regularMarketPrice"),
    "a negative price": (quote_body("PETR4", "-1.5"), "regularMarketPrice"),
    "a price below a tick": (quote_body("PETR4", "0.001"), "regularMarketPrice"),
    "a price beyond reason": (quote_body("PETR4", "1e40"), "regularMarketPrice"),
    "a truth for a price": (quote_body("PETR4", "true"), "regularMarketPrice"),
    "not a number": (quote_body("PETR4", "NaN"), "expected JSON"),
    "no time": (quote_body("PETR4", "30.81", time="yesterday"), "regularMarketTime"),
    "a time without a zone": (quote_body("PETR4", "30.81", time="2026-11-20T20:07:46"), "regularMarketTime"),
    "deep nesting": (b"[" * 100_000, "expected JSON"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_answer_says_what_was_expected(case: str) -> None:
    body, expected = MALFORMED[case]

    with pytest.raises(MalformedAnswer, match=expected):
        parse_answer(body, "PETR4")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (error_body("O seu token é inválido"), "O seu token é inválido"),
        (
            error_body("Seu plano permite 1 ativo", "QUOTES_PER_REQUEST_EXCEEDED"),
            "QUOTES_PER_REQUEST_EXCEEDED: Seu plano",
        ),
        (b'{"success":false,"error":{"issues":[{"message":"Required","path":["range"]}]}}', "Required"),
        (b'{"success":false,"error":{"message":"refused"}}', "refused"),
        (b"<html>", "not JSON"),
        (b"[]", "[]"),
        (b"", "not JSON"),
    ],
)
def test_each_shape_of_error_gives_its_text(body: bytes, text: str) -> None:
    assert text in error_text(body)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "ticker", "price_ticks", "bars"),
    [
        ("quote_PETR4_20250502.json", "PETR4", 3081, 0),
        ("quote_EGIE3_1d_1d_20250801.json", "EGIE3", 3993, 2),
        ("quote_PETR4_5d_all_modules_20250829_doc.json", "PETR4", None, 5),
        ("quote_PETR4_5d_dividends_20250829_doc.json", "PETR4", None, 1),
    ],
)
def test_the_captured_answers_are_read(
    shared_data: Path, name: str, ticker: str, price_ticks: int | None, bars: int
) -> None:
    read = parse_answer((shared_data / "brapi" / name).read_bytes(), ticker)

    assert read.symbol == ticker
    assert price_ticks in {None, read.price_ticks}
    assert len(read.bars) == bars


@pytest.mark.shared
def test_seven_captured_tickers_have_a_candle_for_each_day(shared_data: Path) -> None:
    body = (shared_data / "brapi" / "quote_7tickers_1mo_1d_20250721.results.json").read_bytes()
    answer = b'{"results":' + body + b"}"
    petr4 = parse_answer(answer, "PETR4")

    assert petr4.price_ticks == 3107
    assert (petr4.open_ticks, petr4.low_ticks, petr4.high_ticks) == (3225, 3077, 3128)  # an open outside the range
    for ticker in ("PETR4", "VALE3", "GMCO34", "MELI34", "AAPL34", "M1TA34", "GOGL34"):
        assert 20 <= len(parse_answer(answer, ticker).bars) <= 21


@pytest.mark.shared
def test_the_captured_history_alone_is_no_quote(shared_data: Path) -> None:
    with pytest.raises(MalformedAnswer, match="regularMarketPrice"):
        parse_answer((shared_data / "brapi" / "history_PETR4_5d_20260810_partial.json").read_bytes(), "PETR4")


@pytest.mark.shared
def test_every_captured_error_gives_its_message(shared_data: Path) -> None:
    bodies = sorted((shared_data / "brapi").glob("error_*.json"))
    assert len(bodies) >= 8
    for path in bodies:
        assert json.loads(path.read_bytes())["message"][:60] in error_text(path.read_bytes())
