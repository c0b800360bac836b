"""The catalogue of instruments: forty liquid shares, funds and trackers, or a replacement of the caller's.

The shipped file gives each ticker a name, kind, group, reference price and index weight; lots follow from the kind.
Fractional books are derived, never listed. Reference prices are orders of magnitude for simulated days, not quotes;
loading a daily file or a portfolio replaces them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from mybroker.domain.instrument import (
    KINDS_WITH_A_FRACTIONAL_MARKET,
    ORDER_QUANTITY_MAX_SHARES,
    Instrument,
    InstrumentGroup,
    InstrumentKind,
    asset_of,
    fractional_of,
    is_fractional_ticker,
    is_ticker,
    lot_shares_of,
)
from mybroker.domain.money import parse_price_ticks

CATALOGUE_INSTRUMENTS_MAX = 10_000
INDEX_WEIGHT_PPM_TOTAL_MAX = 1_000_000

_FIELDS = frozenset({"name", "kind", "group", "reference_price", "index_weight_ppm"})
_FIELDS_NEEDED = frozenset({"kind", "group", "reference_price"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueError:
    """One entry of a catalogue that cannot be used."""

    ticker: str
    expected: str
    given: str

    def __str__(self) -> str:
        return f"catalogue {self.ticker}: expected {self.expected}, was {self.given}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Instruments by ticker, standard books only; `find` derives the fractional ones."""

    instruments: Mapping[str, Instrument]

    def find(self, ticker: str) -> Instrument | None:
        """Return the instrument of a ticker, or None where there is none (an F ticker of a fund has none)."""
        if not is_fractional_ticker(ticker):
            return self.instruments.get(ticker)
        standard = self.instruments.get(asset_of(ticker))
        if standard is None or standard.kind not in KINDS_WITH_A_FRACTIONAL_MARKET:
            return None
        return fractional_of(standard)

    def with_reference_prices(self, price_ticks_by_ticker: Mapping[str, int]) -> Catalogue:
        """Return the catalogue with the given previous closes; tickers it does not know are left out."""
        return catalogue_of(
            replace(
                instrument, reference_price_ticks=price_ticks_by_ticker.get(ticker, instrument.reference_price_ticks)
            )
            for ticker, instrument in self.instruments.items()
        )


def catalogue_of(instruments: Iterable[Instrument]) -> Catalogue:
    """Return a catalogue of these instruments."""
    return Catalogue(instruments=MappingProxyType({instrument.ticker: instrument for instrument in instruments}))


@cache
def shipped_catalogue() -> Catalogue:
    """Return the catalogue that comes with the package."""
    text = resources.files("mybroker.contracts").joinpath("catalogue.json").read_text(encoding="utf-8")
    loaded = catalogue_from_mapping(json.loads(text))
    assert isinstance(loaded, Catalogue), loaded
    return loaded


def catalogue_from_mapping(entries: Mapping[str, Mapping[str, Any]]) -> Catalogue | tuple[CatalogueError, ...]:
    """Read ticker -> {name, kind, group, reference_price "38.00", index_weight_ppm}, or say everything that is wrong.

    Used for the shipped file and for whatever replaces it (a daily file or a portfolio, read by its own reader).
    """
    if len(entries) > CATALOGUE_INSTRUMENTS_MAX:
        return (_error("*", f"at most {CATALOGUE_INSTRUMENTS_MAX} instruments", len(entries)),)
    instruments: list[Instrument] = []
    errors: list[CatalogueError] = []
    for ticker, entry in entries.items():
        read = _instrument(str(ticker), entry)
        if isinstance(read, CatalogueError):
            errors.append(read)
        else:
            instruments.append(read)
    weight_ppm = sum(instrument.index_weight_ppm for instrument in instruments)
    if weight_ppm > INDEX_WEIGHT_PPM_TOTAL_MAX:
        errors.append(_error("*", f"index weights of at most {INDEX_WEIGHT_PPM_TOTAL_MAX} ppm in all", weight_ppm))
    return tuple(errors) if errors else catalogue_of(instruments)


def _instrument(ticker: str, entry: Any) -> Instrument | CatalogueError:
    if not is_ticker(ticker) or is_fractional_ticker(ticker):
        return _error(ticker, "a ticker as PETR4 or BPAC11, fractional ones are derived", ticker)
    if not isinstance(entry, Mapping):
        return _error(ticker, "a mapping", entry)
    if unknown := sorted(set(entry) - _FIELDS):
        return _error(ticker, f"only {', '.join(sorted(_FIELDS))}", unknown[0])
    if missing := sorted(_FIELDS_NEEDED - set(entry)):
        return _error(ticker, missing[0], "nothing")
    if entry["kind"] not in tuple(InstrumentKind):
        return _error(ticker, f"kind of {', '.join(InstrumentKind)}", entry["kind"])
    if entry["group"] not in tuple(InstrumentGroup):
        return _error(ticker, f"group of {', '.join(InstrumentGroup)}", entry["group"])
    price_ticks = parse_price_ticks(entry["reference_price"]) if isinstance(entry["reference_price"], str) else None
    if not isinstance(price_ticks, int) or price_ticks <= 0:
        return _error(ticker, 'reference_price as "38.00", on the tick and above zero', entry["reference_price"])
    weight_ppm = entry.get("index_weight_ppm", 0)
    if not isinstance(weight_ppm, int) or isinstance(weight_ppm, bool) or not 0 <= weight_ppm <= 1_000_000:
        return _error(ticker, "index_weight_ppm from 0 to 1000000", weight_ppm)
    kind = InstrumentKind(entry["kind"])
    return Instrument(
        ticker=ticker,
        name=str(entry.get("name", ticker)),
        asset=ticker,
        kind=kind,
        group=InstrumentGroup(entry["group"]),
        lot_shares=lot_shares_of(kind),
        order_quantity_max_shares=ORDER_QUANTITY_MAX_SHARES,
        reference_price_ticks=price_ticks,
        index_weight_ppm=weight_ppm,
    )


def _error(ticker: str, expected: str, given: object) -> CatalogueError:
    return CatalogueError(ticker=ticker, expected=expected, given=repr(given))
