"""`python -m bench [NAME …]`: measure, and print a table a program; without a name all of them, in order.

Everything runs on 127.0.0.1 in temporary folders that are removed, and nothing is left running. `--json` prints one
document instead. Exit code: 0 measured (aims are judged by the reader, in the notes), 1 a measurement failed, 2 wrong
arguments.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from collections.abc import Sequence

from bench import machine
from bench.report import Options, Result, as_document, render
from mybroker.cli.failure import Failure

PROGRAMS = {
    "engine": "commands a second through the matching engine alone",
    "matcher": "commands a second through Kafka and a matcher process",
    "ingest": "quotes a second through a fetcher into Kafka and MongoDB",
    "start": "time of a start, memory of the whole",
    "orders": "orders over HTTP: acknowledged, traded, where it saturates",
    "recovery": "time until trading goes on after a kill of the matcher",
}


def main(arguments: Sequence[str]) -> int:
    """Run what was named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this system on this machine.")
    told = "; ".join(f"{name}: {does}" for name, does in PROGRAMS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="measure briefly, only to see that it runs")
    parser.add_argument("--cold", action="store_true", help="start: also the first start of a clone (downloads)")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in PROGRAMS]
    if unknown:
        parser.error(f"expected some of {', '.join(PROGRAMS)}, was {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _run(given.names or list(PROGRAMS), Options(quick=given.quick, cold=given.cold), as_json=given.json)


def _run(names: Sequence[str], options: Options, *, as_json: bool) -> int:
    facts = machine.facts()
    if not as_json:
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()), flush=True)
    documents = []
    failed = 0
    for name in names:
        began_s = time.monotonic()
        quiet = machine.is_quiet()
        try:
            result: Result = importlib.import_module(f"bench.{name}").run(options)
        except (RuntimeError, TimeoutError, OSError, Failure) as error:
            failed += 1
            print(f"bench {name}: could not be measured: {error}", file=sys.stderr, flush=True)
            continue
        if not quiet:
            result.notes.append("the machine was busy with other work when this began")
        if options.quick:
            result.notes.append("measured briefly (--quick): these are no figures to keep")
        result.notes.append(f"took {round(time.monotonic() - began_s)} s")
        documents.append(as_document(result))
        if not as_json:
            print(f"\n{render(result)}", flush=True)
    if as_json:
        print(json.dumps({"machine": facts, "quick": options.quick, "results": documents}, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
