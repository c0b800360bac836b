"""The first 200,000 commands of the recorded neutral flow give exactly its trades."""

from __future__ import annotations

from pathlib import Path

import pytest

from mybroker.contracts.commands import InstrumentConfig
from mybroker.contracts.events import TradeExecuted
from mybroker.domain.order import SelfTradePrevention
from mybroker.domain.rules import Rules
from mybroker.testing.recorded_flow import TICKER, commands_of, trades_of
from tests.exchange.desk import Desk

COMMANDS = 200_000


@pytest.mark.shared
@pytest.mark.timeout(600)  # 7 s alone; all tests at once on two cores take far longer
def test_the_recorded_flow_gives_its_recorded_trades(shared_data: Path):
    folder = shared_data / "flow"
    desk = Desk(
        rules=Rules(lot=1, bands=False, stp=SelfTradePrevention.NONE),
        instruments=(InstrumentConfig(ticker=TICKER, asset=TICKER, reference_price_ticks=30_750),),
    )
    engine, first = desk.engine, len(desk.log)
    trades = []
    for index, command in enumerate(commands_of(folder, COMMANDS)):
        for event in engine.apply(first + index, command):
            if isinstance(event, TradeExecuted):
                buy, sell = event.buy.order.order_id, event.sell.order.order_id
                taker, maker = (buy, sell) if event.aggressor == "buy" else (sell, buy)
                trades.append((index, taker, maker, event.price_ticks, event.quantity_shares))
    expected = trades_of(folder, COMMANDS)
    assert len(expected) > 5_000
    assert trades == expected
