"""Tickers, lots and the fractional book."""

from __future__ import annotations

import pytest

from mybroker.domain.instrument import (
    Instrument,
    InstrumentGroup,
    InstrumentKind,
    asset_of,
    fractional_of,
    is_ticker,
    lot_shares_of,
)

PETR4 = Instrument(
    ticker="PETR4",
    name="Petrobras PN",
    asset="PETR4",
    kind=InstrumentKind.SHARE,
    group=InstrumentGroup.INDEX,
    lot_shares=100,
    order_quantity_max_shares=10_000_000,
    reference_price_ticks=3800,
    index_weight_ppm=77_870,
)


@pytest.mark.parametrize("ticker", ["PETR4", "B3SA3", "BPAC11", "M1TA34", "PETR4F", "KLBN11F"])
def test_these_are_tickers(ticker: str) -> None:
    assert is_ticker(ticker)


@pytest.mark.parametrize(
    "text", ["", "petr4", "PETR", "PETR4FF", "PET4", "PETR123", "3ETR4", "PETR4 ", "PETR4\n", "SBSESP"]
)
def test_these_are_not_tickers(text: str) -> None:
    assert not is_ticker(text)


def test_the_fractional_book_is_another_book_of_the_same_asset() -> None:
    fractional = fractional_of(PETR4)

    assert (fractional.ticker, fractional.asset, fractional.lot_shares) == ("PETR4F", "PETR4", 1)
    assert fractional.order_quantity_max_shares == 99
    assert fractional.index_weight_ppm == 0
    assert fractional.reference_price_ticks == PETR4.reference_price_ticks
    assert fractional.is_fractional
    assert not PETR4.is_fractional
    assert asset_of("PETR4F") == asset_of("PETR4") == "PETR4"


@pytest.mark.parametrize(("kind", "lot_shares"), [("share", 100), ("unit", 100), ("fii", 1), ("etf", 1), ("bdr", 1)])
def test_shares_trade_by_the_hundred_and_funds_by_the_unit(kind: str, lot_shares: int) -> None:
    assert lot_shares_of(InstrumentKind(kind)) == lot_shares


def test_an_instrument_without_a_price_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="reference of PETR4"):
        Instrument(
            ticker="PETR4",
            name="",
            asset="PETR4",
            kind=InstrumentKind.SHARE,
            group=InstrumentGroup.INDEX,
            lot_shares=100,
            order_quantity_max_shares=100,
            reference_price_ticks=0,
        )
