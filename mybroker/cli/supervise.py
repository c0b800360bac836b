"""`mybroker halt` and `resume`: the supervisor's hand, through surveillance's own door.

An answer means that the command is in the log; the phase shows when the matcher has applied it.
"""

from __future__ import annotations

from typing import Any

import click

from mybroker.cli.client import Client
from mybroker.cli.failure import BAD_INPUT, Failure
from mybroker.cli.output import answer_json
from mybroker.cli.sessions import RunningSession, chosen_session, json_option, session_option
from mybroker.cli.status import TOKEN_HEADER

SURVEILLANCE = "b3/surveillance"


@click.command()
@click.argument("ticker", required=False)
@click.option("--market", help="A whole market instead of one instrument.")
@session_option
@json_option
def halt(ticker: str | None, market: str | None, session: str | None, as_json: bool) -> int:
    """Halt TICKER, or a whole market."""
    return _order("halt", ticker, market, session, as_json=as_json)


@click.command()
@click.argument("ticker", required=False)
@click.option("--market", help="A whole market instead of one instrument.")
@session_option
@json_option
def resume(ticker: str | None, market: str | None, session: str | None, as_json: bool) -> int:
    """Resume TICKER, or a whole market, after a halt."""
    return _order("resume", ticker, market, session, as_json=as_json)


def _order(act: str, ticker: str | None, market: str | None, session: str | None, *, as_json: bool) -> int:
    if (ticker is None) == (market is None):
        raise Failure(f"{act}: expected either a TICKER or --market", code=BAD_INPUT)
    chosen = chosen_session(session)
    body = {"act": act, "ticker": ticker.upper()} if ticker is not None else {"act": act, "market": market}
    answer = surveillance_of(chosen).post("/orders", dict[str, Any], body)
    if as_json:
        answer_json(answer)
    else:
        logs = ", ".join(f"{one['market']}-{one['shard']}" for one in answer["placed"])
        click.echo(f"{act} {ticker or market}: in the log of {logs}")
    return 0


def surveillance_of(session: RunningSession) -> Client:
    """Return a client of the session's surveillance."""
    from mybroker.local.saved_state import SavedState

    port = SavedState(session.folder.state).ports.get(SURVEILLANCE)
    if port is None:
        raise Failure(f"session {session.key} is starting: surveillance has no address yet; try again in a moment")
    return Client(f"http://127.0.0.1:{port}", headers={TOKEN_HEADER: session.folder.internal_token()})
