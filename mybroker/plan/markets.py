"""Which ticker trades in which shard, what may not change while a market is open, and what a matcher is told.

Placement never moves a ticker: where the directory has it, it stays; a new one goes to the shard with the fewest. So a
market may get more shards only while closed, and then only new tickers go there. A change that is not allowed is left
out, said in words, and applies by itself once the market is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mybroker.contracts.catalogue import Catalogue
from mybroker.contracts.commands import InstrumentConfig, PhaseChange, SessionConfig
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, ShardEntry
from mybroker.contracts.market_config import SessionMarket
from mybroker.contracts.market_session import DesiredState, MarketSession, MarketSpec
from mybroker.contracts.topics import books_topic, commands_topic, events_topic
from mybroker.domain.instrument import Instrument
from mybroker.domain.rules import Rules
from mybroker.plan.trading_day import Day

STATES_WITH_A_SCHEDULE = frozenset({DesiredState.OPEN, DesiredState.HALTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPlacement:
    """A market as it is to run now."""

    name: str
    rules: Rules
    fractional: bool
    instruments: tuple[Instrument, ...]
    tickers_by_shard: tuple[tuple[str, ...], ...]

    @property
    def session_market(self) -> SessionMarket:
        """Return what the session's services are told of it."""
        tickers = tuple(instrument.ticker for instrument in self.instruments)
        return SessionMarket(name=self.name, tickers=tickers, fractional=self.fractional)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every market's placement, those kept although the manifest dropped them, and what was refused."""

    markets: tuple[MarketPlacement, ...]
    kept: tuple[MarketEntry, ...]
    refusals: tuple[str, ...]


def place_markets(
    session: MarketSession,
    directory: DirectoryEntry | None,
    catalogue: Catalogue,
    is_open: Callable[[str], bool],
) -> Placement:
    """Join the manifest with the catalogue and with what trades already."""
    refusals: list[str] = []
    entries = {entry.name: entry for entry in directory.markets} if directory else {}
    placed = tuple(
        _placed(index, market, entries.get(market.name), catalogue, is_open, refusals)
        for index, market in enumerate(session.spec.markets)
    )
    wanted = {market.name for market in session.spec.markets}
    kept = tuple(entry for name, entry in entries.items() if name not in wanted and is_open(name))
    refusals += [f"spec.markets: expected market {entry.name} to stay while it is open, was removed" for entry in kept]
    return Placement(markets=placed, kept=kept, refusals=tuple(refusals))


def _placed(
    index: int,
    market: MarketSpec,
    entry: MarketEntry | None,
    catalogue: Catalogue,
    is_open: Callable[[str], bool],
    refusals: list[str],
) -> MarketPlacement:
    path = f"spec.markets[{index}]"
    tickers = list(market.instruments)
    shards = market.shards
    shard_of: dict[str, int] = {}
    if entry is not None:
        shard_of = {ticker: shard.shard for shard in entry.shards for ticker in shard.tickers}
        shards = _shards_allowed(path, shards, len(entry.shards), is_open(market.name), refusals)
        gone = [ticker for ticker in shard_of if ticker not in tickers]
        if gone and is_open(market.name):
            refusals.append(f"{path}.instruments: expected {', '.join(gone)} to stay while the market is open")
            tickers += gone
    instruments: list[Instrument] = []
    for ticker in tickers:
        instrument = catalogue.find(ticker)
        if instrument is None:
            refusals.append(f"{path}.instruments: expected a ticker of the catalogue, was {ticker}")
        else:
            instruments.append(instrument)
    return MarketPlacement(
        name=market.name,
        rules=market.rules,
        fractional=market.is_fractional,
        instruments=tuple(instruments),
        tickers_by_shard=assign_shards([instrument.ticker for instrument in instruments], shards, shard_of),
    )


def _shards_allowed(path: str, wanted: int, running: int, market_open: bool, refusals: list[str]) -> int:
    if wanted < running:
        refusals.append(f"{path}.shards: expected {running} or more, shards only grow, was {wanted}")
        return running
    if wanted > running and market_open:
        refusals.append(f"{path}.shards: expected {running} while the market is open, was {wanted}")
        return running
    return wanted


def assign_shards(tickers: Sequence[str], shards: int, shard_of: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """Return the tickers of each shard: those known stay, each new one goes to the shard with the fewest.

    Ties go to the lowest number; within a shard the manifest's order holds.
    """
    placed: list[list[str]] = [[] for _ in range(shards)]
    for ticker in tickers:
        if shard_of.get(ticker, shards) < shards:
            placed[shard_of[ticker]].append(ticker)
    for ticker in tickers:
        if shard_of.get(ticker, shards) >= shards:
            min(placed, key=len).append(ticker)
    order = {ticker: position for position, ticker in enumerate(tickers)}
    return tuple(tuple(sorted(shard, key=order.__getitem__)) for shard in placed)


def market_config(
    session: MarketSession,
    placement: MarketPlacement,
    shard: int,
    day: Day,
    reference_price_ticks: Mapping[str, int],
) -> SessionConfig:
    """Return what one matcher owes its log. A market that is to wait or to stay closed has no schedule."""
    tickers = placement.tickers_by_shard[shard]
    scheduled = session.spec.desired_state in STATES_WITH_A_SCHEDULE
    return SessionConfig(
        session=session.name,
        market=placement.name,
        shard=shard,
        business_date=day.business_date.isoformat(),
        instruments=tuple(
            InstrumentConfig(
                ticker=instrument.ticker,
                asset=instrument.asset,
                group=instrument.group.value,
                lot_shares=instrument.lot_shares,
                quantity_max_shares=instrument.order_quantity_max_shares,
                reference_price_ticks=reference_price_ticks.get(instrument.ticker, instrument.reference_price_ticks),
            )
            for instrument in placement.instruments
            if instrument.ticker in tickers
        ),
        schedule=tuple(PhaseChange(at_ns=at_ns, phase=phase) for at_ns, phase in day.schedule.changes)
        if scheduled
        else (),
        rules=placement.rules,
    )


def market_entry(session: MarketSession, placement: MarketPlacement) -> MarketEntry:
    """Return the directory's entry of a market."""
    names = (session.namespace, session.name, placement.name)
    return MarketEntry(
        name=placement.name,
        commands_topic=commands_topic(*names),
        events_topic=events_topic(*names),
        books_topic=books_topic(*names),
        shards=tuple(
            ShardEntry(shard=shard, tickers=tickers) for shard, tickers in enumerate(placement.tickers_by_shard)
        ),
    )
