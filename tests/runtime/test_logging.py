"""Log lines are JSON with the bound ids, the trace, and no secret."""

import json
import logging as standard_logging
from collections.abc import Iterator

import pytest
import structlog

from mybroker.runtime import logging as runtime_logging
from mybroker.runtime.telemetry import tracing


@pytest.fixture
def configured() -> Iterator[None]:
    root = standard_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    runtime_logging.configure("orders", "local.pregao")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    runtime_logging._defaults.clear()


def test_a_line_carries_ids_and_trace_and_hides_secrets(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    with tracing(None) as trace, runtime_logging.bound(order_id="o1"):
        runtime_logging.get_logger().info(
            "order_routed",
            access_token="t0p",
            db="postgresql://u:t0p@h/d",
            headers={"Authorization": "t0p", "accept": "json"},
        )
    output = capsys.readouterr().out
    line = json.loads(output)
    assert line["event"] == "order_routed"
    assert (line["service"], line["session"], line["order_id"]) == ("orders", "local.pregao", "o1")
    assert (line["trace_id"], line["level"]) == (trace.trace_id, "info")
    assert line["headers"] == {"Authorization": "***", "accept": "json"}
    assert "t0p" not in output


def test_a_library_that_warns_comes_out_as_json(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    standard_logging.getLogger("some.library").warning("disk %s", "full")
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["library"], line["message"]) == ("library_warned", "some.library", "disk full")
