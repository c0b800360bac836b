"""`mybroker wallet`, `events`, `login`, `register`: an account as its owner sees it."""

from __future__ import annotations

import sys

import click

from mybroker.cli.failure import Failure
from mybroker.cli.output import answer_json, show
from mybroker.cli.sessions import chosen_session, json_option, session_option
from mybroker.cli.signin import log_in, my_api, public_api
from mybroker.contracts.http_broker import PAGE_ITEMS_MAX, EventList, Wallet
from mybroker.contracts.http_identity import Credentials, Registered

WAIT_MS = 3_000


@click.command()
@session_option
@json_option
def wallet(session: str | None, as_json: bool) -> int:
    """Show cash and shares: what is available and what open orders hold."""
    found = my_api(chosen_session(session)).get("/wallet", Wallet)
    if as_json:
        answer_json(found)
        return 0
    from mybroker.cli.tables import wallet_table

    show(wallet_table(found))
    return 0


@click.command()
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this number.")
@click.option("--follow", is_flag=True, help="Stay and show new ones as they come, until ctrl-C.")
@session_option
@json_option
def events(after: int, follow: bool, session: str | None, as_json: bool) -> int:
    """Show what happened to your orders and your wallet, numbered without a gap; --json gives a line an event."""
    chosen = chosen_session(session)
    from mybroker.cli.tables import event_line

    while True:
        query = {"after": after, "limit": PAGE_ITEMS_MAX, "wait_ms": WAIT_MS if follow else None}
        found = my_api(chosen).get("/events", EventList, query)
        for event in found.events:
            if event.seq != after + 1 and after:
                raise Failure(f"expected event {after + 1}, was {event.seq}: the sequence has a gap")
            after = event.seq
            if as_json:
                answer_json(event)
            else:
                click.echo(event_line(event))
        sys.stdout.flush()
        if not follow and (not found.events or after >= found.last):
            return 0


@click.command()
@click.argument("username")
@click.option("--password", help="Asked for where it is not given.")
@session_option
@json_option
def login(username: str, password: str | None, session: str | None, as_json: bool) -> int:
    """Log in as USERNAME; the commands act for this user from now on, in this session."""
    chosen = chosen_session(session)
    secret = password if password is not None else click.prompt("Password", hide_input=True, err=True)
    kept = log_in(chosen, username, secret)
    if as_json:
        answer_json({"username": kept.username, "account": kept.account})
    else:
        click.echo(f"{kept.username}, account {kept.account}")
    return 0


@click.command()
@click.argument("username")
@click.option("--password", help="Asked for, twice, where it is not given.")
@session_option
@json_option
def register(username: str, password: str | None, session: str | None, as_json: bool) -> int:
    """Open an account for USERNAME and log in."""
    chosen = chosen_session(session)
    secret = password
    if secret is None:
        secret = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    made = public_api(chosen).post("/auth/register", Registered, Credentials(username=username, password=secret))
    log_in(chosen, username, secret)
    if as_json:
        answer_json(made)
    else:
        paid = "" if made.opening_paid else "; its opening balance is on its way"
        click.echo(f"{made.username}, account {made.account}{paid}")
    return 0
