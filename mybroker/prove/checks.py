"""One check of the audit: what was compared, how much of it, and where it first differs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

DIFFERENCES_KEPT_MAX = 10


@dataclass(slots=True, kw_only=True)
class Check:
    """Counts what is compared and keeps the first differences in plain words.

    `name` says what must be true; `unit` what `compared` counts. A check that compared nothing still holds.
    `in_flight` is what could not be compared yet because it was on its way.
    """

    name: str
    unit: str
    compared: int = 0
    in_flight: int = 0
    differences: int = 0
    first: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether nothing differs."""
        return self.differences == 0

    def differ(self, text: str) -> None:
        """Note a difference: expected what, was what, which id."""
        self.differences += 1
        if len(self.first) < DIFFERENCES_KEPT_MAX:
            self.first.append(text)

    def expect(self, what: str, expected: object, was: object) -> None:
        """Compare two values that must be equal."""
        if expected != was:
            self.differ(f"{what}: expected {expected}, was {was}")


def first_difference(checks: Sequence[Check]) -> str | None:
    """Return the first difference of the first check that has one; None where all hold."""
    for check in checks:
        if not check.ok:
            return f"{check.name}: {check.first[0]}"
    return None
