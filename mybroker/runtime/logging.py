"""Logs are events: one JSON object a line on stdout, ids bound once, secrets never written.

`configure` is called once per process by `lifecycle.run_service`. Event names are snake_case and past tense.
A field whose name says that it is a secret is replaced, and passwords inside URLs are blanked; that is a net, not
a licence: do not log secrets. Warnings of libraries that log through the standard module come out the same way.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from mybroker.runtime.settings import hide_password
from mybroker.runtime.telemetry import current_trace

_SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie", "api_key", "private_key")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

EventDict = MutableMapping[str, Any]
Log = structlog.typing.FilteringBoundLogger


def configure(service: str, session: str, *, level: str = "info") -> None:
    """Send this process's logs to stdout as JSON with `service` and `session` on every line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, session=session)
    _defaults.update(service=service, session=session)
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(logging.WARNING)


def get_logger() -> Log:
    """The process's logger."""
    logger: Log = structlog.get_logger()
    return logger


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Bind ids to every event logged inside the block, tasks started there included."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


_defaults: dict[str, str] = {}


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name, value in _defaults.items():  # other threads start with an empty context
        event.setdefault(name, value)
    trace = current_trace()
    if trace is not None:
        event.setdefault("trace_id", trace.trace_id)
        event.setdefault("span_id", trace.span_id)
    return event


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace values whose field name says secret, and passwords inside URLs, one level of mappings deep."""
    for name, value in event.items():
        event[name] = _redacted(name, value)
        if isinstance(value, dict):
            event[name] = {key: _redacted(str(key), inner) for key, inner in value.items()}
    return event


def _redacted(name: str, value: object) -> object:
    if any(word in name.lower() for word in _SECRET_WORDS) and not isinstance(value, bool | int):
        return "***"
    if isinstance(value, str) and "://" in value:
        return hide_password(value)
    return value


class _Lines:
    """Writes each line whole, also from several threads at once."""

    def msg(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    debug = info = warning = error = critical = exception = msg


class _LibraryHandler(logging.Handler):
    """Hands records of the standard logging module to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        level = "error" if record.levelno >= logging.ERROR else "warning"
        log = structlog.get_logger()
        getattr(log, level)("library_warned", library=record.name, message=record.getMessage(), exc_info=exc_info)
