"""What the supervisor may order, and to which logs it goes. Pure.

Each order is one command to one shard (an instrument) or to every shard (a market, or the session); its command
id makes a repeat harmless. Nothing is kept: the logs are the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mybroker.contracts.commands import BustTrade, Command, Halt, Redrive, Resume, SetPhase, Uncross
from mybroker.contracts.directory import DirectoryEntry, MarketEntry
from mybroker.domain.phase import Phase


class Act(StrEnum):
    """What the supervisor can do."""

    HALT = "halt"
    RESUME = "resume"
    REDRIVE = "redrive"
    UNCROSS = "uncross"
    BUST = "bust"
    CLOSE = "close"


class SupervisorOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /orders: an act on a ticker, a market, or (neither) the whole session."""

    act: Act
    ticker: str | None = None
    market: str | None = None
    trade_id: str | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One command and the shard whose log takes it."""

    command: Command
    market: MarketEntry
    shard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The order makes no sense here: a stable code and what was expected."""

    code: str
    expected: str


def place(order: SupervisorOrder, entry: DirectoryEntry) -> tuple[Placed, ...] | Refused:
    """Turn a supervisor's order into commands for the right logs."""
    if order.act in (Act.REDRIVE, Act.UNCROSS) and order.ticker is None:
        return Refused(code="ticker_required", expected=f"a ticker for {order.act.value}, was none")
    if order.act is Act.BUST and (order.trade_id is None or order.ticker is None):
        return Refused(code="trade_required", expected="a trade_id and its ticker for bust")
    if order.ticker is not None:
        found = entry.find(order.ticker)
        if found is None:
            return Refused(code="unknown_instrument", expected=f"a ticker of {entry.key}, was {order.ticker}")
        market, shard = found
        return (Placed(command=_command(order), market=market, shard=shard.shard),)
    markets = [market for market in entry.markets if order.market in (None, market.name)]
    if not markets:
        names = ", ".join(market.name for market in entry.markets)
        return Refused(code="unknown_market", expected=f"one of {names}, was {order.market}")
    return tuple(
        Placed(command=_command(order), market=market, shard=shard.shard)
        for market in markets
        for shard in market.shards
    )


def _command(order: SupervisorOrder) -> Command:
    match order.act:
        case Act.HALT:
            return Halt(ticker=order.ticker, command_id=order.command_id)
        case Act.RESUME:
            return Resume(ticker=order.ticker, command_id=order.command_id)
        case Act.REDRIVE:
            assert order.ticker is not None, "checked by place"
            return Redrive(ticker=order.ticker)
        case Act.UNCROSS:
            assert order.ticker is not None, "checked by place"
            return Uncross(ticker=order.ticker)
        case Act.BUST:
            assert order.trade_id is not None, "checked by place"
            return BustTrade(trade_id=order.trade_id)
        case Act.CLOSE:
            return SetPhase(phase=Phase.CLOSED, ticker=order.ticker)
