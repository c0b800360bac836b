"""The numbers of execution reports: each once, in order, and what is missing is asked for. Pure.

Reports are numbered 1, 2, 3 … per (session, market, shard, log). A number that was seen is dropped; one that comes too
early is kept back until the gap before it is filled. Heartbeats tell the last number, so a lost last report shows too.
Limits: KEPT_BACK_MAX reports a log are kept back, what is beyond comes again with the resend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mybroker.contracts.door import DoorHeartbeat, ExecutionReport

KEPT_BACK_MAX = 5_000
ASK_AGAIN_MS = 1_000

Key = tuple[str, str, int, str]
"""(session_key, market, shard, log_id)"""


@dataclass(slots=True, kw_only=True)
class _Log:
    last: int = 0
    claimed: int = 0
    kept_back: dict[int, ExecutionReport] = field(default_factory=dict)
    asked_from: int = 0
    asked_at_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Reports of one log are missing from this number on."""

    key: Key
    from_number: int


class ReportSequence:
    """What was heard of each log."""

    def __init__(self, last_numbers: Mapping[Key, int]) -> None:
        """Begin after the numbers that are stored."""
        self._logs = {key: _Log(last=number) for key, number in last_numbers.items()}
        self.dropped = 0

    def offer(self, report: ExecutionReport) -> list[ExecutionReport]:
        """Take one report; return those that are due now, in order (none for one seen before or too early)."""
        log = self._log((report.session_key, report.market, report.shard, report.log_id))
        if report.number <= log.last or report.number in log.kept_back:
            self.dropped += 1
            return []
        if report.number > log.last + 1:
            if len(log.kept_back) < KEPT_BACK_MAX:
                log.kept_back[report.number] = report
            else:
                self.dropped += 1
            log.claimed = max(log.claimed, report.number)
            return []
        due = [report]
        log.last = report.number
        while (following := log.kept_back.pop(log.last + 1, None)) is not None:
            due.append(following)
            log.last = following.number
        return due

    def hear(self, heartbeat: DoorHeartbeat) -> None:
        """Note the last numbers that the door knows of."""
        for told in heartbeat.last_numbers:
            log = self._log((heartbeat.session_key, told.market, told.shard, told.log_id))
            log.claimed = max(log.claimed, told.number)

    def last_numbers(self) -> dict[Key, int]:
        """Return the last number of each log, without a gap before it."""
        return {key: log.last for key, log in self._logs.items()}

    def missing(self, now_ns: int) -> Iterator[Missing]:
        """Yield what must be asked for now; the same number is asked for again only after ASK_AGAIN_MS."""
        for key, log in self._logs.items():
            if log.claimed <= log.last:
                continue
            waited = now_ns - log.asked_at_ns >= ASK_AGAIN_MS * 1_000_000
            if log.asked_from == log.last + 1 and not waited:
                continue
            log.asked_from, log.asked_at_ns = log.last + 1, now_ns
            yield Missing(key=key, from_number=log.last + 1)

    def _log(self, key: Key) -> _Log:
        return self._logs.setdefault(key, _Log())
