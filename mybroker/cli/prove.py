"""`mybroker prove`: the audit of one session, from outside; starts the engines of a session that is down.

Exit codes: 0 proved, 1 there is a difference or it could not be read, 2 wrong input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mybroker.cli.failure import BAD_INPUT, REFUSED, Failure
from mybroker.cli.sessions import full_key, is_alive, json_option, known_sessions, session_option

if TYPE_CHECKING:
    from mybroker.prove.audit import Audit, Place

SETTLE_S = 20


@click.command()
@session_option
@click.option(
    "--journal",
    "journals",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What a trading program wrote down itself; compared too. May be given several times.",
)
@click.option("--settle", "settle_s", default=SETTLE_S, show_default=True, help="Seconds to wait for a moment of rest.")
@json_option
def prove(session: str | None, journals: tuple[Path, ...], settle_s: int, as_json: bool) -> int:
    """Replay the logs, compare every frame, report, order, fill, posting and balance; print the first difference."""
    with _place_of(session) as place:
        outcome = run_audit(place, journals, settle_s=settle_s, as_json=as_json)
    return show(outcome, as_json=as_json)


def run_audit(place: Place, journals: tuple[Path, ...], *, settle_s: float, as_json: bool) -> Audit:
    """Audit and turn what cannot be read into one sentence."""
    import psycopg
    from confluent_kafka import KafkaException

    from mybroker.contracts.client_journal import read_journal
    from mybroker.contracts.codec import Malformed
    from mybroker.prove.audit import NotThere, audit

    def tell(text: str) -> None:
        if not as_json:
            click.echo(f"  {text} …", err=True)

    try:
        entries = [entry for path in journals for entry in read_journal(path)]
        return audit(place, journals=entries, settle_s=settle_s, tell=tell)
    except NotThere as error:
        raise Failure(str(error)) from None
    except Malformed as error:
        raise Failure(f"{error}", code=BAD_INPUT) from None
    except (psycopg.Error, KafkaException, TimeoutError) as error:
        raise Failure(f"{place.session_key} cannot be read: {type(error).__name__}: {error}".strip()) from error


def show(outcome: Audit, *, as_json: bool) -> int:
    """Print the outcome; return the exit code."""
    from mybroker.prove import report

    if as_json:
        click.echo(json.dumps(report.as_json(outcome), ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines(outcome)))
    return 0 if outcome.ok else REFUSED


def place_from(session_key: str, urls: Mapping[str, str], gateway_url: str = "") -> Place:
    """Return where a session is, from an environment as `EngineUrls.as_auditor_env` gives it."""
    from mybroker.prove.audit import Place

    return Place(
        session_key=session_key,
        kafka_url=urls["MYBROKER_KAFKA_URL"],
        orders_url=urls["MYBROKER_POSTGRES_ORDERS_URL"],
        wallet_url=urls["MYBROKER_POSTGRES_WALLET_URL"],
        feed_url=f"{gateway_url}/api/v1" if gateway_url else None,
    )


@contextmanager
def _place_of(session: str | None) -> Iterator[Place]:
    """Find the session that is meant; one that is down has its engines up while inside."""
    from mybroker.local.engines.facade import Engines
    from mybroker.local.engines.model import EngineFailed
    from mybroker.local.session_folder import Busy, home

    folders = known_sessions()
    if session is not None:
        folders = [folder for folder in folders if folder.session_key == full_key(session)]
    else:
        running = [f for f in folders if (record := f.record()) is not None and is_alive(record)]
        folders = running or folders
    if not folders:
        raise Failure(f"there is no session {full_key(session) if session else ''} in {home()}".replace("  ", " "))
    if len(folders) > 1:
        names = ", ".join(folder.session_key for folder in folders)
        raise Failure(f"--session: expected one of {names}", code=BAD_INPUT)
    folder = folders[0]
    record = folder.record()
    if record is not None and is_alive(record):
        if not record.engines_auditor:
            raise Failure(f"{folder.session_key} is still starting: try again in a moment")
        yield place_from(folder.session_key, record.engines_auditor, record.gateway_url)
        return
    try:
        with folder.hold():
            # The audit needs Kafka and PostgreSQL; an empty address means that RabbitMQ stays down.
            engines = Engines(folder.engines, {**os.environ, "MYBROKER_RABBIT_URL": ""})
            try:
                yield place_from(folder.session_key, engines.start().as_auditor_env())
            finally:
                engines.stop()
    except Busy as busy:
        raise Failure(str(busy)) from None
    except EngineFailed as failed:
        raise Failure(f"{failed.engine} could not be started: {failed.text}", engine=failed.engine) from None
