"""The client against a server of our own: typed answers, problems, and servers that are no use."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from mybroker.cli.client import Client, Refused, Unreachable
from mybroker.cli.failure import Failure
from mybroker.cli.sessions import RunningSession
from mybroker.cli.signin import FILE_NAME, Login, current_login, log_in
from mybroker.contracts.http_feed import TradeList
from mybroker.local.session_folder import RunnerRecord, SessionFolder

Reply = tuple[int, dict[str, str], bytes]


class Served:
    """Answers by method and path, and what was asked."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, dict[str, str], Any]] = []


@contextmanager
def serving(replies: dict[str, Reply]) -> Iterator[tuple[str, Served]]:
    served = Served(replies)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.asked.append((f"{self.command} {self.path}", headers, body))
            status, extra, raw = served.replies[f"{self.command} {self.path}"]
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_answer_is_decoded_into_its_type_and_the_query_is_written():
    replies: dict[str, Reply] = {"GET /api/v1/trades/PETR4?limit=5": (200, {}, b'{"ticker": "PETR4", "trades": []}')}
    with serving(replies) as (url, served):
        found = Client(f"{url}/api/v1").get("/trades/PETR4", TradeList, {"limit": 5, "after": None})

    assert found == TradeList(ticker="PETR4", trades=())
    assert len(served.asked) == 1


def test_a_body_and_the_headers_are_sent():
    with serving({"PUT /orders/1": (200, {}, b"{}")}) as (url, served):
        Client(url).with_headers(Authorization="Bearer t").put("/orders/1", dict[str, Any], {"price": "30.05"})

    _, headers, body = served.asked[0]
    assert (headers["authorization"], headers["content-type"], body) == (
        "Bearer t",
        "application/json",
        {"price": "30.05"},
    )


@pytest.mark.parametrize(
    ("reply", "reason", "said"),
    [
        (
            (409, {}, b'{"code": "insufficient_funds", "detail": "expected 3,000.00, was 10.00"}'),
            "insufficient_funds",
            "expected 3,000.00, was 10.00 (insufficient_funds)",
        ),
        (
            (429, {"Retry-After": "3"}, b'{"code": "rate_limited", "detail": "slower"}'),
            "rate_limited",
            "slower (rate_limited; try again in 3 s)",
        ),
        ((404, {}, b'{"title": "Not found"}'), "http_404", "Not found (http_404)"),
        ((502, {}, b"<html>bad gateway</html>"), "http_502", "refused with status 502 (http_502)"),
    ],
)
def test_a_refusal_carries_its_code_and_reads_as_a_sentence(reply, reason, said):
    with serving({"DELETE /orders/1": reply}) as (url, _), pytest.raises(Refused) as refused:
        Client(url).delete("/orders/1", dict[str, Any])

    assert refused.value.reason == reason
    assert refused.value.format_message() == said
    assert refused.value.exit_code == 1


def test_an_answer_of_another_shape_is_told_as_such():
    with (
        serving({"GET /x": (200, {}, b'{"ticker": 1}')}) as (url, _),
        pytest.raises(Unreachable, match="does not know"),
    ):
        Client(url).get("/x", TradeList)


def test_nobody_there_is_told_with_the_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"http://127.0.0.1:{port} does not answer"):
        Client(f"http://127.0.0.1:{port}").get("/x", TradeList)


def test_somebody_who_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="did not answer within"):
            Client(url, timeout_s=0.05).get("/x", TradeList)


# -- who the commands act for ----------------------------------------------------------------------------------------


def a_pair(token: str, *, lives_s: int = 900) -> Reply:
    pair = {
        "access_token": token,
        "expires_in": lives_s,
        "refresh_token": f"refresh-{token}",
        "refresh_expires_in": 86_400,
        "scope": "read trade",
        "account": "acc",
    }
    return 200, {}, json.dumps(pair).encode()


def a_session(tmp_path, url: str) -> RunningSession:
    folder = SessionFolder(tmp_path, "local.pregao")
    folder.make()
    record = RunnerRecord(pid=1, started_ticks=1, session_key="local.pregao", manifest="", gateway_url=url)
    return RunningSession(folder=folder, record=record)


def test_without_a_login_the_demo_user_is_logged_in_once_and_the_token_is_its_owners_only(tmp_path):
    with serving({"POST /api/v1/auth/token": a_pair("one")}) as (url, served):
        session = a_session(tmp_path, url)
        first, second = current_login(session), current_login(session)

    assert first == second
    assert [body for _, _, body in served.asked] == [{"username": "demo", "password": "demo"}]
    kept = session.folder.path / FILE_NAME
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_token_that_ends_is_refreshed_and_the_new_pair_is_kept(tmp_path):
    replies = {
        "POST /api/v1/auth/token": a_pair("one", lives_s=1),
        "POST /api/v1/auth/refresh": a_pair("two"),
    }
    with serving(replies) as (url, served):
        session = a_session(tmp_path, url)
        log_in(session, "ana", "secret")
        login = current_login(session)

    assert (login.username, login.access_token) == ("ana", "two")
    assert served.asked[1][2] == {"refresh_token": "refresh-one"}
    assert msgspec.json.decode((session.folder.path / FILE_NAME).read_bytes(), type=Login) == login


def test_a_login_that_has_ended_asks_for_the_password_again(tmp_path):
    refused: Reply = (401, {}, b'{"code": "refresh_token_invalid", "detail": "used"}')
    with serving({"POST /api/v1/auth/token": a_pair("one", lives_s=1), "POST /api/v1/auth/refresh": refused}) as (
        url,
        _,
    ):
        session = a_session(tmp_path, url)
        log_in(session, "ana", "secret")
        with pytest.raises(Failure, match="mybroker login ana"):
            current_login(session)


def test_a_session_without_an_address_is_starting(tmp_path):
    with pytest.raises(Failure, match="is starting"):
        current_login(a_session(tmp_path, ""))
