"""What long-running commands write on: a terminal with progress bars, plain lines, or one JSON object per event.

Lines may come from any thread. Rich is imported only where a terminal is really there.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Screen(Protocol):
    """Where a command says what happens."""

    def say(self, event: str, facts: Mapping[str, object], text: str | None) -> None:
        """Tell one event: `text` for people (None: not worth a line), `facts` for programs."""
        ...

    def progress(self, name: str, text: str, done: int, total: int) -> None:
        """Tell how far `name` is; total 0 means that there is nothing to count."""
        ...

    def settle(self) -> None:
        """Take the progress bars away."""
        ...


def make_screen(*, as_json: bool) -> Screen:
    """Return the screen that fits where standard output goes."""
    if as_json:
        return JsonScreen()
    return TerminalScreen() if sys.stdout.isatty() else PlainScreen()


class JsonScreen:
    """One JSON object a line: `event`, `at` (wall, RFC 3339) and the event's facts."""

    def say(self, event: str, facts: Mapping[str, object], text: str | None) -> None:
        """Write the event; the text is in its facts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        click.echo(json.dumps({"event": event, "at": now, **facts}, default=_plain))

    def progress(self, name: str, text: str, done: int, total: int) -> None:
        """Write a progress event."""
        self.say("progress", {"what": name, "text": text, "done": done, "total": total}, None)

    def settle(self) -> None:
        """Nothing to take away."""


class PlainScreen:
    """Lines with the seconds since the start, for a log or a pipe. Of a count only the steps worth a line."""

    def __init__(self) -> None:
        """Begin to count seconds."""
        self._started_s = time.monotonic()
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()

    def say(self, event: str, facts: Mapping[str, object], text: str | None) -> None:
        """Write the text, each of its lines indented under the time."""
        if text is None:
            return
        with self._lock:
            for number, line in enumerate(text.splitlines()):
                click.echo(f"{self._elapsed() if number == 0 else ' ' * 8}  {line}".rstrip())

    def progress(self, name: str, text: str, done: int, total: int) -> None:
        """Write the first, the last and each tenth step."""
        tenth = done * 10 // total if total else 0
        shown = f"{name} {text.split(maxsplit=1)[0]} {tenth}"
        with self._lock:
            if self._told.get(name) == shown:
                return
            self._told[name] = shown
            counted = f" {done}/{total}" if total else ""
            click.echo(f"{self._elapsed()}  {name}: {text}{counted}")

    def settle(self) -> None:
        """Nothing to take away."""

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started_s:6.1f} s"


class TerminalScreen:
    """Lines above progress bars that go away when nothing is under way."""

    def __init__(self) -> None:
        """Begin to count seconds."""
        from rich.console import Console

        self._console = Console(highlight=False)
        self._started_s = time.monotonic()
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def say(self, event: str, facts: Mapping[str, object], text: str | None) -> None:
        """Write the text above the bars."""
        if text is None:
            return
        from rich.markup import escape

        elapsed = f"{time.monotonic() - self._started_s:6.1f} s"
        lines = text.splitlines() or [""]
        with self._lock:
            self._console.print(f"[dim]{elapsed}[/]  {escape(lines[0])}", soft_wrap=True)
            for line in lines[1:]:
                self._console.print(f"{' ' * 8}  {escape(line)}", soft_wrap=True)

    def progress(self, name: str, text: str, done: int, total: int) -> None:
        """Move the bar of `name`, or start it."""
        with self._lock:
            bars = self._open()
            if name not in self._bars:
                self._bars[name] = bars.add_task(name, total=total or None, text=text)
            bars.update(self._bars[name], completed=done, total=total or None, text=text)

    def settle(self) -> None:
        """Take the bars away."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None
                self._bars.clear()

    def _open(self) -> Progress:
        if self._progress is None:
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn("{task.description:>10}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self._progress


def _plain(value: object) -> Any:
    return str(value)
