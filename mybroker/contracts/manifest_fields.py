"""Reading a mapping field by field: every mistake is collected with its path, what was expected and what was given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

GIVEN_TEXT_MAX = 80

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecError:
    """One mistake in a manifest."""

    path: str
    expected: str
    given: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, was {self.given}"


def spec_error(path: str, expected: str, given: object) -> SpecError:
    """Return a mistake, with what was given written as it would stand in a manifest."""
    return SpecError(path=path, expected=expected, given=shown(given))


def shown(value: object) -> str:
    """Write a value briefly, as text for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, Mapping):
        text = "a mapping"
    elif isinstance(value, Sequence):
        text = f"a list of {len(value)}"
    else:
        text = str(value)
    return text if len(text) <= GIVEN_TEXT_MAX else text[:GIVEN_TEXT_MAX] + "…"


class Fields:
    """One mapping of a manifest being read.

    Each read names its field; `finish` then refuses every field nobody asked for, with a suggestion. A field that is
    wrong gives its default, so that reading goes on and later mistakes are found too.
    """

    def __init__(self, value: object, path: str, errors: list[SpecError]) -> None:
        """Start on `value`; whatever is no mapping is one mistake and reads as an empty one."""
        self.path = path
        self.errors = errors
        self._known: list[str] = []
        self._value: Mapping[Any, Any] = value if isinstance(value, Mapping) else {}
        self.is_mapping = isinstance(value, Mapping)
        if not self.is_mapping:
            self.refuse(path, "a mapping", value)

    def refuse(self, path: str, expected: str, given: object) -> None:
        """Note a mistake."""
        self.errors.append(spec_error(path, expected, given))

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        """Return a field as it stands, None where it is absent or null."""
        self._known.append(name)
        return self._value.get(name)

    def has(self, name: str) -> bool:
        """Say whether a field is given and not null."""
        return self._value.get(name) is not None

    def text(
        self, name: str, *, pattern: str | None = None, expected: str = "text", length_max: int = 253
    ) -> str | None:
        """Read text, None where it is absent or wrong."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value or len(value) > length_max:
            self.refuse(self.at(name), expected, value)
            return None
        if pattern is not None and not matches(pattern, value):
            self.refuse(self.at(name), expected, value)
            return None
        return value

    def integer(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        """Read a whole number within bounds."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self.refuse(self.at(name), f"a whole number from {minimum} to {maximum}", value)
            return default
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(self.at(name), "true or false", value)
            return default
        return value

    def choice(self, name: str, choices: type[_Choice], *, default: _Choice) -> _Choice:
        """Read one of a closed list of words."""
        return self.choice_or_none(name, choices) or default

    def choice_or_none(self, name: str, choices: type[_Choice]) -> _Choice | None:
        """Read one of a closed list of words, None where it is absent or wrong."""
        value = self.get(name)
        if value is None:
            return None
        words = [choice.value for choice in choices]
        if not isinstance(value, str) or value not in words:
            self.refuse(self.at(name), _one_of(words, value), value)
            return None
        return choices(value)

    def mapping(self, name: str) -> Fields:
        """Read a mapping inside this one; absent is empty. Call `finish` on it."""
        value = self.get(name)
        return Fields({} if value is None else value, self.at(name), self.errors)

    def items(self, name: str, *, count_min: int, count_max: int) -> list[tuple[str, Any]]:
        """Read a list of bounded length as (path, item)."""
        value = self.get(name)
        expected = f"a list of {count_min} to {count_max}"
        if not isinstance(value, list) or not count_min <= len(value) <= count_max:
            self.refuse(self.at(name), expected, value)
            return []
        return [(f"{self.at(name)}[{index}]", item) for index, item in enumerate(value)]

    def finish(self) -> None:
        """Refuse every field that was not read."""
        for name, value in self._value.items():
            if name in self._known:
                continue
            close = get_close_matches(str(name), self._known, n=1)
            hint = f"no such field (did you mean {close[0]}?)" if close else f"one of {', '.join(sorted(self._known))}"
            self.refuse(self.at(str(name)), hint, value)


def matches(pattern: str, text: str) -> bool:
    """Say whether a whole text has a pattern's form ("$" alone would let a line feed pass)."""
    return re.fullmatch(pattern, text) is not None


def _one_of(words: list[str], given: object) -> str:
    close = get_close_matches(str(given), words, n=1)
    return f"one of {', '.join(words)}" + (f" (did you mean {close[0]}?)" if close else "")
