"""Reading the event log back for one participant: a resend, and the trades of a day.

Blocking reads with a consumer of their own; called in threads. Limits: RESEND_REPORTS_MAX reports an answer (the
participant asks again from where it stands), DAY_TRADES_PIECE trades a message.
"""

from __future__ import annotations

from collections.abc import Iterator

from mybroker.contracts.door import DayTrade, ExecutionReport
from mybroker.contracts.events import SessionConfigured
from mybroker.contracts.frames import Frame, decode_frame_part
from mybroker.contracts.reports import reports_of
from mybroker.runtime.frames import FramePosition, FrameSequence, SequenceGap, find_offset
from mybroker.runtime.kafka import read_from
from services.b3_order_entry.shards import FollowedShard

RESEND_REPORTS_MAX = 5_000
DAY_TRADES_PIECE = 1_000
STEP_BACK_RECORDS = 1_000


def resend(kafka_url: str, shard: FollowedShard, participant: str, from_number: int) -> list[ExecutionReport]:
    """Return a participant's reports from a number on, at most RESEND_REPORTS_MAX; none where there are none."""
    seq = shard.index.seq_of(participant, from_number)
    if seq is None:
        return []
    found: list[ExecutionReport] = []
    for frame in _frames(kafka_url, shard, after_seq=seq - 1):
        own = _own_reports(frame, shard, participant)
        found.extend(report for report in own if report.number >= from_number)
        if len(found) >= RESEND_REPORTS_MAX:
            break
    return found


def day_trades(kafka_url: str, shard: FollowedShard, participant: str, business_date: str) -> list[DayTrade]:
    """Return a participant's trades of one business date, in the order they happened."""
    found: list[DayTrade] = []
    date: str | None = None
    for frame in _frames(kafka_url, shard, after_seq=0):
        for event in frame.events:
            if isinstance(event, SessionConfigured):
                date = event.business_date
        if date != business_date:
            continue
        own = _own_reports(frame, shard, participant)
        found.extend(_day_trade(report) for report in own if report.kind == "trade")
    return found


def _own_reports(frame: Frame, shard: FollowedShard, participant: str) -> Iterator[ExecutionReport]:
    key = shard.key
    for report in reports_of(frame, session_key=key.session_key, market=key.market, shard=key.shard):
        if report.participant == participant:
            yield report


def _day_trade(report: ExecutionReport) -> DayTrade:
    assert report.trade_id and report.ticker and report.side, "a trade report names its trade"
    assert report.price_ticks is not None and report.quantity_shares is not None, "a trade has price and quantity"
    return DayTrade(
        trade_id=report.trade_id,
        market=report.market,
        ticker=report.ticker,
        order_id=report.order_id,
        account=report.account,
        side=report.side,
        price_ticks=report.price_ticks,
        quantity_shares=report.quantity_shares,
    )


def _frames(kafka_url: str, shard: FollowedShard, *, after_seq: int) -> Iterator[Frame]:
    topic, partition = shard.market.events_topic, shard.key.shard
    position = FramePosition(log_id=shard.index.log_id, seq=after_seq) if after_seq else None
    offset = find_offset(kafka_url, topic, partition, position) if position else 0
    while True:
        sequence = FrameSequence(f"{topic}[{partition}]", position)
        try:
            for record in read_from(kafka_url, topic, partition, offset):
                frame = sequence.hear(decode_frame_part(record.value or b""))
                if frame is not None:
                    position = FramePosition(log_id=frame.log_id, seq=frame.seq)
                    yield frame
            return
        except SequenceGap:
            # Where two matchers wrote at once, the log steps back and forth: what is missing here stands before.
            if offset == 0:
                raise
            offset = max(0, offset - STEP_BACK_RECORDS)
