"""The refusal matrix: what the exchange answers each kind of order in each phase, asked of the engine itself.

`python -m services.b3_matcher.refusals` writes docs/refusals.md; `--check` says whether it is stale. Each cell is one
command on a fresh market of the standard rules: an order that is right in everything but its kind and its hour. What
can be wrong with an order at any hour (shape, limits, bands) stands in the list of reasons below the matrix.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mybroker.contracts import commands as c
from mybroker.contracts import events as e
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason
from services.b3_matcher.engine.engine import ENGINE_VERSION, Engine

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "refusals.md"
TICKER = "PETR4"
PHASES = (
    Phase.PRE_OPEN,
    Phase.OPEN,
    Phase.AUCTION,
    Phase.CLOSING_CALL,
    Phase.AFTER_MARKET,
    Phase.CANCEL_ONLY,
    Phase.HALTED,
    Phase.CLOSED,
)
_LIMIT: dict[str, Any] = {"price_ticks": 3000}
_STOP: dict[str, Any] = {"type": OrderType.STOP, "stop_price_ticks": 3010}

KINDS: dict[str, dict[str, Any]] = {
    "limit day": _LIMIT,
    "limit gtc": {**_LIMIT, "time_in_force": TimeInForce.GTC},
    "limit gtd": {**_LIMIT, "time_in_force": TimeInForce.GTD, "expires": "2026-11-30"},
    "limit ioc": {**_LIMIT, "time_in_force": TimeInForce.IOC},
    "limit fok": {**_LIMIT, "time_in_force": TimeInForce.FOK},
    "limit at_the_close": {**_LIMIT, "time_in_force": TimeInForce.AT_THE_CLOSE},
    "limit good_for_auction": {**_LIMIT, "time_in_force": TimeInForce.GOOD_FOR_AUCTION},
    "limit, display_quantity": {**_LIMIT, "display_quantity_shares": 100},
    "limit, min_quantity": {**_LIMIT, "min_quantity_shares": 100},
    "market day": {"type": OrderType.MARKET},
    "market ioc": {"type": OrderType.MARKET, "time_in_force": TimeInForce.IOC},
    "market fok": {"type": OrderType.MARKET, "time_in_force": TimeInForce.FOK},
    "market at_the_close": {"type": OrderType.MARKET, "time_in_force": TimeInForce.AT_THE_CLOSE},
    "market good_for_auction": {"type": OrderType.MARKET, "time_in_force": TimeInForce.GOOD_FOR_AUCTION},
    "market, nothing opposite": {"type": OrderType.MARKET, "side": Side.SELL},
    "stop day": _STOP,
    "stop gtc": {**_STOP, "time_in_force": TimeInForce.GTC},
    "stop ioc": {**_STOP, "time_in_force": TimeInForce.IOC},
    "stop_limit day": {**_LIMIT, "type": OrderType.STOP_LIMIT, "stop_price_ticks": 2990, "side": Side.BUY},
    "stop_limit gtd": {
        **_LIMIT,
        "type": OrderType.STOP_LIMIT,
        "stop_price_ticks": 2990,
        "time_in_force": TimeInForce.GTD,
        "expires": "2026-11-30",
    },
}
"""A buy of 200 shares against a sell of 1000 at 30.00, unless it says otherwise. No trade was made yet."""

AMENDMENTS = ("cancel", "cancel, locked", "replace to more", "replace to less, locked", "replace of a filled order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What was asked, when, and what came back; None: it was accepted."""

    asked: str
    phase: Phase
    reason: RejectReason | None


def matrix() -> list[Cell]:
    """Ask the engine for every cell."""
    cells = [Cell(asked=kind, phase=phase, reason=_of_order(kind, phase)) for kind in KINDS for phase in PHASES]
    return cells + [
        Cell(asked=what, phase=phase, reason=_of_amendment(what, phase)) for what in AMENDMENTS for phase in PHASES
    ]


