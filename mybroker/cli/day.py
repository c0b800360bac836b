"""`mybroker day`: one whole simulated day without a screen, with clients that trade, then the audit.

Runs in a folder of its own that is removed afterwards (`--keep` leaves it), on free ports, beside whatever else runs.
Exit codes: 0 the day went through and is proved, 1 it is not, 2 wrong input.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mybroker.cli.failure import REFUSED, Failure
from mybroker.cli.prove import place_from, run_audit, show
from mybroker.cli.screen import Screen, make_screen
from mybroker.cli.sessions import json_option

if TYPE_CHECKING:
    from mybroker.local.runner import Runner
    from mybroker.prove.audit import Audit
    from mybroker.testing.day_manifest import DayManifest
    from mybroker.testing.load import LoadFigures

SAMPLE = Path("k8s/samples/dia-cotahist.yaml")
SPEED = 240
"""Eight hours and a quarter in about two minutes."""
SEED = 20241108
READY_WITHIN_S = 180
OPENING_CASH_CENTS = 2_000_000_00
"""Enough for the clients to trade all day."""
LOOK_EVERY_S = 0.2
SETTLE_S = 30
TOLD = frozenset(
    {"phase_changed", "process_ended", "engine_ended", "manifest_refused", "runner_task_failed", "degraded"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOptions:
    """How a day is run."""

    clients: int
    orders_per_second: int
    seed: int
    as_json: bool


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed", type=click.IntRange(1, 3_600), default=SPEED, show_default=True, help="Session over wall time."
)
@click.option("--clients", type=click.IntRange(0, 200), default=8, show_default=True, help="Accounts that trade.")
@click.option("--rate", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Their requests a second.")
@click.option("--seed", type=int, default=SEED, show_default=True, help="Of what the clients do.")
@click.option("--keep", is_flag=True, help="Leave the day's folder, and say where it is.")
@json_option
def day(file: Path | None, speed: int, clients: int, rate: int, seed: int, keep: bool, as_json: bool) -> int:
    """Run a whole day of FILE (k8s/samples/dia-cotahist.yaml) headless, then prove it."""
    from mybroker.testing.day_manifest import headless_day

    sample = file or (SAMPLE if SAMPLE.exists() else Path(__file__).parents[2] / SAMPLE)
    screen = make_screen(as_json=as_json)
    options = DayOptions(clients=clients, orders_per_second=rate, seed=seed, as_json=as_json)
    base = Path(tempfile.mkdtemp(prefix="mybroker-day-"))
    base.chmod(0o755)  # PostgreSQL runs as an ordinary user and must reach its folder
    try:
        try:
            manifest = headless_day(sample, base, speed=speed)
        except (KeyError, TypeError, AttributeError) as error:
            raise Failure(
                f"{sample}: expected a MarketSession with a date and a Cotahist file: {error!r}", code=2
            ) from None
        return _run(manifest, base, options, screen)
    finally:
        screen.settle()
        if keep:
            screen.say("folder_kept", {"folder": str(base)}, f"the day's folder is {base}")
        else:
            _remove(base)


def _remove(base: Path) -> None:
    from mybroker.local.engines.facade import Engines

    for folder in base.glob("*/engines"):
        Engines(folder, os.environ).remove_data()
    shutil.rmtree(base, ignore_errors=True)


def _run(manifest: DayManifest, base: Path, options: DayOptions, screen: Screen) -> int:
    from mybroker.local.engines.model import EngineFailed
    from mybroker.local.runner import ManifestRefused, RunnerOptions
    from mybroker.testing.hosting import host

    prices = "B3's recorded prices" if manifest.recorded else "prices written for this day: B3's file is not here"
    screen.say("day_starting", {"prices": str(manifest.prices), "recorded": manifest.recorded}, f"a day on {prices}")
    running = _Day(base, options, screen)

    def tell(event: str, facts: Mapping[str, object]) -> None:
        if event in TOLD and not (event == "process_ended" and running.over):
            screen.say(event, facts, f"{event.replace('_', ' ')}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))

    runner_options = RunnerOptions(environ=_environ(), gateway_port=18_080)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(host(manifest.path, base, runner_options, running.work, tell=tell, on_progress=screen.progress))
    except ManifestRefused as refused:
        raise Failure(f"{manifest.path} is no MarketSession:\n{refused}", code=2) from None
    except EngineFailed as failed:
        raise Failure(f"{failed.engine} could not be started: {failed.text}") from None
    except (RuntimeError, TimeoutError) as error:
        raise Failure(f"the day did not go through: {error}") from None
    assert running.outcome is not None, "a day that went through was audited"
    return max(running.failed, show(running.outcome, as_json=options.as_json))


def _environ() -> dict[str, str]:
    """Return our environment without addresses of engines: a day has its own."""
    given = {n: value for n, value in os.environ.items() if not (n.startswith("MYBROKER_") and n.endswith("_URL"))}
    return {"MYBROKER_OPENING_CASH_CENTS": str(OPENING_CASH_CENTS), **given}


class _Day:
    """What happens while the runner runs: clients trade until the close, then the audit."""

    def __init__(self, base: Path, options: DayOptions, screen: Screen) -> None:
        self.outcome: Audit | None = None
        self.over = False
        self.failed = 0
        self._journal = base / "clients.jsonl"
        self._options = options
        self._screen = screen
        self._started_s = time.monotonic()

    async def work(self, runner: Runner) -> None:
        """Wait for the pre-open, trade, wait for the close, audit."""
        from mybroker.local.runner import GATEWAY

        await self._until(runner, lambda: _phase(runner) in ("PreOpen", "Open") and runner.probes.ready(GATEWAY))
        figures = await self._trade(runner)
        self._tell_load(figures)
        assert runner.urls is not None, "a runner that came to the close has engines"
        place = place_from(runner.session.key, runner.urls.as_auditor_env(), runner.gateway_url)
        journals = (self._journal,) if self._journal.exists() else ()
        self.outcome = await asyncio.to_thread(
            run_audit, place, journals, settle_s=SETTLE_S, as_json=self._options.as_json
        )
        self.over = True

    async def _trade(self, runner: Runner) -> LoadFigures | None:
        from mybroker.testing.day_manifest import lots_of
        from mybroker.testing.load import Load, LoadOptions

        tickers = tuple(ticker for market in runner.session.spec.markets for ticker in market.instruments)
        if not self._options.clients:
            await self._until(runner, lambda: _phase(runner) == "Closed", within_s=None)
            return None
        load = Load(
            LoadOptions(
                base_url=runner.gateway_url,
                session=runner.session.key,
                tickers=tickers,
                lots=lots_of(tickers),
                journal=self._journal,
                seed=self._options.seed,
                clients=self._options.clients,
                orders_per_second=self._options.orders_per_second,
            )
        )
        trading = asyncio.create_task(load.run())
        try:
            while _phase(runner) != "Closed" and not trading.done():
                await asyncio.sleep(LOOK_EVERY_S)
            load.stop()
            await trading
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)
        return load.figures

    def _tell_load(self, figures: LoadFigures | None) -> None:
        if figures is None:
            return
        counts = dict(sorted(figures.counts.items()))
        times = sorted(figures.acknowledged_ms)
        facts: dict[str, object] = {"counts": counts, "took_s": round(time.monotonic() - self._started_s, 1)}
        text = f"clients: {', '.join(f'{count:,} {what}' for what, count in counts.items())}"
        if times:
            facts |= {"ack_p50_ms": times[len(times) // 2], "ack_p99_ms": times[len(times) * 99 // 100]}
            text += f"; acknowledged in {facts['ack_p50_ms']} ms (p50), {facts['ack_p99_ms']} ms (p99)"
        if not counts.get("place acknowledged"):
            self.failed = REFUSED
            text += "; NOT ONE ORDER WAS ACKNOWLEDGED"
        self._screen.say("clients_done", facts, text)

    async def _until(self, runner: Runner, there: object, within_s: float | None = READY_WITHIN_S) -> None:
        assert callable(there)
        give_up_at = None if within_s is None else time.monotonic() + within_s
        while not there():
            if give_up_at is not None and time.monotonic() > give_up_at:
                waiting = {
                    n: runner.probes.waiting_for(n) for n in runner.processes.names() if not runner.probes.ready(n)
                }
                raise TimeoutError(f"the market was not ready within {within_s:g} s, waiting for {waiting}")
            await asyncio.sleep(LOOK_EVERY_S)


def _phase(runner: Runner) -> str:
    return runner.plan.status.phase if runner.plan is not None else ""
