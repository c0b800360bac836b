"""The day's reconciliation: the exchange's trades of us against our fills, one by one.

Asked for at the close or at any time: the exchange answers with every trade of the participant on that day, we look
for each among our fills, and for fills that the exchange does not know. The first differences are named.
"""

from collections.abc import Iterable

import msgspec

from mybroker.contracts.door import DayTrade, DayTradesRequest, DoorRequest
from mybroker.contracts.topics import BROKER_PARTICIPANT
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.directory import Directory
from mybroker.runtime.ids import IdSource
from mybroker.runtime.postgres import Pool
from mybroker.runtime.problem import Problem
from services.broker_orders.replies import Replies

ANSWER_WITHIN_S = 15
DIFFERENCES_SHOWN_MAX = 10

Fill = tuple[str, str, int, int]
"""(order_id, trade_id, price_ticks, quantity_shares)"""


class DayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison found."""

    ok: bool
    session: str
    business_date: str
    exchange_trades: int
    broker_fills: int
    differences: tuple[str, ...]


class DayCheck:
    """Compares one session's day."""

    def __init__(self, *, replies: Replies, pool: Pool, directory: Directory, ids: IdSource, session_key: str) -> None:
        self._replies = replies
        self._pool = pool
        self._directory = directory
        self._ids = ids
        self._session_key = session_key

    async def run(self, session: str | None) -> DayReport:
        """Compare now. Raises Problem when the session is not known or the exchange does not answer."""
        key = session or self._session_key
        entry = self._directory.entry(key)
        if entry is None:
            raise Problem(404, RejectReason.UNKNOWN_SESSION.value, f"no session {key[:60]}")
        request = DoorRequest(
            participant=BROKER_PARTICIPANT,
            session_key=key,
            message_id=self._ids.new_id(),
            body=DayTradesRequest(business_date=entry.business_date),
        )
        try:
            pieces = await self._replies.day_trades(request, ANSWER_WITHIN_S)
        except TimeoutError as error:
            raise Problem(503, RejectReason.EXCHANGE_UNAVAILABLE.value, "no trades came", retry_after_s=1) from error
        theirs = [trade for piece in pieces for trade in piece.trades]
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select f.order_id, f.trade_id, f.price_ticks, f.quantity_shares from order_fill f"
                " join orders o on o.order_id = f.order_id where o.session_key = %s and not f.busted",
                [key],
            )
            ours = [(row[0], row[1], row[2], row[3]) for row in await cursor.fetchall()]
        differences = compare(theirs, ours)
        return DayReport(
            ok=not differences,
            session=key,
            business_date=entry.business_date,
            exchange_trades=len(theirs),
            broker_fills=len(ours),
            differences=tuple(differences[:DIFFERENCES_SHOWN_MAX]),
        )


def compare(theirs: Iterable[DayTrade], ours: Iterable[Fill]) -> list[str]:
    """Return what only one side knows, or what both know differently."""
    expected = {
        (trade.order_id, trade.trade_id, trade.price_ticks, trade.quantity_shares): trade.account for trade in theirs
    }
    found = set(ours)
    missing = [f"missing here: {_shown(fill)}" for fill in sorted(expected.keys() - found)]
    unknown = [f"unknown to the exchange: {_shown(fill)}" for fill in sorted(found - expected.keys())]
    return missing + unknown


def _shown(fill: Fill) -> str:
    order_id, trade_id, price_ticks, quantity_shares = fill
    return f"trade {trade_id} of order {order_id}: {quantity_shares} shares at {price_ticks} ticks"
