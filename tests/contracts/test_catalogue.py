"""The shipped catalogue, its fractional books, and a replacement."""

from __future__ import annotations

from typing import Any

import pytest

from mybroker.contracts.catalogue import Catalogue, catalogue_from_mapping, shipped_catalogue

PETR4 = {"name": "Petrobras PN", "kind": "share", "group": "index", "reference_price": "38.00"}


def test_forty_instruments_are_shipped() -> None:
    catalogue = shipped_catalogue()
    kinds = [instrument.kind.value for instrument in catalogue.instruments.values()]

    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {"etf": 4, "fii": 5, "share": 29, "unit": 2}
    assert all(len(instrument.name) > 3 for instrument in catalogue.instruments.values())
    assert all((i.lot_shares == 100) == (i.kind in ("share", "unit")) for i in catalogue.instruments.values())
    assert all((i.index_weight_ppm > 0) == (i.group == "index") for i in catalogue.instruments.values())


@pytest.mark.parametrize(
    ("ticker", "price_ticks", "lot_shares"),
    [("PETR4", 3800, 100), ("MXRF11", 970, 1), ("BOVA11", 15500, 1), ("PETR4F", 3800, 1), ("BPAC11F", 4500, 1)],
)
def test_a_ticker_is_found_with_its_price_and_lot(ticker: str, price_ticks: int, lot_shares: int) -> None:
    instrument = shipped_catalogue().find(ticker)
    assert instrument is not None
    assert (instrument.ticker, instrument.reference_price_ticks, instrument.lot_shares) == (
        ticker,
        price_ticks,
        lot_shares,
    )


@pytest.mark.parametrize("ticker", ["XXXX3", "MXRF11F", "BOVA11F", "XXXX3F"])
def test_a_fund_has_no_fractional_book_and_an_unknown_ticker_none_at_all(ticker: str) -> None:
    assert shipped_catalogue().find(ticker) is None


def test_a_daily_file_replaces_reference_prices() -> None:
    replaced = shipped_catalogue().with_reference_prices({"PETR4": 3618, "ABCD3": 100})

    petr4, fractional, vale3 = replaced.find("PETR4"), replaced.find("PETR4F"), replaced.find("VALE3")
    assert petr4 is not None
    assert fractional is not None
    assert vale3 is not None
    assert (petr4.reference_price_ticks, fractional.reference_price_ticks) == (3618, 3618)
    assert vale3.reference_price_ticks == 6500
    assert replaced.find("ABCD3") is None


def test_a_mapping_replaces_the_catalogue() -> None:
    replaced = catalogue_from_mapping(
        {"PETR4": PETR4, "AAPL34": {"kind": "bdr", "group": "other", "reference_price": "60.10"}}
    )

    assert isinstance(replaced, Catalogue)
    assert list(replaced.instruments) == ["PETR4", "AAPL34"]
    assert replaced.instruments["AAPL34"].lot_shares == 1
    assert replaced.find("VALE3") is None


@pytest.mark.parametrize(
    ("ticker", "change", "message"),
    [
        (
            "petr4",
            {},
            "catalogue petr4: expected a ticker as PETR4 or BPAC11, fractional ones are derived, was 'petr4'",
        ),
        ("PETR4F", {}, "fractional ones are derived, was 'PETR4F'"),
        ("PETR4", {"kind": "future"}, "expected kind of share, unit, fii, etf, bdr, was 'future'"),
        ("PETR4", {"group": "blue"}, "expected group of index, other_index, other, etf, was 'blue'"),
        (
            "PETR4",
            {"reference_price": "38.005"},
            "expected reference_price as \"38.00\", on the tick and above zero, was '38.005'",
        ),
        ("PETR4", {"reference_price": 38}, "on the tick and above zero, was 38"),
        ("PETR4", {"reference_price": "0"}, "on the tick and above zero, was '0'"),
        ("PETR4", {"index_weight_ppm": 1_000_001}, "expected index_weight_ppm from 0 to 1000000, was 1000001"),
        ("PETR4", {"lote": 100}, "expected only group, index_weight_ppm, kind, name, reference_price, was 'lote'"),
    ],
)
def test_a_wrong_entry_is_named(ticker: str, change: dict[str, Any], message: str) -> None:
    read = catalogue_from_mapping({ticker: {**PETR4, **change}})
    assert isinstance(read, tuple)
    assert len(read) == 1
    assert message in str(read[0])


def test_all_wrong_entries_are_named_at_once() -> None:
    read = catalogue_from_mapping({"PETR4": {"kind": "share", "group": "index"}, "x": PETR4, "VALE3": PETR4})
    assert isinstance(read, tuple)
    assert [error.ticker for error in read] == ["PETR4", "x"]


def test_index_weights_cannot_exceed_the_whole() -> None:
    read = catalogue_from_mapping({t: {**PETR4, "index_weight_ppm": 600_000} for t in ("PETR4", "VALE3")})
    assert isinstance(read, tuple)
    assert "index weights of at most 1000000 ppm in all, was 1200000" in str(read[0])
