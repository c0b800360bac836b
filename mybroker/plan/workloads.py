"""What has to run: processes as data. The runner starts them here, the operator renders them as Kubernetes objects.

A workload's `spec_hash` covers everything that needs a new process when it changes; a file marked `reload` is read
again by the process itself and has a hash of its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from mybroker.contracts.market_config import SessionSetup, dump_market_config, dump_session_setup
from mybroker.contracts.market_session import MarketSession
from mybroker.plan.markets import MarketPlacement, market_config
from mybroker.plan.observed import Observed
from mybroker.plan.trading_day import Day

HASH_CHARACTERS = 16

MATCHER_FAMILY = "matcher"
FETCH_FAMILY = "ingestor/fetch"
INGEST_PLANNER = "ingestor/plan"
SURVEILLANCE = "b3/surveillance"
PARTICIPANTS = "b3/participants"


class WorkloadGroup(StrEnum):
    """Who owns a workload where there is a cluster: the session's operator, or the chart."""

    SESSION = "session"
    ALWAYS_ON = "always_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A file a process reads; `env` is the variable that carries its path, which only the shell knows."""

    name: str
    content: bytes
    env: str
    reload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One process: `python -m services.<service> [args]`, restarted whenever it ends.

    `env` comes on top of the base every process gets. `family` and `ordinal` say which replicas belong together.
    """

    name: str
    group: WorkloadGroup
    service: str
    family: str
    ordinal: int = 0
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[ConfigFile, ...] = ()
    release: str = ""

    @property
    def is_matcher(self) -> bool:
        """Say whether this is a market's matcher, whose replacement has rules of its own."""
        return self.service == "b3_matcher"

    @property
    def spec_hash(self) -> str:
        """Return the hash of all that needs a new process when it changes."""
        fixed = [(file.name, file.env, _hash(file.content)) for file in self.files if not file.reload]
        reloaded = [(file.name, file.env) for file in self.files if file.reload]
        what = [self.service, self.args, self.env, fixed, reloaded, self.release]
        return _hash(json.dumps(what, sort_keys=True).encode())

    @property
    def config_hash(self) -> str:
        """Return the hash of what the process reads again by itself."""
        return _hash(b"\0".join(file.name.encode() + b"\0" + file.content for file in self.files if file.reload))


ALWAYS_ON: tuple[tuple[str, str], ...] = (
    ("broker/identity", "broker_identity"),
    ("broker/assets", "broker_assets"),
    ("broker/wallet", "broker_wallet"),
    ("broker/orders", "broker_orders"),
    ("b3/order_entry", "b3_order_entry"),
    ("b3/market_feed", "b3_market_feed"),
    ("broker/gateway", "broker_gateway"),
)
"""Services that outlive a session, in an order in which each finds what it calls."""


def wanted_workloads(
    session: MarketSession,
    placements: tuple[MarketPlacement, ...],
    day: Day,
    observed: Observed,
    *,
    fetchers: int,
    release: str,
) -> tuple[Workload, ...]:
    """Return every process that should run, in starting order."""
    setup = session_setup(session, placements)
    setup_file = ConfigFile(name="session.json", content=dump_session_setup(setup), env="MYBROKER_SESSION_CONFIG")
    workloads = [
        _matcher(session, placement, shard, day, observed, release)
        for placement in placements
        for shard in range(len(placement.tickers_by_shard))
    ]
    for name, service in ALWAYS_ON:
        files = (setup_file,) if service == "broker_assets" else ()
        workloads.append(
            Workload(
                name=name, group=WorkloadGroup.ALWAYS_ON, service=service, family=name, files=files, release=release
            )
        )
    roles: list[tuple[str, str, str, int, tuple[str, ...]]] = [
        (SURVEILLANCE, "b3_surveillance", SURVEILLANCE, 0, ()),
        (INGEST_PLANNER, "b3_ingestor", INGEST_PLANNER, 0, ("plan",)),
    ]
    roles += [(f"{FETCH_FAMILY}-{n}", "b3_ingestor", FETCH_FAMILY, n, ("fetch",)) for n in range(fetchers)]
    if setup.market_makers or setup.noise_traders:
        roles.append((PARTICIPANTS, "b3_participants", PARTICIPANTS, 0, ()))
    for name, service, family, ordinal, args in roles:
        workloads.append(
            Workload(
                name=name,
                group=WorkloadGroup.SESSION,
                service=service,
                family=family,
                ordinal=ordinal,
                args=args,
                files=(setup_file,),
                release=release,
            )
        )
    return tuple(workloads)


def matcher_name(market: str, shard: int) -> str:
    """Return the name of a shard's workload: "matcher/equities-0"."""
    return f"{MATCHER_FAMILY}/{market}-{shard}"


def session_setup(session: MarketSession, placements: tuple[MarketPlacement, ...]) -> SessionSetup:
    """Return what the session's services are told beside the directory."""
    spec = session.spec
    instruments = tuple(instrument for placement in placements for instrument in placement.instruments)
    return SessionSetup(
        namespace=session.namespace,
        session=session.name,
        source=spec.ingestors.source,
        fallback=spec.ingestors.fallback,
        file=spec.ingestors.file,
        seed=spec.participants.seed,
        hours=spec.hours,
        lead_time_seconds=spec.ingestors.lead_time_seconds,
        markets=tuple(placement.session_market for placement in placements),
        instruments=instruments,
        symbols=tuple(dict.fromkeys(instrument.asset for instrument in instruments)),
        market_makers=market_maker_names(session),
        noise_traders=noise_trader_names(session),
    )


def market_maker_names(session: MarketSession) -> tuple[str, ...]:
    """Return the participants that quote both sides, as they log on."""
    return tuple(f"MAKER{number}" for number in range(1, session.spec.participants.market_makers + 1))


def noise_trader_names(session: MarketSession) -> tuple[str, ...]:
    """Return the participants that trade at random, as they log on."""
    return tuple(f"NOISE{number}" for number in range(1, session.spec.participants.noise_traders + 1))


def _matcher(
    session: MarketSession, placement: MarketPlacement, shard: int, day: Day, observed: Observed, release: str
) -> Workload:
    config = market_config(session, placement, shard, day, observed.reference_price_ticks)
    return Workload(
        name=matcher_name(placement.name, shard),
        group=WorkloadGroup.SESSION,
        service="b3_matcher",
        family=f"{MATCHER_FAMILY}/{placement.name}",
        ordinal=shard,
        env=(("MYBROKER_MARKET", placement.name), ("MYBROKER_SHARD", str(shard))),
        files=(
            ConfigFile(
                name="market.json", content=dump_market_config(config), env="MYBROKER_MARKET_CONFIG", reload=True
            ),
        ),
        release=release,
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:HASH_CHARACTERS]
