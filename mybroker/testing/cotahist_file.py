"""Writes small files in COTAHIST's layout, so that tests need no file of B3's.

Everything a record does not name is blank or zero; turnover and average follow from close and quantity unless given.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

_WIDTH = 245


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One record to write; prices in hundredths as printed, per `quotation_factor` shares."""

    ticker: str
    open: int
    high: int
    low: int
    close: int
    trades: int = 1
    quantity: int = 100
    market: int = 10
    bdi: str = "02"
    quotation_factor: int = 1
    average: int | None = None


def cotahist_lines(days: Iterable[Day], day: date) -> list[str]:
    """Return header, records and trailer, without line endings."""
    stamp = f"{day:%Y%m%d}"
    head = f"COTAHIST.{day:%Y}BOVESPA {stamp}"
    records = [_line(entry, stamp) for entry in days]
    return [
        f"00{head}".ljust(_WIDTH),
        *records,
        f"99{head}{len(records) + 2:011d}".ljust(_WIDTH),
    ]


def write_cotahist(path: Path, days: Iterable[Day], day: date) -> Path:
    """Write a text file, or a ZIP where the name ends so; returns the path."""
    data = "".join(f"{line}\r\n" for line in cotahist_lines(days, day)).encode("iso-8859-1")
    if path.suffix.lower() != ".zip":
        path.write_bytes(data)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".TXT").name, data)
    return path


def _line(entry: Day, stamp: str) -> str:
    average = entry.close if entry.average is None else entry.average
    turnover = average * entry.quantity // entry.quotation_factor
    prices = (entry.open, entry.high, entry.low, average, entry.close, entry.close - 1, entry.close + 1)
    line = (
        f"01{stamp}{entry.bdi:2}{entry.ticker:12}{entry.market:03d}{entry.ticker[:4]:12}{'ON':10}{'':3}{'R$':4}"
        + "".join(f"{price:013d}" for price in prices)
        + f"{entry.trades:05d}{entry.quantity:018d}{turnover:018d}{0:013d}0{'99991231'}"
        + f"{entry.quotation_factor:07d}{0:013d}{'BR' + entry.ticker[:4] + 'ACNOR0':12}{0:03d}"
    )
    assert len(line) == _WIDTH, f"{entry.ticker}: expected {_WIDTH} characters, was {len(line)}"
    return line
