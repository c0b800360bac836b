"""The client against a local server: what is asked, what is retried, what stops it; nothing burns the month."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from mybroker.contracts.quotes import FetchTask
from mybroker.domain.schedule import local_instant_ns
from mybroker.runtime.clock import ManualClock
from mybroker.testing.brapi_server import BrapiServer, Reply, error_body, quote_body
from services.b3_ingestor.brapi_quota import Quota
from services.b3_ingestor.source import Fetched, Refused, Spent, Unavailable

MONTH = "2026-11"
OK = Reply(body=quote_body("PETR4", "38.12", regularMarketPreviousClose=37.9))


def task(ticker: str = "PETR4") -> FetchTask:
    return FetchTask(
        session_key="local.pregao", ticker=ticker, slot=1, due_wall_ns=0, due_session_ns=0, expires_wall_ns=2**62
    )


async def test_a_free_ticker_needs_no_token(server: BrapiServer, make_brapi, memory) -> None:
    server.answer("PETR4", OK)

    answer = await make_brapi().fetch(task())

    assert isinstance(answer, Fetched)
    assert (answer.quote.price, answer.quote.previous_close, answer.quote.source) == ("38.12", "37.90", "brapi")
    assert answer.quote.updated_at == "2026-11-20T20:07:46+00:00"
    assert answer.raw == OK.body.decode()
    assert server.asked == [("PETR4", None)]
    assert memory.counts == {MONTH: 1}


async def test_the_token_travels_in_the_header(server: BrapiServer, make_brapi) -> None:
    server.answer("WEGE3", Reply(body=quote_body("WEGE3", "42.00")))

    assert isinstance(await make_brapi(token="abc").fetch(task("WEGE3")), Fetched)

    assert server.asked == [("WEGE3", "Bearer abc")]


async def test_without_a_token_other_tickers_are_refused_before_anything_is_asked(
    server: BrapiServer, make_brapi, memory
) -> None:
    answer = await make_brapi().fetch(task("WEGE3"))

    assert isinstance(answer, Refused)
    assert "token" in answer.reason
    assert (server.asked, memory.counts) == ([], {})


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error_body("Campo 'range' inválido", "INVALID_RANGE")),
        (400, b'{"success":false,"error":{"issues":[{"message":"Campo errado"}]}}'),
        (401, error_body("O seu token é inválido")),
        (403, error_body("Seu plano não permite")),
        (404, error_body("Não encontramos a ação PETR4")),
        (417, error_body("Campo 'sortBy' inválido")),
        (301, b""),
    ],
)
async def test_a_refusal_is_permanent_for_its_ticker_and_asked_once(
    server: BrapiServer, make_brapi, memory, status: int, body: bytes
) -> None:
    server.answer("PETR4", Reply(status=status, body=body))
    server.answer("VALE3", Reply(body=quote_body("VALE3", "60.00")))
    source = make_brapi(token="abc")

    first, again, other = await source.fetch(task()), await source.fetch(task()), await source.fetch(task("VALE3"))

    assert isinstance(first, Refused)
    assert (first.status, first) == (status, again)
    assert isinstance(other, Fetched)
    assert [ticker for ticker, _token in server.asked] == ["PETR4", "VALE3"]
    assert memory.counts == {MONTH: 2}  # a refused request counts too


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_is_tried_again(server: BrapiServer, make_brapi, status: int) -> None:
    server.answer("PETR4", Reply(status=status, body=b"<html>"), OK)

    assert isinstance(await make_brapi().fetch(task()), Fetched)
    assert len(server.asked) == 2


async def test_a_late_answer_is_tried_again(server: BrapiServer, make_brapi) -> None:
    server.answer("PETR4", Reply(delay_ms=2_500), OK)

    assert isinstance(await make_brapi().fetch(task()), Fetched)


async def test_a_source_that_keeps_failing_is_left_alone_and_probed_later(
    server: BrapiServer, make_brapi, clock: ManualClock
) -> None:
    server.answer("PETR4", Reply(status=500))
    source = make_brapi()

    answers = [await source.fetch(task()) for _ in range(6)]

    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert len(server.asked) == 3, "the breaker opens after three failures"
    server.answer("PETR4", OK)
    clock.advance(ms=61_000)
    assert isinstance(await source.fetch(task()), Fetched)


async def test_what_never_went_out_is_given_back_to_the_quota(make_brapi, memory) -> None:
    answer = await make_brapi(url="http://127.0.0.1:9").fetch(task())

    assert isinstance(answer, Unavailable)
    assert "cannot be reached" in answer.reason
    assert memory.counts == {MONTH: 0}


async def test_429_stops_everything_for_as_long_as_it_says(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", Reply(status=429, body=error_body("limite"), headers={"Retry-After": "90"}), OK)
    server.answer("VALE3", Reply(body=quote_body("VALE3", "60.00")))
    source, fellow = make_brapi(), make_brapi()

    assert isinstance(await source.fetch(task()), Spent)
    assert isinstance(await source.fetch(task("VALE3")), Spent)
    assert isinstance(await fellow.fetch(task("VALE3")), Spent), "another fetcher hears of it through the memory"
    assert len(server.asked) == 1
    clock.advance(ms=91_000)
    memory.stop_ns = 0  # in Redis the key has run out
    assert isinstance(await source.fetch(task()), Fetched)


async def test_402_stops_everything_until_the_next_day(server: BrapiServer, make_brapi, memory) -> None:
    server.answer("PETR4", Reply(status=402, body=error_body("Você atingiu o limite")))

    answer = await make_brapi().fetch(task())

    assert isinstance(answer, Spent)
    assert answer.until_wall_ns == local_instant_ns(date(2026, 11, 24), 0) == memory.stop_ns


async def test_the_months_requests_are_never_exceeded(server: BrapiServer, make_brapi, memory) -> None:
    server.answer("PETR4", OK)
    source = make_brapi(quota=Quota(monthly_requests=3))

    answers = [await source.fetch(task()) for _ in range(5)]

    assert [isinstance(answer, Fetched) for answer in answers] == [True, True, True, False, False]
    assert len(server.asked) == 3
    assert isinstance(answers[-1], Spent)
    assert answers[-1].until_wall_ns == local_instant_ns(date(2026, 12, 1), 0)


async def test_what_the_server_says_is_left_corrects_our_count(server: BrapiServer, make_brapi, memory) -> None:
    server.answer("PETR4", Reply(body=OK.body, headers={"x-ratelimit-remaining": "14000"}))

    await make_brapi().fetch(task())

    assert memory.counts == {MONTH: 1_000}


async def test_without_the_shared_counter_nothing_is_asked(server: BrapiServer, make_brapi, memory) -> None:
    memory.away = True

    assert isinstance(await make_brapi().fetch(task()), Unavailable)
    assert server.asked == []


async def test_an_answer_that_cannot_be_read_is_no_quote(server: BrapiServer, make_brapi) -> None:
    server.answer("PETR4", Reply(body=b'{"results":[]}'), OK)
    source = make_brapi()

    assert isinstance(await source.fetch(task()), Unavailable)
    assert isinstance(await source.fetch(task()), Fetched)


async def test_an_endless_answer_is_cut(server: BrapiServer, make_brapi) -> None:
    server.answer("PETR4", Reply(body=b" " * (5 * 1024 * 1024)))

    assert isinstance(await make_brapi().fetch(task()), Unavailable)


async def test_a_rename_says_what_was_asked_for(server: BrapiServer, make_brapi) -> None:
    server.answer("ELET3", Reply(body=quote_body("AXIA3", "50.00")))

    answer = await make_brapi(token="abc").fetch(task("ELET3"))

    assert isinstance(answer, Fetched)
    assert (answer.quote.ticker, answer.quote.requested_ticker) == ("AXIA3", "ELET3")


REAL_ERRORS = {
    "error_400_INVALID_INTERVAL_measured.json": Refused,
    "error_400_INVALID_RANGE_measured.json": Refused,
    "error_400_QUOTES_PER_REQUEST_EXCEEDED_measured.json": Refused,
    "error_400_invalid_range_doc.json": Refused,
    "error_401_invalid_token_doc.json": Refused,
    "error_402_plan_limit_doc.json": Spent,
    "error_404_unknown_ticker_doc.json": Refused,
    "error_417_invalid_sortBy_doc.json": Refused,
}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL_ERRORS)
async def test_every_captured_error_body_is_a_clear_refusal(
    server: BrapiServer, make_brapi, shared_data: Path, name: str
) -> None:
    body = (shared_data / "brapi" / name).read_bytes()
    server.answer("PETR4", Reply(status=int(name.split("_")[1]), body=body))

    answer = await make_brapi().fetch(task())

    assert type(answer) is REAL_ERRORS[name]
    assert isinstance(answer, Refused | Spent)
    assert len(answer.reason) > 10
    assert len(server.asked) == 1


@pytest.mark.shared
async def test_a_captured_answer_becomes_a_quote(server: BrapiServer, make_brapi, shared_data: Path) -> None:
    body = (shared_data / "brapi" / "quote_PETR4_20250502.json").read_bytes()
    server.answer("PETR4", Reply(body=body))

    answer = await make_brapi().fetch(task())

    assert isinstance(answer, Fetched)
    quote = answer.quote
    assert (quote.price, quote.open, quote.high, quote.low) == ("30.81", "30.29", "30.81", "29.97")
    assert (quote.volume, quote.updated_at) == (32_881_800, "2025-05-02T20:07:46+00:00")
    assert answer.raw.encode() == body
