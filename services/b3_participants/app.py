"""Wiring: one process holds all participants of a session, each with its own door, orders and chance.

MYBROKER_PARTICIPANTS_COMMANDS_PER_SECOND (40) is their pace in all, in wall time; makers have three fifths of it. With
the session's seed each draws the same numbers in every run, so that given the same inputs it decides the same.
"""

from __future__ import annotations

from random import Random

from mybroker.contracts.market_config import MarketConfigError, SessionSetup, load_session_setup
from mybroker.runtime.door import open_door_client
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.settings import Settings, SettingsError
from services.b3_participants import noise
from services.b3_participants.decision import Decide
from services.b3_participants.maker import Maker
from services.b3_participants.market_eye import FEED, MarketEye
from services.b3_participants.pace import Pace
from services.b3_participants.participant import Participant

SERVICE = "b3_participants"
SETUP_VARIABLE = "MYBROKER_SESSION_CONFIG"
PACE_VARIABLE = "MYBROKER_PARTICIPANTS_COMMANDS_PER_SECOND"
COMMANDS_PER_SECOND = 40
COMMANDS_PER_SECOND_MAX = 5_000
MAKERS_PER_MILLE = 600
MAKER_LOOK_MS = 250
NOISE_LOOK_MS = 20


async def start(context: AppContext) -> None:
    """Start all participants; ready once each has logged on."""
    settings = context.settings
    context.readiness.declare("logons")
    app = build_app(SERVICE, [], context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))
    setup = _read_setup(settings)
    http = HttpClient({FEED: settings.service_url(FEED)}, clock=context.clock)
    context.on_stop("feed", http.close)
    eye = MarketEye(http, settings.kafka_url, settings.session_key, context.clock)
    context.supervise("feed", eye.watch_feed())
    context.supervise("quotes", eye.watch_quotes())
    per_second = settings.integer(PACE_VARIABLE, COMMANDS_PER_SECOND)
    if not 1 <= per_second <= COMMANDS_PER_SECOND_MAX:
        raise SettingsError(PACE_VARIABLE, f"1 to {COMMANDS_PER_SECOND_MAX} commands a second", str(per_second))
    boot = context.ids.new_id().replace("-", "")[:12]
    participants = [await _participant(context, setup, eye, boot, name, per_second) for name in names(setup)]
    for participant in participants:
        context.supervise(f"replies-{participant.name}", participant.hear_replies())
        context.supervise(f"trade-{participant.name}", participant.trade())

    async def open_when_logged_on() -> None:
        for participant in participants:
            await participant.logged_on.wait()
        context.readiness.open("logons")

    context.supervise("logons", open_when_logged_on(), may_end=True)


def names(setup: SessionSetup) -> tuple[str, ...]:
    """Return every participant of the session."""
    return (*setup.market_makers, *setup.noise_traders)


def paces(setup: SessionSetup, per_second: int) -> tuple[int, int]:
    """Return the thousandths of a command a second of each maker and of each noise trader; 0 where there is none."""
    makers, traders = len(setup.market_makers), len(setup.noise_traders)
    for_makers = 1_000 if not traders else MAKERS_PER_MILLE
    return (
        max(1, per_second * for_makers // makers) if makers else 0,
        max(1, per_second * (1_000 - for_makers if makers else 1_000) // traders) if traders else 0,
    )


async def _participant(
    context: AppContext, setup: SessionSetup, eye: MarketEye, boot: str, name: str, per_second: int
) -> Participant:
    makes_markets = name in setup.market_makers
    maker_pace, noise_pace = paces(setup, per_second)
    decide: Decide = Maker(number=setup.market_makers.index(name) + 1).decide if makes_markets else noise.decide
    door = await open_door_client(context.settings, name)
    context.on_stop(f"door-{name}", door.close)
    return Participant(
        name=name,
        kind="maker" if makes_markets else "noise",
        boot=boot,
        session_key=context.settings.session_key,
        door=door,
        eye=eye,
        instruments=setup.instruments,
        decide=decide,
        one_at_a_time=not makes_markets,
        pace=Pace(
            commands_per_1000_seconds=maker_pace if makes_markets else noise_pace,
            look_ms=MAKER_LOOK_MS if makes_markets else NOISE_LOOK_MS,
        ),
        rng=Random(f"{setup.seed}/{name}"),
        clock=context.clock,
    )


def _read_setup(settings: Settings) -> SessionSetup:
    path = settings.path(SETUP_VARIABLE)
    try:
        return load_session_setup(path.read_bytes())
    except (OSError, MarketConfigError) as error:
        raise SettingsError(SETUP_VARIABLE, f"a session's file ({error})", str(path)) from error
