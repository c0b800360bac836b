"""`mybroker match` and `export`: the matching engine alone over a tape, and a day's command log as such a tape.

Both hand over to programs of the matcher, in processes of their own: a service is started by name, never imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from mybroker.cli.failure import BAD_INPUT, REFUSED, Failure
from mybroker.cli.output import answer_json
from mybroker.cli.sessions import RunningSession, chosen_session, json_option, session_option
from mybroker.cli.status import control_of
from mybroker.contracts.topics import commands_topic, events_topic

MATCH = "services.b3_matcher.match"
REPLAY = "services.b3_matcher.replay"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="TAPE [OPTIONS]")
@json_option
def match(arguments: tuple[str, ...], as_json: bool) -> int:
    """Run the matching engine over TAPE ("-" is standard input) and print every event; nothing else has to run.

    The answer is JSON Lines, with --json and without. --all prints what only machines want, too.
    """
    del as_json  # it always is
    if not arguments:
        raise Failure("match: expected a TAPE of JSON Lines, or - for standard input", code=BAD_INPUT)
    return subprocess.run([sys.executable, "-m", MATCH, *arguments], check=False).returncode


@click.command()
@click.argument("market", required=False)
@click.option("--shard", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The tape's file.")
@session_option
@json_option
def export(market: str | None, shard: int, output: Path | None, session: str | None, as_json: bool) -> int:
    """Write MARKET's command log as a tape, and check that its replay gives the frames that were logged.

    Exit 1 at the first difference between replay and log; the tape is written all the same.
    """
    chosen = chosen_session(session)
    name = _market_of(chosen, market)
    namespace, _, bare = chosen.key.partition(".")
    tape = output or Path(f"{bare}-{name}-{shard}.tape")
    kafka_url = chosen.record.engines.get("MYBROKER_KAFKA_URL", "")
    if not kafka_url:
        raise Failure(f"session {chosen.key} is starting: its Kafka has no address yet; try again in a moment")
    command = [sys.executable, "-m", REPLAY, "--kafka", kafka_url, "--partition", str(shard), "--tape", str(tape)]
    command += ["--commands", commands_topic(namespace, bare, name), "--events", events_topic(namespace, bare, name)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode not in (0, REFUSED):
        raise Failure(f"export: the log of {name}-{shard} could not be read")
    result: dict[str, Any] = msgspec.json.decode(done.stdout)
    if as_json:
        answer_json({"tape": str(tape), **result})
    else:
        click.echo(f"{tape}: {result['commands']:,} commands, {result['frames']:,} frames; {_verdict(result)}")
    return done.returncode


def _verdict(result: dict[str, Any]) -> str:
    difference = result["difference"]
    if difference is None:
        return f"the replay gives what was logged, state {result['state_hash']}"
    return f"the replay differs from the log first at frame {difference['seq']} (offset {difference['offset']})"


def _market_of(session: RunningSession, market: str | None) -> str:
    status = control_of(session).get("/status", dict[str, Any])
    names = list(dict.fromkeys(one["name"] for one in status["markets"]))
    if market is None and len(names) == 1:
        return str(names[0])
    if market is None or market not in names:
        raise Failure(f"market: expected one of {', '.join(names)}, was {market or 'nothing'}", code=BAD_INPUT)
    return market
