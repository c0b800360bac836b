"""What is due when: session time for what computes, wall time and a quota for what is metered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import pytest

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry, SessionClock
from mybroker.contracts.market_config import SessionMarket, SessionSetup
from mybroker.contracts.market_session import QuoteSource
from mybroker.domain.calendar import B3
from mybroker.domain.schedule import HOURS_PRESETS, NS_PER_SECOND, local_instant_ns
from mybroker.runtime.clock import ManualClock
from services.b3_ingestor.brapi_quota import Quota, is_trading_time, next_month_ns, trading_seconds_left
from services.b3_ingestor.planner import Planner
from services.b3_ingestor.slots import assets_of, computed_tasks, metered_tasks, stride_seconds

MONDAY = date(2026, 11, 23)
NOON_NS = local_instant_ns(MONDAY, 12 * 60)
TICKERS = ("PETR4", "VALE3", "ITUB4")
QUOTA = Quota()


def spent_in_a_month(tickers: int) -> int:
    """Ask as often as the quota says, day by day, and return how many requests November took."""
    used = 0
    for day in range(1, 31):
        today = date(2026, 11, day)
        if not B3.is_business_day(today):
            continue
        now_ns = local_instant_ns(today, 10 * 60)
        while is_trading_time(now_ns, B3):
            seconds = QUOTA.interval_seconds(tickers=tickers, used=used, now_ns=now_ns, calendar=B3)
            if seconds is None:
                break
            used += tickers
            now_ns += seconds * NS_PER_SECOND
    return used


@pytest.mark.parametrize("tickers", [1, 8, 40, 44, 60, 200])
def test_a_months_requests_last_the_month(tickers: int) -> None:
    used = spent_in_a_month(tickers)

    assert used <= QUOTA.monthly_requests
    assert used >= min(QUOTA.monthly_requests * 80 // 100, tickers * 20 * 15), "and they are used, not hoarded"


def test_no_ticker_is_asked_oftener_than_the_plan_refreshes() -> None:
    assert QUOTA.interval_seconds(tickers=1, used=0, now_ns=NOON_NS, calendar=B3) == 1_800


@pytest.mark.parametrize(
    ("used", "now_ns"),
    [(15_000, NOON_NS), (14_250, NOON_NS), (0, local_instant_ns(date(2026, 11, 30), 18 * 60))],
)
def test_nothing_is_asked_when_nothing_is_left(used: int, now_ns: int) -> None:
    assert QUOTA.interval_seconds(tickers=8, used=used, now_ns=now_ns, calendar=B3) is None


def test_holidays_and_nights_are_no_trading_time() -> None:
    assert not is_trading_time(local_instant_ns(date(2026, 11, 20), 12 * 60), B3)
    assert not is_trading_time(local_instant_ns(MONDAY, 18 * 60), B3)
    assert is_trading_time(NOON_NS, B3)
    assert trading_seconds_left(local_instant_ns(date(2026, 11, 30), 17 * 60), B3) == 3_600


def test_a_december_quota_begins_again_in_january() -> None:
    assert next_month_ns(local_instant_ns(date(2026, 12, 31), 700)) == local_instant_ns(date(2027, 1, 1), 0)


def session_clock(speed: int = 60) -> SessionClock:
    return SessionClock(anchor_wall_ns=1_000 * NS_PER_SECOND, anchor_session_ns=NOON_NS, speed=speed)


@pytest.mark.parametrize("tickers", [1, 3, 8, 40])
@pytest.mark.parametrize("speed", [1, 10, 60, 3_600])
def test_the_load_stays_small_at_any_speed(tickers: int, speed: int) -> None:
    names = tuple(f"T{number}" for number in range(tickers))
    clock, seconds = session_clock(speed), 60
    tasks = 0
    for look in range(seconds * 5):
        looked_ns = clock.anchor_wall_ns + look * NS_PER_SECOND // 5
        tasks += len(
            list(
                computed_tasks(
                    session_key="s",
                    source="simulated",
                    tickers=names,
                    clock=clock,
                    after_wall_ns=looked_ns,
                    now_wall_ns=looked_ns + NS_PER_SECOND // 5,
                )
            )
        )
    assert 0 < tasks <= max(3, tickers * speed // 1_200) * seconds


def test_looks_in_a_row_give_each_slot_once_whatever_their_rhythm() -> None:
    clock = session_clock()
    looks = [clock.anchor_wall_ns + ms * 1_000_000 for ms in (0, 10, 900, 901, 2_000, 2_000, 2_450, 6_000)]
    seen = Counter(
        (task.ticker, task.slot)
        for before, now in pairwise(looks)
        for task in computed_tasks(
            session_key="s", source="simulated", tickers=TICKERS, clock=clock, after_wall_ns=before, now_wall_ns=now
        )
    )

    assert seen
    assert set(seen.values()) == {1}


def test_a_first_look_gives_every_tickers_running_slot_and_a_second_first_look_the_same() -> None:
    clock = session_clock()

    def first_look(now_ms: int) -> list[tuple[str, int]]:
        now_ns = clock.anchor_wall_ns + now_ms * 1_000_000
        return [
            (task.ticker, task.slot)
            for task in computed_tasks(
                session_key="s", source="x", tickers=TICKERS, clock=clock, after_wall_ns=None, now_wall_ns=now_ns
            )
        ]

    assert [ticker for ticker, _slot in first_look(100)] == list(TICKERS)
    assert first_look(100) == first_look(150)


def test_a_paused_clock_has_no_slots() -> None:
    paused = replace(session_clock(), speed=0)
    assert not list(
        computed_tasks(
            session_key="s", source="x", tickers=TICKERS, clock=paused, after_wall_ns=None, now_wall_ns=NOON_NS
        )
    )


def test_strides_grow_with_speed_and_tickers() -> None:
    assert stride_seconds(3, 1) == 2
    assert stride_seconds(3, 60) == 120
    assert stride_seconds(40, 60) == 1_200
    assert stride_seconds(256, 3_600) == 1_200


def test_metered_slots_are_wall_time_whatever_the_speed() -> None:
    def due(speed: int) -> list[tuple[str, int]]:
        return [
            (task.ticker, task.slot)
            for task in metered_tasks(
                session_key="s",
                source="brapi",
                tickers=TICKERS,
                clock=session_clock(speed),
                interval_seconds=1_800,
                after_wall_ns=NOON_NS,
                now_wall_ns=NOON_NS + 1_800 * NS_PER_SECOND,
            )
        ]

    assert due(1) == due(3_600)
    assert sorted(ticker for ticker, _slot in due(60)) == sorted(TICKERS)


def test_a_fractional_ticker_is_quoted_by_its_share() -> None:
    assert assets_of(("PETR4", "PETR4F", "VALE3F")) == ("PETR4", "VALE3")


SETUP = SessionSetup(
    namespace="local",
    session="pregao",
    source=QuoteSource.BRAPI,
    fallback=QuoteSource.SIMULATED,
    file=None,
    seed=7,
    hours=HOURS_PRESETS["b3-summer"],
    lead_time_seconds=600,
    markets=(SessionMarket(name="equities", tickers=TICKERS),),
    instruments=tuple(shipped_catalogue().instruments[ticker] for ticker in TICKERS),
    symbols=TICKERS,
    market_makers=(),
    noise_traders=(),
)
WALL_NS = local_instant_ns(MONDAY, 11 * 60)


def entry(at_minutes: int = 9 * 60 + 45, *, desired: str = "Open", wall_ns: int = WALL_NS) -> DirectoryEntry:
    return DirectoryEntry(
        namespace="local",
        session="pregao",
        revision=1,
        business_date="2026-11-23",
        desired_state=desired,
        clock=SessionClock(anchor_wall_ns=wall_ns, anchor_session_ns=local_instant_ns(MONDAY, at_minutes), speed=60),
        markets=(),
        participants=(),
    )


def planner(memory, clock: ManualClock, source: QuoteSource = QuoteSource.BRAPI) -> Planner:
    return Planner(replace(SETUP, source=source), quota=Quota(), memory=memory, calendar=B3, clock=clock)


async def test_a_session_begins_with_every_ticker_from_both_sources(memory) -> None:
    tasks = await planner(memory, ManualClock(WALL_NS)).due(entry())

    assert sorted((task.source, task.ticker) for task in tasks) == sorted(
        (source, ticker) for source in ("brapi", "simulated") for ticker in TICKERS
    )


async def test_an_hour_of_wall_time_costs_two_requests_a_ticker_at_any_speed(memory) -> None:
    clock = ManualClock(WALL_NS)
    plan, metered = planner(memory, clock), Counter[str]()
    running = entry()
    await plan.due(running)
    for _ in range(600):
        clock.advance(ms=6_000)
        # The session's own day is over in eight minutes: it stays before its close by a clock set back again.
        running = replace(running, clock=replace(running.clock, anchor_wall_ns=clock.now_ns()))
        metered.update(task.ticker for task in await plan.due(running) if task.source == "brapi")

    assert metered == Counter(dict.fromkeys(TICKERS, 2))


async def test_outside_trading_hours_brapi_is_asked_once_and_no_more(memory) -> None:
    night_ns = local_instant_ns(MONDAY, 22 * 60)
    clock = ManualClock(night_ns)
    plan, running = planner(memory, clock), entry(wall_ns=night_ns)
    first = [task for task in await plan.due(running) if task.source == "brapi"]
    later = []
    for _ in range(400):
        clock.advance(ms=1_000)
        later += [task for task in await plan.due(running) if task.source == "brapi"]

    assert len(first) == len(TICKERS)
    assert later == []


@pytest.mark.parametrize(
    ("at_minutes", "desired", "quoted"),
    [
        (9 * 60 + 34, "Open", False),
        (9 * 60 + 36, "Open", True),
        (17 * 60 + 59, "Halted", True),
        (18 * 60, "Open", False),
        (12 * 60, "Closed", False),
        (12 * 60, "Scheduled", False),
    ],
)
async def test_quotes_are_wanted_from_the_lead_time_to_the_close(
    memory, at_minutes: int, desired: str, quoted: bool
) -> None:
    tasks = await planner(memory, ManualClock(WALL_NS)).due(entry(at_minutes, desired=desired))
    assert bool(tasks) is quoted


async def test_a_session_not_in_the_directory_has_no_tasks(memory) -> None:
    assert await planner(memory, ManualClock(WALL_NS)).due(None) == []


async def test_without_redis_the_planner_goes_on_with_what_computes(memory) -> None:
    memory.away = True
    clock = ManualClock(WALL_NS)
    plan, running = planner(memory, clock), entry()
    await plan.due(running)
    clock.advance(ms=10_000)

    assert {task.source for task in await plan.due(running)} == {"simulated"}


async def test_a_computed_session_has_one_source(memory) -> None:
    tasks = await planner(None, ManualClock(WALL_NS), QuoteSource.COTAHIST).due(entry())
    assert {task.source for task in tasks} == {"cotahist"}


async def test_a_clock_set_back_does_not_stop_the_slots(memory) -> None:
    clock = ManualClock(WALL_NS)
    plan = planner(None, clock, QuoteSource.SIMULATED)
    await plan.due(entry(12 * 60))
    clock.advance(ms=1_000)
    later = entry(11 * 60, wall_ns=clock.now_ns())
    got = 0
    for _ in range(50):
        clock.advance(ms=200)
        got += len(await plan.due(later))
    assert got >= 2 * len(TICKERS)
    assert timedelta(seconds=10) / timedelta(seconds=1) * 3 >= got
