"""The two JSON files the plan writes for processes: a market's for its matcher, the session's for everyone else.

A matcher's file is the `SessionConfig` it owes its log; it is read again when it changes. The session's file says what
is traded, where quotes come from and who trades; it has no clock and no date (those are in the directory), so that it
stays the same over a whole session and nobody is restarted by a new day.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mybroker.contracts.commands import SessionConfig
from mybroker.contracts.market_session import QuoteSource
from mybroker.domain.instrument import Instrument
from mybroker.domain.schedule import Hours


class MarketConfigError(ValueError):
    """A file the plan wrote that does not read; says what was expected and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMarket:
    """One market of the session and its tickers, in the manifest's order."""

    name: str
    tickers: tuple[str, ...]
    fractional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSetup:
    """What a session's services need to know beyond the directory.

    `instruments` holds every ticker of `markets`, with name, lot, reference price and index weight. `symbols` are the
    assets whose quotes are wanted: an F ticker is quoted by its share. Participants are named as they log on.
    """

    namespace: str
    session: str
    source: QuoteSource
    fallback: QuoteSource | None
    file: str | None
    seed: int
    hours: Hours
    lead_time_seconds: int
    markets: tuple[SessionMarket, ...]
    instruments: tuple[Instrument, ...]
    symbols: tuple[str, ...]
    market_makers: tuple[str, ...]
    noise_traders: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return "namespace.session", the key in the directory."""
        return f"{self.namespace}.{self.session}"

    def find(self, ticker: str) -> Instrument | None:
        """Return an instrument by its ticker, or None."""
        return next((instrument for instrument in self.instruments if instrument.ticker == ticker), None)


_MARKET = msgspec.json.Decoder(SessionConfig, strict=True)
_SESSION = msgspec.json.Decoder(SessionSetup, strict=True)


def dump_market_config(config: SessionConfig) -> bytes:
    """Write a matcher's file; the same configuration always gives the same bytes."""
    return _dumped(config)


def load_market_config(data: bytes) -> SessionConfig:
    """Read a matcher's file; raises MarketConfigError."""
    try:
        return _MARKET.decode(data)
    except msgspec.MsgspecError as error:
        raise MarketConfigError(f"market config: {error}, was {data[:120]!r}") from error


def dump_session_setup(setup: SessionSetup) -> bytes:
    """Write the session's file; the same setup always gives the same bytes."""
    return _dumped(setup)


def load_session_setup(data: bytes) -> SessionSetup:
    """Read the session's file; raises MarketConfigError."""
    try:
        return _SESSION.decode(data)
    except msgspec.MsgspecError as error:
        raise MarketConfigError(f"session setup: {error}, was {data[:120]!r}") from error


def _dumped(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
