"""Who answers a task: the first source, its last word marked stale, then the fallback, and back again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from mybroker.contracts.quotes import FetchTask
from mybroker.domain.schedule import HOURS_PRESETS, NS_PER_SECOND, local_instant_ns
from mybroker.runtime.clock import ManualClock
from mybroker.testing.brapi_server import BrapiServer, Reply, quote_body
from services.b3_ingestor.computed import ComputedSource
from services.b3_ingestor.fetching import Fetching, Result
from services.b3_ingestor.simulated import simulated_days

MONDAY = date(2026, 11, 23)
SESSION_NS = local_instant_ns(MONDAY, 12 * 60)
DOWN = Reply(status=503)


def at(price: str, minute: int) -> Reply:
    return Reply(body=quote_body("PETR4", price, time=f"2026-11-23T14:{minute:02d}:00.000Z"))


def simulated() -> ComputedSource:
    days = simulated_days(7, {"PETR4": 3800, "WEGE3": 4200})
    return ComputedSource("simulated", "local.pregao", HOURS_PRESETS["b3-summer"], days)


def task(source: str, ticker: str = "PETR4", *, after_seconds: int = 0, expires_wall_ns: int = 2**62) -> FetchTask:
    session_ns = SESSION_NS + after_seconds * NS_PER_SECOND
    return FetchTask(
        session_key="local.pregao",
        ticker=ticker,
        slot=session_ns // NS_PER_SECOND,
        due_wall_ns=0,
        due_session_ns=session_ns,
        expires_wall_ns=expires_wall_ns,
        source=source,
    )


def shown(results: list[Result]) -> list[str]:
    return [
        f"{result.fetched.quote.ticker} {result.fetched.quote.price} {result.fetched.quote.source}"
        + (" stale" if result.fetched.quote.stale else "")
        + ("" if result.live else " history")
        for result in results
    ]


def fetching(make_brapi, memory, clock: ManualClock) -> Fetching:
    return Fetching(first=make_brapi(), fallback=simulated(), memory=memory, clock=clock)


async def test_as_long_as_the_first_source_answers_the_fallback_is_silent(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1), at("38.10", 1), at("38.20", 2))
    it = fetching(make_brapi, memory, clock)

    assert shown(await it.handle([task("brapi"), task("simulated")])) == ["PETR4 38.10 brapi"]
    assert shown(await it.handle([task("brapi")])) == [], "the same market time again is the same quote"
    assert shown(await it.handle([task("simulated"), task("brapi")])) == ["PETR4 38.20 brapi"]


async def test_a_source_that_goes_away_is_stale_first_then_the_fallback_takes_over_then_it_comes_back(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1), DOWN)
    it = fetching(make_brapi, memory, clock)
    await it.handle([task("brapi")])

    assert shown(await it.handle([task("brapi")])) == ["PETR4 38.10 brapi stale"]
    assert shown(await it.handle([task("simulated")])) == []
    clock.advance(ms=6_000)
    first, second = await it.handle([task("simulated"), task("simulated", after_seconds=600)])
    assert {first.fetched.quote.source, second.fetched.quote.source} == {"simulated"}
    assert first.fetched.quote.price != second.fetched.quote.price
    server.answer("PETR4", at("38.30", 9))
    clock.advance(ms=61_000)
    assert shown(await it.handle([task("simulated")])) == ["PETR4 38.30 brapi"], "probed and found again"
    assert shown(await it.handle([task("simulated")])) == []


async def test_a_source_that_comes_back_with_its_old_quote_says_that_it_is_fresh(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1), DOWN, DOWN, at("38.10", 1))
    it = fetching(make_brapi, memory, clock)
    await it.handle([task("brapi")])
    await it.handle([task("brapi")])

    assert shown(await it.handle([task("brapi")])) == ["PETR4 38.10 brapi"]


async def test_with_no_network_the_first_task_is_answered_by_the_fallback(
    make_brapi, memory, clock: ManualClock
) -> None:
    brapi = make_brapi(url="http://127.0.0.1:9")
    it = Fetching(first=brapi, fallback=simulated(), memory=memory, clock=clock)

    (result,) = await it.handle([task("brapi")])

    assert result.fetched.quote.source == "simulated"
    assert result.live


async def test_a_ticker_that_needs_a_token_is_simulated_beside_one_that_does_not(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1))
    it = fetching(make_brapi, memory, clock)

    results = shown(await it.handle([task("brapi"), task("brapi", "WEGE3"), task("simulated", "WEGE3")]))

    assert results[0] == "PETR4 38.10 brapi"
    assert [line.split()[0] + " " + line.split()[2] for line in results[1:]] == ["WEGE3 simulated"] * 2
    assert len(server.asked) == 1


async def test_a_restarted_fetcher_remembers_and_asks_nothing(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1))
    await fetching(make_brapi, memory, clock).handle([task("brapi")])

    assert shown(await fetching(make_brapi, memory, clock).handle([task("brapi")])) == ["PETR4 38.10 brapi"]
    assert shown(await fetching(make_brapi, memory, clock).handle([task("simulated")])) == []
    assert len(server.asked) == 1


async def test_a_task_past_its_slot_is_dropped_unless_its_value_can_be_computed(
    server: BrapiServer, make_brapi, memory, clock: ManualClock
) -> None:
    server.answer("PETR4", at("38.10", 1))
    late = clock.now_ns() - 1
    only_simulated = Fetching(first=simulated(), fallback=None, memory=None, clock=clock)

    assert await fetching(make_brapi, memory, clock).handle([task("brapi", expires_wall_ns=late)]) == []
    assert server.asked == []
    (result,) = await only_simulated.handle([task("simulated", expires_wall_ns=late)])
    assert not result.live


async def test_a_ticker_a_computed_source_does_not_know_comes_from_the_fallback(clock: ManualClock) -> None:
    empty = ComputedSource("cotahist", "local.pregao", HOURS_PRESETS["b3-summer"], lambda _ticker, _day: None)
    it = Fetching(first=empty, fallback=simulated(), memory=None, clock=clock)

    (result,) = await it.handle([task("cotahist", "WEGE3")])

    assert result.fetched.quote.source == "simulated"
    assert await it.handle([task("cotahist", "NOPE3")]) == []


async def test_a_quote_says_when_it_was_received(clock: ManualClock) -> None:
    it = Fetching(first=simulated(), fallback=None, memory=None, clock=clock)
    (result,) = await it.handle([replace(task("simulated"), slot=SESSION_NS // NS_PER_SECOND)])

    assert result.fetched.quote.received_at == "2026-11-23T11:00:00-03:00"
    assert result.fetched.quote.updated_at == "2026-11-23T12:00:00-03:00"
