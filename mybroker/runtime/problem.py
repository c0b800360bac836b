"""Problems: refusals and failures as they travel over HTTP (RFC 9457 problem+json).

`code` is stable and what programs look at; `detail` is for people. Raised by handlers, turned into answers by
`http.build_app`, and raised again on the other side by `HttpClient`, so a refusal keeps its code across services.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from mybroker.runtime.telemetry import current_trace

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer other than success. `extra` members appear beside the standard ones."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}" if detail else f"{status} {code}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        self.extra = extra

    def all_headers(self) -> dict[str, str]:
        """Headers of the answer, Retry-After included."""
        if self.retry_after_s is None:
            return self.headers
        return {"Retry-After": str(self.retry_after_s), **self.headers}

    def document(self, instance: str = "") -> dict[str, object]:
        """The members of the problem+json body."""
        trace = current_trace()
        members: dict[str, object] = {
            "type": f"urn:mybroker:problem:{self.code}",
            "title": _title(self.status),
            "status": self.status,
            "code": self.code,
        }
        if self.detail:
            members["detail"] = self.detail
        if instance:
            members["instance"] = instance
        if trace is not None:
            members["trace_id"] = trace.trace_id
        return members | self.extra


class Unavailable(Problem):
    """A target could not be reached, or its breaker is open: whether the call took effect is not known."""

    def __init__(self, target: str, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(503, "service_unavailable", detail, retry_after_s=retry_after_s, target=target)


def problem_from(status: int, body: bytes, retry_after: str | None) -> Problem:
    """Read another service's problem; a body that is none becomes code `http_<status>`."""
    try:
        members = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError:
        members = {}
    code, detail = members.get("code"), members.get("detail")
    known = {"type", "title", "status", "code", "detail", "instance", "trace_id"}
    extra = {name: value for name, value in members.items() if name not in known and name.isidentifier()}
    for taken in ("retry_after_s", "headers"):
        extra.pop(taken, None)
    wait_s = int(retry_after) if retry_after and retry_after.isdigit() else None
    return Problem(
        status,
        code if isinstance(code, str) else f"http_{status}",
        detail if isinstance(detail, str) else "",
        retry_after_s=wait_s,
        **extra,  # type: ignore[arg-type]  # the two typed names were taken out above
    )


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Problem"
