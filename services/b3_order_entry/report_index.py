"""What the door remembers of one shard: who was told what, and which orders live. Rebuilt from the log.

For each participant the index maps a report number to the frame it came from (8 bytes a report), so that a
resend of any age is read back from the event log. Live orders serve mass status. Pure; one writer.
Invariant: a participant's numbers arrive as 1, 2, 3 …, because frames do.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from mybroker.contracts.door import ExecutionReport, LastNumber, OrderState


class ReportIndex:
    """The index of one shard of one log."""

    def __init__(self, session_key: str, market: str, shard: int) -> None:
        """Start empty; `reset` names the log."""
        self.session_key = session_key
        self.market = market
        self.shard = shard
        self.log_id = ""
        self._seqs: dict[str, array[int]] = {}
        self._live: dict[str, dict[str, OrderState]] = {}

    def reset(self, log_id: str) -> None:
        """Forget everything: another log begins at frame 1."""
        self.log_id = log_id
        self._seqs.clear()
        self._live.clear()

    def note(self, reports: Iterable[ExecutionReport]) -> None:
        """Take a frame's reports in."""
        for report in reports:
            seqs = self._seqs.setdefault(report.participant, array("Q"))
            assert report.number == len(seqs) + 1, (
                f"{self.market}-{self.shard} {report.participant}: expected report {len(seqs) + 1}, was {report.number}"
            )
            seqs.append(report.seq)
            self._follow(report)

    def last_number(self, participant: str) -> LastNumber:
        """Return the newest number of a participant; 0 where there is none yet."""
        return LastNumber(
            market=self.market,
            shard=self.shard,
            log_id=self.log_id,
            number=len(self._seqs.get(participant, ())),
        )

    def seq_of(self, participant: str, number: int) -> int | None:
        """Return the frame that holds a report, or None where the number was never given."""
        seqs = self._seqs.get(participant)
        if seqs is None or not 1 <= number <= len(seqs):
            return None
        return seqs[number - 1]

    def live_orders(self, participant: str, ticker: str | None = None) -> tuple[OrderState, ...]:
        """Return a participant's live orders, oldest first."""
        orders = self._live.get(participant, {}).values()
        return tuple(order for order in orders if ticker is None or order.ticker == ticker)

    def _follow(self, report: ExecutionReport) -> None:
        live = self._live.setdefault(report.participant, {})
        if report.kind == "accepted":
            assert report.ticker is not None and report.side is not None, "an accepted order has ticker and side"
            live[report.order_id] = OrderState(
                order_id=report.order_id,
                account=report.account,
                ticker=report.ticker,
                side=report.side,
                price_ticks=report.price_ticks,
                cum_shares=0,
                leaves_shares=report.leaves_shares or 0,
            )
            return
        known = live.get(report.order_id)
        if known is None or report.leaves_shares is None:
            return
        if report.leaves_shares == 0:
            del live[report.order_id]
            return
        repriced = report.kind in ("replaced", "rested")
        live[report.order_id] = OrderState(
            order_id=known.order_id,
            account=known.account,
            ticker=known.ticker,
            side=known.side,
            price_ticks=report.price_ticks if repriced else known.price_ticks,
            cum_shares=known.cum_shares if report.cum_shares is None else report.cum_shares,
            leaves_shares=report.leaves_shares,
        )
