"""What a bench program gives back, and how it is shown: a table for people, JSON for programs.

The columns of a table are the fields of its rows in the order in which they first came; a row without a field shows a
dash. Numbers are integers with their unit last in the name, or text where a ratio needs a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Value = int | str | None
Row = dict[str, Value]
NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a program is run. `quick` measures briefly, to see that it runs; `cold` adds the first start."""

    quick: bool = False
    cold: bool = False


@dataclass(slots=True, kw_only=True)
class Result:
    """The figures of one program. `failures` are aims that were missed or measurements that could not be made."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: list[Result] = field(default_factory=list)
    """Further tables of the same run."""

    def add_row(self, **values: Value) -> None:
        """Add one row."""
        self.rows.append(values)

    def add_table(self, title: str) -> Result:
        """Add a further table and return it."""
        table = Result(name=self.name, title=title)
        self.more.append(table)
        return table


def per_second(count: int, took_ns: int) -> int:
    """Return a rate, rounded down; 0 where no time passed."""
    return count * NS_PER_SECOND // took_ns if took_ns > 0 else 0


def render(result: Result) -> str:
    """Write a result and its further tables as text."""
    parts = [_table(result)]
    parts += [_table(table) for table in result.more]
    return "\n\n".join(parts)


def as_document(result: Result) -> dict[str, object]:
    """Return a result as plain values for JSON."""
    return {
        "name": result.name,
        "title": result.title,
        "rows": result.rows,
        "notes": result.notes,
        "more": [as_document(table) for table in result.more],
    }


def _table(result: Result) -> str:
    columns = list(dict.fromkeys(name for row in result.rows for name in row))
    lines = [f"{result.name}: {result.title}"]
    if columns:
        cells = [[column.replace("_", " ") for column in columns]]
        cells += [[_cell(row.get(column)) for column in columns] for row in result.rows]
        widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
        right = [_is_number_column(result.rows, column) for column in columns]
        lines += ["  " + _line(row, widths, right) for row in cells]
    lines += [f"  {note}" for note in result.notes]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _is_number_column(rows: Sequence[Row], column: str) -> bool:
    return all(isinstance(row.get(column), int | None) or _is_fraction(row.get(column)) for row in rows)


def _is_fraction(value: Value) -> bool:
    return isinstance(value, str) and value.removesuffix(" %").replace(".", "", 1).isdigit()


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else value