class _Market:
    """A fresh market with one instrument and a log of its own."""

    def __init__(self) -> None:
        self.engine = Engine()
        self._offset = 0
        config = c.SessionConfig(
            session="matrix",
            market="equities",
            shard=0,
            business_date="2026-11-23",
            instruments=(c.InstrumentConfig(ticker=TICKER, asset=TICKER, reference_price_ticks=3000),),
            schedule=(),
        )
        self.do(c.TakeOver(owner="matrix", engine_version=ENGINE_VERSION))
        self.do(c.ConfigureSession(epoch=0, revision=1, config=config))

    def do(self, command: c.Command) -> list[e.Event]:
        events = self.engine.apply(self._offset, command)
        self._offset += 1
        return events

    def enter(self, phase: Phase) -> None:
        self.do(c.SetPhase(phase=phase))

    def place(self, order_id: str, **facts: Any) -> list[e.Event]:
        wish: dict[str, Any] = {"side": Side.BUY, "quantity_shares": 200, **facts}
        return self.do(c.PlaceOrder(participant="P", account=order_id, order_id=order_id, ticker=TICKER, **wish))


def _of_order(kind: str, phase: Phase) -> RejectReason | None:
    market = _Market()
    market.enter(Phase.OPEN)
    market.place("s", side=Side.SELL, quantity_shares=1000, price_ticks=3000)
    market.enter(phase)
    return _reason(market.place("x", **KINDS[kind]))


def _of_amendment(what: str, phase: Phase) -> RejectReason | None:
    """Amend a buy at 29.00 (which no auction at 30.00 locks) or at 30.00 (which one does); a gtc outlives the close.

    A call that turns into continuous trading prints 200 of the locked order's 400, so it is there in every phase.
    """
    market = _Market()
    market.enter(Phase.OPEN)
    market.place("free", price_ticks=2900, time_in_force=TimeInForce.GTC)
    if what == "replace of a filled order":
        market.place("s", side=Side.SELL, price_ticks=2900)
    if what.endswith("locked"):
        market.enter(Phase.PRE_OPEN)
        market.place("s", side=Side.SELL, price_ticks=3000, time_in_force=TimeInForce.GTC)
        market.place("locked", price_ticks=3000, quantity_shares=400, time_in_force=TimeInForce.GTC)
    market.enter(phase)
    order_id = "locked" if what.endswith("locked") else "free"
    if what.startswith("cancel"):
        return _reason(market.do(c.CancelOrder(participant="P", order_id=order_id, revision=2)))
    quantity = 300 if order_id == "locked" else 400
    return _reason(market.do(c.ReplaceOrder(participant="P", order_id=order_id, revision=2, quantity_shares=quantity)))


def _reason(events: list[e.Event]) -> RejectReason | None:
    for event in events:
        if isinstance(event, (e.OrderRejected, e.CancelRejected, e.ReplaceRejected)):
            return event.reason
    return None


def document() -> str:
    """Return docs/refusals.md as it should be."""
    cells = {(cell.asked, cell.phase): cell.reason for cell in matrix()}
    lines = [
        "# What the exchange refuses, and when",
        "",
        "Generated by `python -m services.b3_matcher.refusals` from the engine's own answers; do not edit. `yes` is",
        "accepted: in the book, traded, or waiting for its auction or its stop price. Rows are orders that are right",
        "in everything but their kind and the hour; the standard rules, a book with a sell of 1000 at 30.00.",
        "",
        "| order | " + " | ".join(phase.value for phase in PHASES) + " |",
        "|---|" + "---|" * len(PHASES),
    ]
    for asked in (*KINDS, *AMENDMENTS):
        answers = (cells[asked, phase] for phase in PHASES)
        lines.append(
            f"| {asked} | " + " | ".join("yes" if answer is None else answer.value for answer in answers) + " |"
        )
    lines += [
        "",
        "`locked`: a buy at or above (a sell at or below) the theoretical price of the call it stands in. The orders",
        "of the amendment rows are gtc, so that they are there after the close too.",
        "",
        "## Every reason, in order of precedence",
        "",
        "The first check that fails is the answer. `retryable`: the same request may succeed later, unchanged.",
        "",
        "| reason | retryable |",
        "|---|---|",
        *(f"| {reason.value} | {'yes' if reason.retryable else 'no'} |" for reason in RejectReason),
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write the document, or with --check only say whether it is stale (exit 1)."""
    parser = argparse.ArgumentParser(prog="refusals", description="Write docs/refusals.md from the engine.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the document is stale")
    chosen = parser.parse_args(arguments)
    wanted = document()
    if chosen.check:
        if not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != wanted:
            sys.stderr.write("docs/refusals.md is stale: run `python -m services.b3_matcher.refusals`\n")
            return 1
        return 0
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
