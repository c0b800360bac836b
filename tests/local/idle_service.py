"""A stand-in for a service the runner's tests do not need: it answers /readyz and ends when it is asked to.

Standard library only, so that a dozen of them start at once.
"""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answers(BaseHTTPRequestHandler):
    """Says yes to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ready": true, "waiting_for": []}')

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(0))
    HTTPServer(("127.0.0.1", int(os.environ["MYBROKER_HTTP_PORT"])), Answers).serve_forever()
