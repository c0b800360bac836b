"""The process that runs a session for a test: `python -m tests.day.child CONFIG.json`, until SIGTERM.

The runner needs a main thread of its own, and must not outlive the test: it goes when its parent does. CONFIG names
the manifest, the folder, and what is different from a real day: other modules instead of a service (saboteurs), more
environment for a workload.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mybroker.local.processes import module_command
from mybroker.local.runner import Runner, RunnerOptions
from mybroker.plan.workloads import Workload
from mybroker.testing.hosting import host

LOOK_EVERY_S = 0.2


def main(config_path: str) -> None:
    """Run the session that the config describes."""
    config = json.loads(Path(config_path).read_text())
    modules: dict[str, str] = config.get("modules", {})
    extra: dict[str, dict[str, str]] = config.get("env", {})
    parent = os.getppid()

    def command_of(workload: Workload) -> list[str]:
        if workload.name not in modules:
            return module_command(workload)
        return [sys.executable, "-m", modules[workload.name], *workload.args]

    async def until_told(_runner: Runner) -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        while not stopping.is_set() and os.getppid() == parent:
            await asyncio.sleep(LOOK_EVERY_S)

    started_s = time.monotonic()

    def tell(event: str, facts: Mapping[str, object]) -> None:
        line = {"after_s": round(time.monotonic() - started_s, 2), "event": event, **facts}
        print(json.dumps(line, default=str), flush=True)

    options = RunnerOptions(
        environ=dict(os.environ),
        gateway_port=config["gateway_port"],
        command_of=command_of,
        extra_env_of=lambda workload: extra.get(workload.name, {}),
    )
    asyncio.run(host(Path(config["manifest"]), Path(config["base"]), options, until_told, tell=tell))


if __name__ == "__main__":
    main(sys.argv[1])
