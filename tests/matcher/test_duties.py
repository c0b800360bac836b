"""What the owner owes the log: every scheduled instant, in order, however late, and the manifest's configuration."""

from __future__ import annotations

from mybroker.contracts.commands import (
    ConfigureSession,
    InstrumentConfig,
    LogStart,
    PhaseChange,
    PlaceOrder,
    SessionConfig,
    TakeOver,
    Tick,
)
from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from services.b3_matcher.duties import TICK_EVERY_WALL_NS, Appended, next_duty_wall_ns, owed
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine

SCHEDULE = ((100, Phase.PRE_OPEN), (200, Phase.OPEN), (300, Phase.CLOSING_CALL), (400, Phase.CLOSED))
CONFIG = SessionConfig(
    session="local.pregao",
    market="equities",
    shard=0,
    business_date="2026-11-23",
    instruments=(InstrumentConfig(ticker="PETR4", asset="PETR4", reference_price_ticks=3000),),
    schedule=tuple(PhaseChange(at_ns=at_ns, phase=phase) for at_ns, phase in SCHEDULE),
)


class Owner:
    """An engine and its owner, with the log between them shortened to nothing."""

    def __init__(self):
        self.engine = Engine()
        self.appended = Appended()
        self.offset = 0
        self.wall_ns = 0
        self.apply(LogStart(log_id="log"))
        self.apply(TakeOver(owner="me", engine_version=ENGINE_VERSION))

    def apply(self, command):
        self.engine.apply(self.offset, command)
        self.offset += 1

    def owes(self, session_now_ns, *, wanted=CONFIG, wall_ns=None):
        self.wall_ns = self.wall_ns + TICK_EVERY_WALL_NS if wall_ns is None else wall_ns
        return list(
            owed(
                self.engine,
                wanted,
                self.appended,
                epoch=1,
                session_now_ns=session_now_ns,
                wall_ns=self.wall_ns,
            )
        )

    def does(self, session_now_ns, **how):
        for command in self.owes(session_now_ns, **how):
            self.apply(command)


def test_the_configuration_comes_first_and_once():
    owner = Owner()
    first = owner.owes(50)

    assert first == [ConfigureSession(epoch=1, revision=1, config=CONFIG)]
    assert owner.owes(50) == [], "appended, not applied yet: not again"
    owner.apply(first[0])
    assert [type(command) for command in owner.owes(50)] == [Tick]


def test_a_changed_manifest_is_the_next_revision():
    owner = Owner()
    owner.does(50)
    changed = SessionConfig(
        **{name: getattr(CONFIG, name) for name in ("session", "market", "shard", "business_date", "schedule")},
        instruments=(*CONFIG.instruments, InstrumentConfig(ticker="VALE3", asset="VALE3", reference_price_ticks=6500)),
    )
    assert owner.owes(60, wanted=changed) == [ConfigureSession(epoch=1, revision=2, config=changed)]


def test_every_scheduled_instant_gets_its_own_tick_however_late():
    owner = Owner()
    owner.does(50)
    ticks = owner.owes(1_000)

    assert [tick.at_ns for tick in ticks] == [100, 200, 300, 400]


def test_between_instants_a_tick_comes_no_more_often_than_its_wall_interval():
    owner = Owner()
    owner.does(50)
    owner.does(60, wall_ns=10**12)

    assert owner.owes(61, wall_ns=10**12 + TICK_EVERY_WALL_NS - 1) == []
    assert [tick.at_ns for tick in owner.owes(62, wall_ns=10**12 + TICK_EVERY_WALL_NS)] == [62]


def test_a_clock_that_stands_or_is_not_known_gives_no_ticks():
    owner = Owner()
    owner.does(50)
    owner.does(60)
    assert owner.owes(60) == []
    assert owner.owes(None) == []
    assert owner.owes(10) == []


def test_a_day_that_is_over_needs_no_ticks():
    owner = Owner()
    owner.does(50)
    owner.does(500)
    assert owner.engine.is_closed
    assert owner.owes(10_000) == []


def test_a_call_that_outlasts_the_close_gets_its_tick_and_the_day_is_over_after_it():
    owner = Owner()
    owner.does(50)
    owner.does(350)
    for side, order_id in ((Side.BUY, "b"), (Side.SELL, "s")):
        owner.apply(
            PlaceOrder(
                participant="P", account=order_id, order_id=order_id, ticker="PETR4", side=side, quantity_shares=100,
                price_ticks=3000,
            )
        )  # fmt: skip
    owner.does(450)
    extended_ns = 400 + 60 * 1_000_000_000
    assert owner.engine.phase() is Phase.CLOSED
    assert (owner.engine.calls_outlast_the_close, owner.engine.is_closed) == (True, False)
    assert [tick.at_ns for tick in owner.owes(extended_ns - 1)] == [extended_ns - 1]
    owner.does(extended_ns + 5)
    assert (owner.engine.calls_outlast_the_close, owner.engine.is_closed) == (False, True)
    assert owner.engine.closing_prices == {"PETR4": 3000}
    assert owner.owes(extended_ns + 10**12) == []


def test_the_next_look_is_at_the_tick_interval_or_the_scheduled_instant_before_it():
    appended = Appended(tick_wall_ns=1_000)
    due_ns = 1_000 + TICK_EVERY_WALL_NS

    assert next_duty_wall_ns(appended, wall_ns=2_000, due_wall_ns=None) == due_ns
    assert next_duty_wall_ns(appended, wall_ns=2_000, due_wall_ns=5_000) == 5_000
    assert next_duty_wall_ns(appended, wall_ns=due_ns + 7, due_wall_ns=None) == due_ns + 7
