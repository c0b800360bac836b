"""Which day it is, and what the session's clock should say.

The day is latched in the directory when first seen and changes only by a roll. A simulated clock is held (speed 0) just
before pre-open until every matcher has the day's configuration and every process is ready, after a start, a stop and a
roll alike; so no part of a day passes while nobody can trade. A wall clock is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from mybroker.contracts.directory import SessionClock
from mybroker.contracts.market_session import ClockMode, DesiredState, MarketSession, Roll
from mybroker.domain.calendar import Calendar
from mybroker.domain.phase import Phase
from mybroker.domain.schedule import NS_PER_SECOND, DaySchedule, day_schedule, local_date
from mybroker.plan.observed import MarketSeen, Observed

HELD_BEFORE_START_NS = NS_PER_SECOND
"""A held clock stands this much session time before pre-open, so that pre-open is still to come."""

WALL_CLOCK = SessionClock(anchor_wall_ns=0, anchor_session_ns=0, speed=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The session's day and the clock it should have from now on."""

    business_date: date
    schedule: DaySchedule
    clock: SessionClock
    session_now_ns: int
    rolled_from: date | None = None
    """The day that ends here, where this plan rolls."""

    @property
    def scheduled_phase(self) -> Phase:
        """Return the phase the schedule is in."""
        return self.schedule.phase_at(self.session_now_ns)


def day_of(session: MarketSession, observed: Observed, now_ns: int, calendar: Calendar) -> Day:
    """Return the day as it is: latched, or the first one; its clock as it should be."""
    directory = observed.directory
    latched = date.fromisoformat(directory.business_date) if directory else _first_date(session, now_ns, calendar)
    schedule = day_schedule(latched, session.spec.hours)
    clock = _clock_wanted(session, observed, schedule, now_ns)
    return Day(business_date=latched, schedule=schedule, clock=clock, session_now_ns=clock.now_ns(now_ns))


def rolled(session: MarketSession, day: Day, observed: Observed, now_ns: int, calendar: Calendar) -> Day | None:
    """Return the next day where the current one is over and another is wanted, else None."""
    if session.spec.desired_state is not DesiredState.OPEN or not is_over(day, observed.markets):
        return None
    later_first = session.spec.date is not None and session.spec.date > day.business_date
    if later_first:
        assert session.spec.date is not None
        following = session.spec.date
    elif session.spec.roll is Roll.NEXT_BUSINESS_DAY:
        following = calendar.next_business_day(day.business_date)
    else:
        return None
    schedule = day_schedule(following, session.spec.hours)
    clock = day.clock if _is_wall(session) else _held(schedule, now_ns)
    return Day(
        business_date=following,
        schedule=schedule,
        clock=clock,
        session_now_ns=clock.now_ns(now_ns),
        rolled_from=day.business_date,
    )


def is_over(day: Day, markets: tuple[MarketSeen, ...]) -> bool:
    """Say whether every market has passed this day's close, by its own log and not by the clock alone."""
    today = day.business_date.isoformat()
    return bool(markets) and all(
        seen.phase is Phase.CLOSED
        and seen.business_date == today
        and seen.at_ns is not None
        and seen.at_ns >= day.schedule.ends_at_ns
        for seen in markets
    )


def _first_date(session: MarketSession, now_ns: int, calendar: Calendar) -> date:
    if session.spec.date is not None:
        return session.spec.date
    today = calendar.business_day_at_or_after(local_date(now_ns))
    if _is_wall(session) and now_ns >= day_schedule(today, session.spec.hours).ends_at_ns:
        return calendar.next_business_day(today)
    return today


def _clock_wanted(session: MarketSession, observed: Observed, schedule: DaySchedule, now_ns: int) -> SessionClock:
    if _is_wall(session):
        return WALL_CLOCK
    if observed.directory is None:
        return _held(schedule, now_ns)
    clock = observed.directory.clock
    if observed.clock_stopped:
        # How far it really came is in the logs; until the matchers have read them the clock stands where it was set.
        return SessionClock(anchor_wall_ns=now_ns, anchor_session_ns=clock.anchor_session_ns, speed=0)
    speed = _speed_wanted(session, observed)
    if clock.speed == speed:
        return clock
    if clock.speed == 0:
        if not _may_release(session, observed, schedule):
            return clock
        session_ns = max(clock.anchor_session_ns, observed.highest_tick_ns or 0)
        return SessionClock(anchor_wall_ns=now_ns, anchor_session_ns=session_ns, speed=speed)
    return SessionClock(anchor_wall_ns=now_ns, anchor_session_ns=clock.now_ns(now_ns), speed=speed)


def _speed_wanted(session: MarketSession, observed: Observed) -> int:
    override = observed.clock_speed_override
    return session.spec.clock.speed if override is None else override


def _may_release(session: MarketSession, observed: Observed, schedule: DaySchedule) -> bool:
    if session.spec.desired_state is DesiredState.SCHEDULED:
        return False
    today = schedule.business_date.isoformat()
    shards = [
        observed.market(market.name, shard.shard)
        for market in (observed.directory.markets if observed.directory else ())
        for shard in market.shards
    ]
    matchers_ready = all(seen is not None and seen.ready and seen.business_date == today for seen in shards)
    # Who makes the market and who lets people in belong to a day as well: an auction without them is empty.
    return matchers_ready and all(seen.ready for seen in observed.workloads)


def _held(schedule: DaySchedule, now_ns: int) -> SessionClock:
    return SessionClock(anchor_wall_ns=now_ns, anchor_session_ns=schedule.starts_at_ns - HELD_BEFORE_START_NS, speed=0)


def _is_wall(session: MarketSession) -> bool:
    return session.spec.clock.mode is ClockMode.WALL
