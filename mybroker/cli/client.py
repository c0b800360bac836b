"""A small HTTP client for the commands: typed answers, problems as one exception, nothing slow to import.

One connection a call, synchronous. A refusal carries the problem's stable code; whoever does not answer is
`Unreachable`. Bodies are read to ANSWER_BYTES_MAX.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from mybroker.cli.failure import Failure

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 << 20

Answer = TypeVar("Answer")


class Refused(Failure):
    """The other side answered and said no."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> None:
        """Keep the problem's parts; the sentence is its detail and its code."""
        later = f"; try again in {retry_after_s} s" if retry_after_s is not None else ""
        super().__init__(f"{detail} ({code}{later})", status=status, reason=code, detail=detail)
        self.status = status
        self.reason = code
        self.detail = detail


class Unreachable(Failure):
    """Nobody answered, or what answered is not what we speak with."""


class Client:
    """Calls one base URL, with the headers it was given."""

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Keep the address; connections are made a call at a time."""
        parts = urlsplit(base_url)
        assert parts.scheme in ("http", "https"), f"expected http(s)://host:port, was {base_url!r}"
        self.base_url = base_url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s

    def with_headers(self, **headers: str) -> Client:
        """Return a client that also sends these."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client(self.base_url, headers=self._headers | named, timeout_s=self._timeout_s)

    def get(self, path: str, answer: type[Answer], query: Mapping[str, object] | None = None) -> Answer:
        """GET, and decode the answer; raises Refused or Unreachable."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path + (f"?{urlencode(given)}" if given else ""), answer, None)

    def post(self, path: str, answer: type[Answer], body: object = None) -> Answer:
        """POST a JSON body, and decode the answer."""
        return self._call("POST", path, answer, body)

    def put(self, path: str, answer: type[Answer], body: object) -> Answer:
        """PUT a JSON body, and decode the answer."""
        return self._call("PUT", path, answer, body)

    def delete(self, path: str, answer: type[Answer]) -> Answer:
        """DELETE, and decode the answer."""
        return self._call("DELETE", path, answer, None)

    def _call(self, method: str, path: str, answer: type[Answer], body: object) -> Answer:
        status, headers, raw = self._exchange(method, path, body)
        if status >= 400:
            raise _refusal(status, headers, raw)
        try:
            return msgspec.json.decode(raw or b"null", type=answer)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"{self.base_url}{path} answered what this client does not know: {error}") from error

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, Mapping[str, str], bytes]:
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout_s)
        headers = {"Accept": "application/json", **self._headers}
        payload = None
        if body is not None:
            payload = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._prefix + path, payload, headers)
            response = connection.getresponse()
            raw = response.read(ANSWER_BYTES_MAX)
            return response.status, {name.lower(): value for name, value in response.getheaders()}, raw
        except TimeoutError as error:
            raise Unreachable(f"{self.base_url} did not answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.base_url} does not answer: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()


def _refusal(status: int, headers: Mapping[str, str], raw: bytes) -> Refused:
    try:
        problem: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    retry = headers.get("retry-after", "")
    return Refused(
        status,
        str(problem.get("code") or f"http_{status}"),
        str(problem.get("detail") or problem.get("title") or f"refused with status {status}"),
        retry_after_s=int(retry) if retry.isdigit() else None,
    )
