"""`mybroker doctor`: what this machine has and what is missing. It looks and changes nothing."""

from __future__ import annotations

import click

from mybroker.cli.failure import REFUSED
from mybroker.cli.output import answer_json, show
from mybroker.cli.sessions import json_option, running_sessions


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine has, what is missing and how to get it; exit 1 where a session could not start."""
    from mybroker.local.engines.machine import describe_machine
    from mybroker.local.session_folder import home

    findings = describe_machine(home())
    missing = [one for one in findings if one.missing and one.needed]
    running = running_sessions()
    if as_json:
        answer_json(
            {
                "findings": findings,
                "sessions": [{"session": one.key, "url": one.record.gateway_url} for one in running],
                "ready": not missing,
            }
        )
    else:
        from mybroker.cli.tables import doctor_table

        show(doctor_table(findings))
        for one in running:
            show(f"session {one.key} runs at {one.record.gateway_url or 'an address it has yet to choose'}")
        show("this machine can run a session" if not missing else "a session cannot start here before this is mended")
    return REFUSED if missing else 0
