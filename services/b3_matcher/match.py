"""`python -m services.b3_matcher.match TAPE`: the engine alone over a tape; nothing else has to run.

Commands in, events out, both JSON Lines, in the order things happen. Exit 0; a line that is no command ends it with
exit 2, its number and what was expected, after the answers to the lines before it. `--all` also prints what only
machines want: book entries, configuration, hashes, every fact of every event.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TextIO

import msgspec

from mybroker.contracts import events as e
from mybroker.domain.money import format_ticks
from services.b3_matcher.engine.engine import Engine
from services.b3_matcher.tape import Refused, TapeReader
from services.b3_matcher.tape_fields import NotACommand

ENGINES = {"reference": Engine}
EXIT_NOT_A_COMMAND = 2

_KIND_OF = {cls: kind for kind, cls in e.EVENT_KINDS.items()}


def lines_of(events: list[e.Event], *, everything: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the tape's lines for a frame's events; not every event is worth one."""
    for event in events:
        line = {"event": _KIND_OF[type(event)], **msgspec.to_builtins(event)} if everything else _line(event)
        if line is not None:
            yield line


def _line(event: e.Event) -> dict[str, Any] | None:
    kind = _KIND_OF[type(event)]
    match event:
        case e.OrderAccepted() | e.OrderRestated() | e.OrderTriggered():
            return {"event": kind, "id": event.order.order_id}
        case e.OrderRejected() | e.CancelRejected() | e.ReplaceRejected():
            return {"event": kind, "id": event.order.order_id, "reason": event.reason.value}
        case e.DuplicateIgnored():
            return {"event": kind, "id": event.order_id}
        case e.OrderCancelled():
            return {
                "event": kind,
                "id": event.order.order_id,
                "quantity": event.quantity_shares,
                "reason": event.reason.value,
            }
        case e.OrderReplaced():
            return {
                "event": kind,
                "id": event.order.order_id,
                "price": _price(event.price_ticks),
                "quantity": event.quantity_shares,
                "kept_priority": event.kept_priority,
            }
        case e.OrderExpired():
            return {"event": kind, "id": event.order.order_id, "quantity": event.quantity_shares}
        case _:
            return _line_of_market(kind, event)


def _line_of_market(kind: str, event: e.Event) -> dict[str, Any] | None:
    match event:
        case e.TradeExecuted():
            return {
                "event": kind,
                "ticker": event.ticker,
                "price": _price(event.price_ticks),
                "quantity": event.quantity_shares,
                "buy": event.buy.order.order_id,
                "sell": event.sell.order.order_id,
                "aggressor": event.aggressor.value,
                "trade_id": event.trade_id,
            }
        case e.TheoreticalChanged():
            return {
                "event": kind,
                "ticker": event.ticker,
                "price": _price(event.price_ticks),
                "quantity": event.quantity_shares,
                "imbalance": event.imbalance_shares,
                "imbalance_side": None if event.imbalance_side is None else event.imbalance_side.value,
            }
        case e.AuctionUncrossed():
            return {
                "event": kind,
                "ticker": event.ticker,
                "price": _price(event.price_ticks),
                "quantity": event.quantity_shares,
            }
        case e.TradeBusted():
            return {"event": kind, "trade_id": event.trade_id}
        case e.PhaseChanged():
            return {"event": kind, "phase": event.phase.value, "ticker": event.ticker}
        case e.Quarantined():
            return {"event": kind, "ticker": event.ticker, "command": event.command, "error": event.error}
        case e.CommandIgnored():
            return {"event": kind, "command": event.command, "why": event.why}
        case _:
            return None


def _price(ticks: int | None) -> str | None:
    return None if ticks is None else format_ticks(ticks)


def run(tape: TextIO, out: TextIO, *, engine: Engine, with_hash: bool = False, everything: bool = False) -> None:
    """Run a whole tape; raises NotACommand with the line's number in front."""
    reader = TapeReader()
    for number, text in enumerate(tape, start=1):
        try:
            step = reader.read(text)
        except NotACommand as error:
            raise NotACommand(f"line {number}: {error}") from error
        if step is None:
            continue
        if isinstance(step, Refused):
            _write(out, {"event": step.event, "id": step.order_id, "reason": step.reason.value})
            continue
        for command in step.commands:
            for line in lines_of(engine.apply(step.offset, command), everything=everything):
                _write(out, line)
    if with_hash:
        _write(out, {"event": "hash", "state_hash": engine.state_hash()})


def _write(out: TextIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="match", description="Run the matching engine over a tape.")
    parser.add_argument("tape", help="a file of JSON Lines, or - for standard input")
    parser.add_argument("--out", help="write the events here instead of standard output")
    parser.add_argument("--hash", action="store_true", help="add the final state hash as the last line")
    parser.add_argument("--all", action="store_true", help="print every event with all its facts")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="reference", help="the engine to run")
    chosen = parser.parse_args(arguments)
    with ExitStack() as files:
        try:
            tape = sys.stdin if chosen.tape == "-" else files.enter_context(open(chosen.tape, encoding="utf-8"))  # noqa: PTH123
            out = sys.stdout if chosen.out is None else files.enter_context(open(chosen.out, "w", encoding="utf-8"))  # noqa: PTH123
        except OSError as error:
            sys.stderr.write(f"match: {error}\n")
            return EXIT_NOT_A_COMMAND
        try:
            run(tape, out, engine=ENGINES[chosen.engine](), with_hash=chosen.hash, everything=chosen.all)
        except NotACommand as error:
            out.flush()
            sys.stderr.write(f"match: {chosen.tape}: {error}\n")
            return EXIT_NOT_A_COMMAND
        except UnicodeDecodeError as error:
            sys.stderr.write(f"match: {chosen.tape}: expected UTF-8 text, {error.reason}\n")
            return EXIT_NOT_A_COMMAND
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
