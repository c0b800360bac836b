"""How long a start takes, and what the whole keeps in memory once it trades.

Times count from the start of the process to the line that says it. "a new day" has packages and engines in the caches
and an empty folder; "goes on" is the same session started again. With `--cold` comes the first start of a fresh clone:
`make`'s own bootstrap with an empty cache (XDG_CACHE_HOME) and an empty folder, which downloads everything.
Memory is PSS (shared pages divided among their users, so it can be summed) and RSS (what `ps` shows), a program at a
time, MEMORY_AFTER_S after the opening.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil

from bench.flow import ROOT
from bench.report import Options, Result, Row
from bench.session import UpSession, named_processes, own_environ, started, temporary_home, write_manifest

RUNS = 3
MEMORY_AFTER_S = 15
BOOTSTRAP_WITHIN_S = 900
AIM_MEMORY_MB = 2_560
AIM_WARM_S = 15
AIM_COLD_S = 120
MB = 1 << 20
NS_PER_S = 1_000_000_000
_PHASES_STARTED = frozenset({"PreOpen", "Open"})


def run(options: Options) -> Result:
    """Start some times; look at the memory of the last start."""
    result = Result(name="start", title="from the command to the pre-open, the sample session with all engines")
    if options.cold:
        _cold(result)
    pre_open_ns: list[int] = []
    for number in range(1, 2 if options.quick else RUNS + 1):
        with temporary_home() as home:
            manifest = write_manifest(home, long_day=False)
            with started(home, manifest) as session:
                pre_open_ns.append(_add_times(result, f"a new day, run {number}", session, 0))
            with started(home, manifest) as session:
                pre_open_ns.append(_add_times(result, f"goes on, run {number}", session, 0))
                if number == (1 if options.quick else RUNS):
                    session.wait_phase("Open")
                    time.sleep(MEMORY_AFTER_S)
                    _add_memory(result, session)
    within = sum(took_ns <= AIM_WARM_S * NS_PER_S for took_ns in pre_open_ns)
    result.notes.append(f"aim: pre-open within {AIM_WARM_S} s of a warm start: {within} of {len(pre_open_ns)}")
    return result


def _add_times(result: Result, what: str, session: UpSession, earlier_ns: int) -> int:
    """Wait for each milestone; return the time to the pre-open. `earlier_ns` passed before this process.

    A session that goes on may be past its pre-open: then its phase is what is waited for, and the row names it.
    """
    row: Row = {"start": what}
    phase = session.wait_for("phase_changed", lambda facts: facts["phase"] in _PHASES_STARTED)
    milestones = (
        ("engines_s", session.wait_for("engines_ready")),
        ("services_s", session.wait_for("services_ready")),
        ("page_s", session.wait_for("page_ready")),
        ("pre_open_s", phase),
    )
    for column, news in milestones:
        row[column] = _seconds_text(news.heard_ns - session.started_ns + earlier_ns)
    row["phase"] = str(phase.facts["phase"])
    result.rows.append(row)
    return phase.heard_ns - session.started_ns + earlier_ns


def _cold(result: Result) -> None:
    """Start a clone of this repository's last commit for the first time."""
    with temporary_home() as home:
        clone, cache = home / "clone", home / "cache"
        cache.mkdir()
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        environ = own_environ(home / "sessions", XDG_CACHE_HOME=str(cache), PYTHONPATH=str(clone))
        (home / "sessions").mkdir(mode=0o755)
        manifest = write_manifest(home, long_day=False)
        began_ns = time.monotonic_ns()
        with (home / "bootstrap.log").open("wb") as log:
            subprocess.run(
                ["make", "runtime"],
                cwd=clone,
                env=environ,
                stdout=log,
                stderr=log,
                check=True,
                timeout=BOOTSTRAP_WITHIN_S,
            )
        bootstrap_ns = time.monotonic_ns() - began_ns
        command = [str(clone / ".venv" / "bin" / "mybroker"), "up"]
        session = UpSession(home / "sessions", manifest, command, clone, environ)
        try:
            took_ns = _add_times(result, "the first start of a clone", session, bootstrap_ns)
        finally:
            session.stop()
            _remove_data(home / "sessions")
    result.rows[-1]["packages_s"] = _seconds_text(bootstrap_ns)
    met = "met" if took_ns <= AIM_COLD_S * NS_PER_S else "MISSED"
    result.notes.append(f"aim: pre-open within {AIM_COLD_S} s of the first start: {met}")


def _remove_data(sessions: Path) -> None:
    from mybroker.local.engines.facade import Engines

    for folder in sessions.glob("*/engines"):
        Engines(folder, {}).remove_data()


def _add_memory(result: Result, session: UpSession) -> None:
    table = result.add_table(f"memory, {MEMORY_AFTER_S} s after the opening")
    pss_mb: dict[str, int] = {}
    rss_mb: dict[str, int] = {}
    counts: dict[str, int] = {}
    for name, process in named_processes(session.process.pid, session.programs()):
        try:
            full = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        counts[name] = counts.get(name, 0) + 1
        pss_mb[name] = pss_mb.get(name, 0) + full.pss // 1_000
        rss_mb[name] = rss_mb.get(name, 0) + full.rss // 1_000
    for name in sorted(pss_mb, key=lambda name: -pss_mb[name]):
        table.add_row(
            program=name, processes=counts[name], pss_mb=pss_mb[name] * 1_000 // MB, rss_mb=rss_mb[name] * 1_000 // MB
        )
    total_pss_mb, total_rss_mb = (sum(values.values()) * 1_000 // MB for values in (pss_mb, rss_mb))
    table.add_row(program="all", processes=sum(counts.values()), pss_mb=total_pss_mb, rss_mb=total_rss_mb)
    met = "met" if total_pss_mb <= AIM_MEMORY_MB else "MISSED"
    table.notes.append(f"aim: {AIM_MEMORY_MB} MB or less with all engines (PSS): {met}; {os.cpu_count()} cores")


def _seconds_text(took_ns: int) -> str:
    return f"{took_ns / NS_PER_S:.1f}"
