"""Manifests of whole days for tests and for `mybroker day`: a sample made headless, or a short day of a few minutes.

Where the recorded file of real prices is not there, a small one in the same layout is written for the same tickers
and date, so that the same code runs everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.domain.instrument import asset_of
from mybroker.testing.cotahist_file import Day, write_cotahist

HOURS_SHORT = {"preOpen": "09:58", "open": "10:00", "closingCall": "10:20", "close": "10:22"}
"""24 minutes of session time: at speed 30 a day of 48 s with its calls of 4 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayManifest:
    """A manifest file that was written, and where its prices come from."""

    path: Path
    prices: Path
    recorded: bool
    """The prices are B3's own; otherwise they were written by us."""


def headless_day(sample: Path, folder: Path, *, speed: int | None = None, name: str | None = None) -> DayManifest:
    """Copy a sample with a Cotahist source into `folder`, with absolute paths and prices that are there."""
    manifest: dict[str, Any] = yaml.safe_load(sample.read_text())
    spec = manifest["spec"]
    recorded = (sample.parent / spec["ingestors"]["file"]).resolve()
    there = recorded.is_file()
    prices = recorded if there else write_prices(folder, tickers_of(manifest), date.fromisoformat(spec["date"]))
    spec["ingestors"]["file"] = str(prices)
    if speed is not None:
        spec["clock"]["speed"] = speed
    if name is not None:
        manifest["metadata"]["name"] = name
    return DayManifest(path=_write(folder, manifest), prices=prices, recorded=there)


def short_day(
    folder: Path,
    *,
    name: str = "curto",
    speed: int = 30,
    equities: tuple[str, ...] = ("PETR4", "VALE3", "ITUB4"),
    fractional: tuple[str, ...] = ("PETR4F",),
    seed: int = 7,
    noise_traders: int = 3,
) -> DayManifest:
    """Write a day of HOURS_SHORT over prices of our own."""
    day = date(2024, 11, 8)
    prices = write_prices(folder, (*equities, *fractional), day)
    markets = [{"name": "equities", "instruments": list(equities), "rules": {"profile": "b3-equities"}}]
    if fractional:
        markets.append({"name": "fractional", "instruments": list(fractional), "rules": {"profile": "b3-fractional"}})
    manifest = {
        "apiVersion": "markets.mybroker.dev/v1alpha1",
        "kind": "MarketSession",
        "metadata": {"name": name},
        "spec": {
            "date": day.isoformat(),
            "roll": "None",
            "hours": dict(HOURS_SHORT),
            "clock": {"mode": "Simulated", "speed": speed},
            "desiredState": "Open",
            "markets": markets,
            "ingestors": {
                "source": "Cotahist",
                "fallback": "Simulated",
                "file": str(prices),
                "autoscaler": "None",
                "replicas": 1,
            },
            "participants": {"marketMakers": 1, "noiseTraders": noise_traders, "seed": seed},
            "deletionPolicy": "Retain",
        },
    }
    return DayManifest(path=_write(folder, manifest), prices=prices, recorded=False)


def tickers_of(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Return all tickers of a manifest, in its order."""
    return tuple(ticker for market in manifest["spec"]["markets"] for ticker in market["instruments"])


def lots_of(tickers: tuple[str, ...]) -> dict[str, int]:
    """Return each ticker's lot, by the shipped catalogue."""
    instruments = shipped_catalogue().instruments
    return {ticker: 1 if ticker.endswith("F") else instruments[ticker].lot_shares for ticker in tickers}


def write_prices(folder: Path, tickers: tuple[str, ...], day: date) -> Path:
    """Write a COTAHIST file in which each ticker moves two percent around its catalogue price."""
    instruments = shipped_catalogue().instruments
    days = []
    for ticker in tickers:
        price = instruments[asset_of(ticker)].reference_price_ticks
        low, high = price * 98 // 100, price * 102 // 100
        # Market 20 is B3's fractional one; 10 the standard lot's.
        market = 20 if ticker.endswith("F") else 10
        days.append(
            Day(
                ticker=ticker,
                open=price,
                high=high,
                low=low,
                close=price + 1,
                trades=900,
                quantity=90_000,
                market=market,
            )
        )
    return write_cotahist(folder / f"COTAHIST_D{day:%d%m%Y}.TXT", days, day)


def _write(folder: Path, manifest: dict[str, Any]) -> Path:
    path = folder / f"{manifest['metadata']['name']}.yaml"
    path.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
    return path
