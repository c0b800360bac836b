"""Hosting a session's runner in this process: `mybroker day` and the tests' child process do it alike.

The caller is the main thread of its process: children of the runner die with the thread that forked them. The
session's record is written as `mybroker up` writes it, so every other command finds the session.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from mybroker.local.control import Control
from mybroker.local.engines.children import Identity
from mybroker.local.engines.model import OnProgress
from mybroker.local.runner import Runner, RunnerOptions, Tell, read_manifest
from mybroker.local.session_folder import RunnerRecord, SessionFolder

Work = Callable[[Runner], Awaitable[None]]


async def host(
    manifest: Path,
    base: Path,
    options: RunnerOptions,
    work: Work,
    *,
    tell: Tell,
    on_progress: OnProgress = lambda _engine, _text, _done, _total: None,
) -> None:
    """Run the session of `manifest` below `base` while `work` runs, then take everything down.

    Raises what `work` raises, ManifestRefused, and RuntimeError where the runner ended before `work` was done.
    """
    folder = SessionFolder(base, read_manifest(manifest).key)
    with folder.hold():
        record = _Record(folder, manifest)

        def telling(event: str, facts: Mapping[str, object]) -> None:
            record.note()
            tell(event, facts)

        runner = Runner(manifest, folder, telling, on_progress, options)
        control = Control(runner)
        record.runner, record.control_url = runner, control.url
        record.note()
        serving = asyncio.create_task(control.run(), name="control")
        working = asyncio.ensure_future(work(runner))
        working.add_done_callback(lambda _task: runner.stop())
        try:
            await runner.run()
        finally:
            ended_early = not working.done()
            working.cancel()
            serving.cancel()
            await asyncio.gather(working, serving, return_exceptions=True)
        if ended_early:
            raise RuntimeError("the runner ended before the day did; its news say why")
        working.result()


class _Record:
    """Keeps the session's record up to date: who runs it and where it listens."""

    def __init__(self, folder: SessionFolder, manifest: Path) -> None:
        self.runner: Runner | None = None
        self.control_url = ""
        self._folder = folder
        self._manifest = manifest
        self._written: RunnerRecord | None = None

    def note(self) -> None:
        """Write the record where it changed."""
        identity = Identity.of(os.getpid())
        if self.runner is None or identity is None:
            return
        urls = self.runner.urls
        record = RunnerRecord(
            pid=identity.pid,
            started_ticks=identity.started_ticks,
            session_key=self.runner.session.key,
            manifest=str(self._manifest),
            control_url=self.control_url,
            gateway_url=self.runner.gateway_url,
            engines=urls.as_env() if urls is not None else {},
            engines_auditor=urls.as_auditor_env() if urls is not None else {},
        )
        if record != self._written:
            self._written = record
            self._folder.write_record(record)
