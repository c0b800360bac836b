"""A local server that answers as brapi.dev does: bodies given by the test, small ones of our own in the same shape.

It counts requests and remembers the Authorization header of each, so that a test can say what went out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True, kw_only=True)
class Reply:
    """One answer; `delay_ms` makes it late."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_ms: int = 0


@dataclass(slots=True, kw_only=True)
class BrapiServer:
    """What the server answers by ticker, the last reply again and again; `asked` is what came in."""

    url: str
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, ticker: str, *replies: Reply) -> None:
        """Answer a ticker with these, in order."""
        self.replies[ticker] = list(replies)

    def take(self, ticker: str) -> Reply:
        """Return the next reply of a ticker; what was not arranged is not found."""
        waiting = self.replies.get(ticker)
        if not waiting:
            return Reply(status=404, body=error_body(f"Não encontramos a ação {ticker}"))
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


def quote_body(ticker: str, price: str, *, time: str = "2026-11-20T20:07:46.000Z", **more: Any) -> bytes:
    """Return an answer for one ticker in brapi.dev's shape; `price` and `more` go in as written."""
    fields = {"currency": "BRL", "symbol": ticker, "shortName": f"{ticker}  PN  N2", "regularMarketTime": time, **more}
    inside = json.dumps(fields)[:-1]
    return f'{{"results":[{inside},"regularMarketPrice":{price}}}],"requestedAt":"{time}","took":"8ms"}}'.encode()


def error_body(message: str, code: str | None = None) -> bytes:
    """Return an error in brapi.dev's first shape."""
    return json.dumps({"error": True, "message": message} | ({} if code is None else {"code": code})).encode()


@contextmanager
def brapi_server() -> Iterator[BrapiServer]:
    """Serve on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name the standard library calls
            ticker = urlsplit(self.path).path.rpartition("/")[2]
            known.asked.append((ticker, self.headers.get("Authorization")))
            reply = known.take(ticker)
            sleep(reply.delay_ms / 1_000)
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)
            except ConnectionError:
                return  # the client gave up waiting, as the test wanted

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known = BrapiServer(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
