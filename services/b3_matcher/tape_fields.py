"""The fields of one tape line: each is taken once, checked, and what is left over is a mistake.

Errors say which field, what was expected and what was there. Instants keep their nanoseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, TypeVar

import msgspec

from mybroker.domain.money import format_ticks, parse_cents, parse_price_ticks
from mybroker.domain.refusal import RejectReason
from mybroker.domain.schedule import NS_PER_SECOND, format_instant
from mybroker.domain.schedule import parse_instant_ns as parse_instant_us

T = TypeVar("T")
_MISSING: Any = object()
_FRACTION = re.compile(r"\.(\d{1,9})(?=[-+Zz])")


class NotACommand(ValueError):
    """A line that is no command; the text says what was expected and what was there."""


class RefusedPrice(Exception):
    """A price that is a number, but none the market trades at."""

    def __init__(self, reason: RejectReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Fields:
    """One JSON object whose fields are taken one by one."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._taken: dict[str, None] = {}

    @classmethod
    def parse(cls, line: str) -> Fields:
        """Read a line as a JSON object."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise NotACommand(f'expected one JSON object such as {{"cmd":"tick", …}}, was {_shown(line)}') from error
        if not isinstance(values, dict):
            raise NotACommand(f"expected a JSON object, was {_shown(values)}")
        return cls(values)

    def has(self, name: str) -> bool:
        """Say whether the field is there and not null."""
        return self._values.get(name) is not None

    def _take(self, name: str, expected: str, default: Any = _MISSING) -> Any:
        self._taken[name] = None
        value = self._values.get(name)
        if value is None:
            if default is _MISSING:
                raise NotACommand(f'"{name}": expected {expected}, was missing')
            return default
        return value

    def text(self, name: str, default: str = _MISSING) -> str:
        """Take a text."""
        value = self._take(name, "text", default)
        if not isinstance(value, str):
            raise NotACommand(f'"{name}": expected text, was {_shown(value)}')
        return value

    def maybe_text(self, name: str) -> str | None:
        """Take a text where there is one."""
        value = self._take(name, "text", None)
        if value is not None and not isinstance(value, str):
            raise NotACommand(f'"{name}": expected text, was {_shown(value)}')
        return value

    def integer(self, name: str, default: int = _MISSING) -> int:
        """Take an integer."""
        value = self._take(name, "an integer", default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotACommand(f'"{name}": expected an integer, was {_shown(value)}')
        return value

    def maybe_integer(self, name: str) -> int | None:
        """Take an integer where there is one."""
        return self.integer(name) if self.has(name) else self._take(name, "an integer", None)

    def choice(self, name: str, words: Sequence[str], default: str = _MISSING) -> str:
        """Take one word of a closed list."""
        value = self._take(name, "one of " + ", ".join(words), default)
        if not isinstance(value, str) or value not in words:
            raise NotACommand(f'"{name}": expected one of {", ".join(words)}, was {_shown(value)}')
        return value

    def date(self, name: str) -> str:
        """Take an ISO date."""
        value = self.text(name)
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError as error:
            raise NotACommand(f'"{name}": expected a date such as "2026-11-23", was {_shown(value)}') from error

    def instant(self, name: str) -> int:
        """Take an RFC 3339 instant as nanoseconds since the epoch."""
        value = self.text(name)
        at_ns = parse_instant_ns(value)
        if at_ns is None:
            raise NotACommand(f'"{name}": expected a time such as "2026-11-23T10:00:00-03:00", was {_shown(value)}')
        return at_ns

    def maybe_price(self, name: str) -> int | None:
        """Take a price as decimal text, or `<name>_ticks` as it stood in a log; raises RefusedPrice."""
        ticks = self.maybe_integer(f"{name}_ticks")
        if not self.has(name):
            self._taken[name] = None
            return ticks
        value = self.text(name)
        price = parse_price_ticks(value)
        if price is RejectReason.PRICE_MALFORMED:
            raise NotACommand(f'"{name}": expected decimal text such as "{format_ticks(3005)}", was {_shown(value)}')
        if isinstance(price, RejectReason):
            raise RefusedPrice(price)
        return price

    def hundredths(self, name: str) -> int:
        """Take decimal text with at most two places as hundredths."""
        value = self.text(name)
        hundredths = parse_cents(value)
        if hundredths is None:
            raise NotACommand(f'"{name}": expected decimal text such as "129000.00", was {_shown(value)}')
        return hundredths

    def objects(self, name: str) -> Iterator[Fields]:
        """Take a list of objects."""
        values = self._take(name, "a list of objects")
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise NotACommand(f'"{name}": expected a list of objects, was {_shown(values)}')
        for value in values:
            yield Fields(value)

    def as_type(self, name: str, kind: type[T], default: T) -> T:
        """Take an object that must have a type's fields and no others."""
        value = self._take(name, "an object", default)
        if value is default:
            return default
        return _converted(f'"{name}"', value, kind)

    def rest_as(self, kind: type[T]) -> T:
        """Take everything that is not taken yet as one type."""
        rest = {name: value for name, value in self._values.items() if name not in self._taken}
        self._taken.update(dict.fromkeys(rest))
        return _converted("line", rest, kind)

    def expect_nothing_else(self) -> None:
        """Refuse fields nobody asked for: a misspelt one must not be lost in silence."""
        unknown = [name for name in self._values if name not in self._taken]
        if unknown:
            known = ", ".join(name for name in self._taken if not name.endswith("_ticks"))
            raise NotACommand(f'"{unknown[0]}": expected no such field here; there are {known}')


def _converted(where: str, value: Any, kind: type[T]) -> T:
    known = {field.name for field in msgspec.structs.fields(kind)} if issubclass(kind, msgspec.Struct) else set()
    known |= set(getattr(kind, "__dataclass_fields__", ()))
    unknown = [name for name in value if name not in known] if isinstance(value, dict) else []
    if unknown:
        raise NotACommand(f"{where}: expected fields of {', '.join(sorted(known))}, was {_shown(unknown[0])}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise NotACommand(f"{where}: {error}, was {_shown(value)}") from error


def parse_instant_ns(text: str) -> int | None:
    """Read an RFC 3339 instant with up to nine decimals of a second."""
    fraction = _FRACTION.search(text)
    if fraction is None:
        return parse_instant_us(text)
    whole_ns = parse_instant_us(text[: fraction.start()] + text[fraction.end() :])
    return None if whole_ns is None else whole_ns + int(fraction.group(1).ljust(9, "0"))


def format_instant_ns(at_ns: int) -> str:
    """Write an instant as RFC 3339 in exchange time, with nine decimals where there are any."""
    seconds, nanoseconds = divmod(at_ns, NS_PER_SECOND)
    text = format_instant(seconds * NS_PER_SECOND)
    return text if not nanoseconds else f"{text[:19]}.{nanoseconds:09d}{text[19:]}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(text if len(text) <= 80 else text[:80] + "…")
