"""The audit as people and programs read it: a table of checks with figures, the day's totals, the first difference."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

import msgspec

from mybroker.domain.money import format_cents
from mybroker.prove.audit import Audit
from mybroker.prove.rows import CASH, HOUSE

ACCOUNTS_SHOWN_MAX = 12


def totals(audit: Audit) -> dict[str, Any]:
    """Return what happened that day, over all shards."""
    replays = [shard.replay for shard in audit.shards]
    sides = list(audit.gathered.exchange.of_participant())
    return {
        "commands": sum(r.commands for r in replays),
        "orders": sum(r.orders for r in replays),
        "rejected": sum(r.rejected for r in replays),
        "duplicates": sum(r.duplicates for r in replays),
        "trades": sum(r.trades for r in replays),
        "volume_shares": sum(r.volume_shares for r in replays),
        "turnover": format_cents(sum(r.turnover_cents for r in replays)),
        "broker_orders": len(audit.gathered.orders.orders),
        "broker_trade_sides": len(sides),
        "private_events": sum(len(seqs) for seqs in audit.gathered.orders.private_seqs.values()),
        "ledger_transfers": len(audit.gathered.ledger.transfers),
    }


def accounts(audit: Audit) -> list[dict[str, Any]]:
    """Return each account's opening balances, what the exchange's trades moved, and what the ledger has now."""
    opening: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for transfer in audit.gathered.ledger.transfers:
        if transfer.purpose == "deposit" and not transfer.credit_owner.startswith(HOUSE):
            opening[transfer.credit_owner][transfer.asset] += transfer.amount
    trades: dict[str, int] = defaultdict(int)
    for side in audit.gathered.exchange.of_participant():
        trades[side.account] += 1
    now: dict[str, dict[str, int]] = defaultdict(dict)
    for account in audit.gathered.ledger.accounts:
        now[account.owner][account.asset] = account.total
    return [
        {
            "account": owner,
            "trade_sides": trades[owner],
            "opening_cash": format_cents(opening[owner][CASH]),
            "cash": format_cents(assets.get(CASH, 0)),
            "opening_shares": sum(amount for asset, amount in opening[owner].items() if asset != CASH),
            "shares": sum(amount for asset, amount in assets.items() if asset != CASH),
        }
        for owner, assets in sorted(now.items())
    ]


def as_json(audit: Audit) -> dict[str, Any]:
    """Return the whole outcome as plain values."""
    return {
        "session": audit.session_key,
        "business_date": audit.business_date,
        "ok": audit.ok,
        "first_difference": audit.first_difference,
        "at_rest": audit.at_rest,
        "in_flight": list(audit.pending),
        "took_s": audit.took_s,
        "totals": totals(audit),
        "shards": msgspec.to_builtins(audit.shards),
        "checks": [asdict(check) | {"ok": check.ok} for check in audit.checks],
        "accounts": accounts(audit),
    }


def lines(audit: Audit) -> list[str]:
    """Return the outcome as lines of text."""
    text = [f"session {audit.session_key}, {audit.business_date}"]
    text += _totals_lines(audit)
    width = max(len(check.name) for check in audit.checks)
    for check in audit.checks:
        mark = "ok  " if check.ok else "FAIL"
        extra = f", {check.in_flight:,} in flight" if check.in_flight else ""
        wrong = f", {check.differences:,} differences" if check.differences else ""
        text.append(f"  {mark}  {check.name:<{width}}  {check.compared:>9,} {check.unit}{extra}{wrong}")
    text += [f"  in flight: {pending}" for pending in audit.pending]
    text += _account_lines(audit)
    first = audit.first_difference
    if first is None:
        text.append(f"proved: no difference ({audit.took_s:g} s)")
    else:
        text.append(f"FIRST DIFFERENCE  {first}")
    return text


def _totals_lines(audit: Audit) -> list[str]:
    day = totals(audit)
    text = [
        (
            f"  {day['orders']:,} orders, {day['trades']:,} trades, {day['volume_shares']:,} shares,"
            f" R$ {day['turnover']}; {day['commands']:,} commands, {day['duplicates']:,} duplicates dropped"
        ),
        (
            f"  the broker: {day['broker_orders']:,} orders, {day['broker_trade_sides']:,} trade sides,"
            f" {day['private_events']:,} private events, {day['ledger_transfers']:,} transfers"
        ),
    ]
    for shard in audit.shards:
        replay = shard.replay
        tape = "the tape gives the same" if shard.tape_state_hash == replay.state_hash else "THE TAPE DIFFERS"
        text.append(
            f"  {shard.market}-{shard.shard}: {replay.frames_in_log:,} frames ({replay.repeated_frames:,} repeated),"
            f" {replay.hashes_compared:,} state hashes compared, final state hash {replay.state_hash}, {tape}"
        )
    return text


def _account_lines(audit: Audit) -> list[str]:
    rows = accounts(audit)
    traded = [row for row in rows if row["trade_sides"]]
    text = [f"  {len(rows):,} accounts, {len(traded):,} of them traded"]
    text += [
        f"    {row['account']}: cash {row['opening_cash']} -> {row['cash']}, shares {row['opening_shares']:,} ->"
        f" {row['shares']:,}, {row['trade_sides']:,} trade sides"
        for row in traded[:ACCOUNTS_SHOWN_MAX]
    ]
    if len(traded) > ACCOUNTS_SHOWN_MAX:
        text.append(f"    … and {len(traded) - ACCOUNTS_SHOWN_MAX:,} more")
    return text
