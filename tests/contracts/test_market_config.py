"""The files the plan writes are read back as they were, and a broken one says what is wrong."""

from __future__ import annotations

import pytest

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.commands import InstrumentConfig, PhaseChange, SessionConfig
from mybroker.contracts.market_config import (
    MarketConfigError,
    SessionMarket,
    SessionSetup,
    dump_market_config,
    dump_session_setup,
    load_market_config,
    load_session_setup,
)
from mybroker.contracts.market_session import QuoteSource
from mybroker.domain.phase import Phase
from mybroker.domain.rules import Rules
from mybroker.domain.schedule import HOURS_PRESETS

CONFIG = SessionConfig(
    session="pregao",
    market="equities",
    shard=1,
    business_date="2026-11-23",
    instruments=(InstrumentConfig(ticker="PETR4", asset="PETR4", group="index", reference_price_ticks=3800),),
    schedule=(PhaseChange(at_ns=1, phase=Phase.PRE_OPEN), PhaseChange(at_ns=2, phase=Phase.OPEN)),
    rules=Rules(lot=1, bands=False),
)

SETUP = SessionSetup(
    namespace="local",
    session="pregao",
    source=QuoteSource.BRAPI,
    fallback=QuoteSource.SIMULATED,
    file=None,
    seed=7,
    hours=HOURS_PRESETS["b3-summer"],
    lead_time_seconds=600,
    markets=(SessionMarket(name="equities", tickers=("PETR4",)),),
    instruments=(shipped_catalogue().instruments["PETR4"],),
    symbols=("PETR4",),
    market_makers=("MAKER1",),
    noise_traders=(),
)


def test_a_matchers_file_is_read_back_as_it_was() -> None:
    assert load_market_config(dump_market_config(CONFIG)) == CONFIG


def test_the_sessions_file_is_read_back_as_it_was() -> None:
    read = load_session_setup(dump_session_setup(SETUP))

    assert read == SETUP
    assert read.key == "local.pregao"
    petr4 = read.find("PETR4")
    assert petr4 is not None
    assert petr4.index_weight_ppm == 77_870
    assert read.find("VALE3") is None


def test_unknown_fields_of_a_newer_writer_are_ignored() -> None:
    text = dump_market_config(CONFIG).replace(b'"shard": 1,', b'"shard": 1, "from_the_future": true,')
    assert load_market_config(text) == CONFIG


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "market config: Input data was truncated"),
        (b'{"session": "pregao"}', "missing required field `market`"),
        (dump_market_config(CONFIG).replace(b'"pre_open"', b'"preopen"'), "Invalid enum value 'preopen'"),
        (dump_market_config(CONFIG).replace(b": 3800", b": 38.5"), "Expected `int | null`, got `float`"),
    ],
)
def test_a_broken_file_says_what_was_expected(data: bytes, message: str) -> None:
    with pytest.raises(MarketConfigError, match=message.replace("|", r"\|")):
        load_market_config(data)


def test_a_broken_session_file_says_what_was_expected() -> None:
    with pytest.raises(MarketConfigError, match="Invalid enum value 'Bloomberg'"):
        load_session_setup(dump_session_setup(SETUP).replace(b'"Brapi"', b'"Bloomberg"'))
