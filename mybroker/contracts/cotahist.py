"""COTAHIST: B3's daily file of every instrument that traded, fixed width, read as a stream.

A file is one header `00`, records `01`, one trailer `99`, each of 245 characters, ISO-8859-1, CRLF; B3 ships it as a
ZIP with one member. Positions are those of B3's layout ("SeriesHistoricas_Layout"). Prices are per `FATCOT` shares:
`price_ticks` divides and rounds to the nearest tick; the raw figures stay as they were printed.
Invariant: a file is given out whole or not at all: a wrong line, a missing trailer or a wrong count raises
`CotahistError` with the line's number. Limits: LINES_MAX lines; one ticker may stand once per market.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

LINE_CHARACTERS = 245
LINES_MAX = 20_000_000
ENCODING = "iso-8859-1"

MARKET_CASH = 10
MARKET_ODD_LOT = 20


class CotahistError(ValueError):
    """A file that is not COTAHIST: which line, what was expected, what was there."""

    def __init__(self, line_number: int, expected: str, given: object) -> None:
        super().__init__(f"COTAHIST line {line_number}: expected {expected}, was {given!r}")
        self.line_number = line_number


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyRecord:
    """One instrument's day in one market. `*_hundredths` are the printed prices, per `quotation_factor` shares."""

    day: date
    bdi: str
    ticker: str
    market: int
    name: str
    term: str
    open_hundredths: int
    high_hundredths: int
    low_hundredths: int
    average_hundredths: int
    close_hundredths: int
    bid_hundredths: int
    ask_hundredths: int
    trades: int
    quantity_shares: int
    turnover_cents: int
    quotation_factor: int
    isin: str

    def price_ticks(self, hundredths: int) -> int:
        """Return a printed price per share in ticks, rounded half up; 0 where it is finer than a tick."""
        return (2 * hundredths + self.quotation_factor) // (2 * self.quotation_factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a file adds up to."""

    records: int
    trades: int
    turnover_cents: int


def read_cotahist(path: Path) -> Iterator[DailyRecord]:
    """Yield the records of a ZIP or a text file; raises CotahistError, OSError."""
    if not zipfile.is_zipfile(path):
        with path.open("r", encoding=ENCODING, newline="\n") as lines:
            yield from parse_cotahist(lines)
        return
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise CotahistError(0, "a ZIP with one member", members)
        with archive.open(members[0]) as raw, io.TextIOWrapper(raw, encoding=ENCODING, newline="\n") as lines:
            yield from parse_cotahist(lines)


def parse_cotahist(lines: Iterable[str]) -> Iterator[DailyRecord]:
    """Yield the records of the file's lines; raises CotahistError, at the end for a wrong count."""
    number = 0
    ended = False
    for number, with_ending in enumerate(lines, start=1):
        line = with_ending.rstrip("\r\n")
        if number > LINES_MAX:
            raise CotahistError(number, f"at most {LINES_MAX} lines", "more")
        if ended:
            raise CotahistError(number, "nothing after the trailer", line[:20])
        if len(line) != LINE_CHARACTERS:
            raise CotahistError(number, f"{LINE_CHARACTERS} characters", f"{len(line)} characters")
        kind = line[:2]
        if number == 1:
            if kind != "00" or not line[2:].startswith("COTAHIST."):
                raise CotahistError(number, "the header 00COTAHIST.", line[:20])
        elif kind == "99":
            _check_count(number, line)
            ended = True
        elif kind == "01":
            yield _record(number, line)
        else:
            raise CotahistError(number, "a record 01 or the trailer 99", kind)
    if not ended:
        raise CotahistError(number, "the trailer 99 at the end", "the end of the file")


def totals(records: Iterable[DailyRecord]) -> Totals:
    """Add records up."""
    count = trades = turnover_cents = 0
    for record in records:
        count += 1
        trades += record.trades
        turnover_cents += record.turnover_cents
    return Totals(records=count, trades=trades, turnover_cents=turnover_cents)


def _check_count(number: int, line: str) -> None:
    count = _integer(number, "the count of lines", line[31:42])
    if count != number:
        raise CotahistError(number, f"a trailer that counts {number} lines", count)


def _record(number: int, line: str) -> DailyRecord:
    def integer(what: str, first: int, last: int) -> int:
        return _integer(number, what, line[first - 1 : last])

    record = DailyRecord(
        day=_day(number, line[2:10]),
        bdi=line[10:12],
        ticker=line[12:24].strip(),
        market=integer("TPMERC", 25, 27),
        name=line[27:39].strip(),
        term=line[49:52].strip(),
        open_hundredths=integer("PREABE", 57, 69),
        high_hundredths=integer("PREMAX", 70, 82),
        low_hundredths=integer("PREMIN", 83, 95),
        average_hundredths=integer("PREMED", 96, 108),
        close_hundredths=integer("PREULT", 109, 121),
        bid_hundredths=integer("PREOFC", 122, 134),
        ask_hundredths=integer("PREOFV", 135, 147),
        trades=integer("TOTNEG", 148, 152),
        quantity_shares=integer("QUATOT", 153, 170),
        turnover_cents=integer("VOLTOT", 171, 188),
        quotation_factor=integer("FATCOT", 211, 217),
        isin=line[230:242],
    )
    if not record.ticker:
        raise CotahistError(number, "a ticker in CODNEG", line[12:24])
    if record.quotation_factor < 1:
        raise CotahistError(number, "FATCOT of 1 or more", record.quotation_factor)
    low, high = record.low_hundredths, record.high_hundredths
    if not (low <= record.open_hundredths <= high and low <= record.close_hundredths <= high):
        raise CotahistError(number, f"{record.ticker} open and close within low {low} and high {high}", line[56:121])
    return record


def _integer(number: int, what: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise CotahistError(number, f"digits in {what}", text)
    return int(text)


def _day(number: int, text: str) -> date:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise CotahistError(number, "a date AAAAMMDD", text) from None
