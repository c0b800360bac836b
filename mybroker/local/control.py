"""The runner's own door on loopback: what `mybroker status`, `clock` and the chaos tests ask of it.

Only holders of the session's internal token may call. GET /status tells what runs and how it is; POST /clock moves
a simulated clock; POST /engines/{name}/restart and /kill and POST /processes/{name}/kill break things on purpose.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.market_session import CLOCK_SPEED_MAX, ClockMode
from mybroker.local.log_keeper import wall_ns
from mybroker.local.runner import Runner

TOKEN_HEADER = "X-Internal-Token"
STEP_SECONDS_MAX = 24 * 3_600
NS_PER_SECOND = 1_000_000_000


class MoveClock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /clock: a speed (0 pauses) or a step forward."""

    speed: int | None = None
    step_seconds: int | None = None


class Control:
    """Serves the runner's door until cancelled."""

    def __init__(self, runner: Runner) -> None:
        """Bind a free port on loopback at once; `url` is known from here on."""
        self._runner = runner
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def run(self) -> None:
        """Serve until cancelled."""
        app = Starlette(
            routes=[
                Route("/status", self._status),
                Route("/clock", self._clock, methods=["POST"]),
                Route("/engines/{name}/{verb}", self._engine, methods=["POST"]),
                Route("/processes/{family}/{name}/kill", self._kill, methods=["POST"]),
            ]
        )

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # signals belong to whoever runs the runner

        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        server = Server(config)
        try:
            await server.serve([self._socket])
        finally:
            self._socket.close()

    async def _status(self, request: Request) -> Response:
        if (refused := self._check(request)) is not None:
            return refused
        health = await asyncio.to_thread(self._runner.engines.check)
        return _reply(status_document(self._runner) | {"engines": health})

    async def _clock(self, request: Request) -> Response:
        if (refused := self._check(request)) is not None:
            return refused
        try:
            move = msgspec.json.decode(await request.body(), type=MoveClock)
        except msgspec.MsgspecError as error:
            return _refusal(422, "malformed_body", str(error))
        if self._runner.session.spec.clock.mode is not ClockMode.SIMULATED:
            return _refusal(409, "wall_clock", "expected a session with a simulated clock, this one runs on the wall's")
        if (move.speed is None) == (move.step_seconds is None):
            return _refusal(422, "malformed_body", "expected either speed or step_seconds")
        if move.speed is not None and not 0 <= move.speed <= CLOCK_SPEED_MAX:
            return _refusal(422, "speed_out_of_range", f"expected 0 to {CLOCK_SPEED_MAX}, was {move.speed}")
        if move.step_seconds is not None and not 0 < move.step_seconds <= STEP_SECONDS_MAX:
            return _refusal(422, "step_out_of_range", f"expected 1 to {STEP_SECONDS_MAX}, was {move.step_seconds}")
        self._runner.move_clock(speed=move.speed, step_ns=(move.step_seconds or 0) * NS_PER_SECOND)
        return _reply({"moved": True})

    async def _engine(self, request: Request) -> Response:
        if (refused := self._check(request)) is not None:
            return refused
        name, verb = request.path_params["name"], request.path_params["verb"]
        if name not in self._runner.engines.pids():
            return _refusal(404, "unknown_engine", f"expected one of {', '.join(self._runner.engines.pids())}")
        if verb == "kill":
            self._runner.engines.kill(name)
        elif verb == "restart":
            if not self._runner.begin_engine_restart(name):
                return _refusal(409, "engine_starting", "expected no other engine's start under way")
        else:
            return _refusal(404, "unknown_verb", "expected kill or restart")
        return _reply({verb: name})

    async def _kill(self, request: Request) -> Response:
        if (refused := self._check(request)) is not None:
            return refused
        name = f"{request.path_params['family']}/{request.path_params['name']}"
        if not self._runner.processes.kill(name):
            return _refusal(404, "unknown_process", f"expected one of {', '.join(self._runner.processes.running())}")
        return _reply({"kill": name})

    def _check(self, request: Request) -> Response | None:
        given = request.headers.get(TOKEN_HEADER, "").encode()
        if hmac.compare_digest(given, self._runner.folder.internal_token().encode()):
            return None
        return _refusal(401, "internal_token_invalid", f"expected the session's token in {TOKEN_HEADER}")


def status_document(runner: Runner) -> dict[str, Any]:
    """Return what is known of the session now, without asking anybody."""
    plan, directory, now_ns = runner.plan, runner.directory, wall_ns()
    return {
        "session": runner.session.key,
        "manifest": str(runner.manifest),
        "gateway_url": runner.gateway_url,
        "phase": plan.status.phase if plan is not None else "Starting",
        "business_date": plan.status.business_date if plan is not None else None,
        "clock": None
        if directory is None
        else {"now_ns": directory.clock.now_ns(now_ns), "speed": directory.clock.speed},
        "conditions": plan.status.conditions if plan is not None else (),
        "markets": plan.status.markets if plan is not None else (),
        "ingestors": plan.status.ingestors if plan is not None else None,
        "next_transition": plan.status.next_transition if plan is not None else None,
        "processes": {
            name: runner.processes.facts(name)
            | {"ready": runner.probes.ready(name), "waiting_for": runner.probes.waiting_for(name)}
            for name in runner.processes.names()
        },
    }


def _reply(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _refusal(status: int, code: str, detail: str) -> Response:
    return _reply({"type": "about:blank", "status": status, "code": code, "detail": detail}, status)
