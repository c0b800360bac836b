"""The breaker as a table: what happens, when, and what state it is in afterwards."""

import pytest

from mybroker.runtime.breaker import Breaker, BreakerState

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN

ask, ok, bad = "ask", "ok", "bad"
CASES = {
    "it stays closed below the limit": [(0, bad, None, CLOSED), (0, bad, None, CLOSED), (0, ask, True, CLOSED)],
    "a success starts the count again": [
        (0, bad, None, CLOSED),
        (0, bad, None, CLOSED),
        (0, ok, None, CLOSED),
        (0, bad, None, CLOSED),
        (0, bad, None, CLOSED),
        (0, ask, True, CLOSED),
    ],
    "three failures open it": [
        (0, bad, None, CLOSED),
        (0, bad, None, CLOSED),
        (0, bad, None, OPEN),
        (99, ask, False, OPEN),
    ],
    "after the wait one probe passes and its success closes it": [
        *[(0, bad, None, state) for state in (CLOSED, CLOSED, OPEN)],
        (100, ask, True, HALF_OPEN),
        (101, ask, False, HALF_OPEN),
        (102, ok, None, CLOSED),
        (103, ask, True, CLOSED),
    ],
    "a probe that fails opens it for the whole wait again": [
        *[(0, bad, None, state) for state in (CLOSED, CLOSED, OPEN)],
        (150, ask, True, HALF_OPEN),
        (160, bad, None, OPEN),
        (259, ask, False, OPEN),
        (260, ask, True, HALF_OPEN),
    ],
    "a probe that is never told of is forgotten": [
        *[(0, bad, None, state) for state in (CLOSED, CLOSED, OPEN)],
        (100, ask, True, HALF_OPEN),
        (199, ask, False, HALF_OPEN),
        (200, ask, True, HALF_OPEN),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_the_breaker_follows_its_table(case: str) -> None:
    breaker = Breaker("target", failures_max=3, open_ms=100)
    for step, (at_ms, what, expected, state) in enumerate(CASES[case]):
        now_ns = at_ms * 1_000_000
        if what == ask:
            assert breaker.allows(now_ns) is expected, f"step {step}"
        elif what == ok:
            breaker.succeeded()
        else:
            breaker.failed(now_ns)
        assert breaker.state is state, f"step {step}"


def test_a_refused_caller_is_told_how_long_to_wait() -> None:
    breaker = Breaker("target", failures_max=1, open_ms=100)
    breaker.failed(0)
    assert breaker.retry_after_ms(40_000_000) == 60
    assert breaker.retry_after_ms(400_000_000) == 1
