"""A circuit breaker: stop asking a target that keeps failing, try again a little later.

Closed: calls pass; `failures_max` failures in a row open it. Open: calls are refused for `open_ms`. Half-open: up
to `probes_max` calls pass; one success closes it, one failure opens it again, and a probe whose outcome is never
told is forgotten after `open_ms`. Time comes in as an argument; nothing here waits. Not for use from several threads.
"""

from enum import IntEnum

from mybroker.runtime.telemetry import gauge

FAILURES_MAX = 5
OPEN_MS = 2_000
PROBES_MAX = 1

_STATE = gauge("mbb3_breaker_state", "0 closed, 1 half-open, 2 open", ["target"])


class BreakerState(IntEnum):
    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """One breaker for one target."""

    __slots__ = ("_failures", "_failures_max", "_open_ns", "_opened_at_ns", "_probes", "_probes_max", "state", "target")

    def __init__(
        self, target: str, *, failures_max: int = FAILURES_MAX, open_ms: int = OPEN_MS, probes_max: int = PROBES_MAX
    ) -> None:
        assert failures_max > 0 and open_ms > 0 and probes_max > 0, "expected limits above zero"
        self.target = target
        self.state = BreakerState.CLOSED
        self._failures_max = failures_max
        self._open_ns = open_ms * 1_000_000
        self._probes_max = probes_max
        self._failures = 0
        self._probes = 0
        self._opened_at_ns = 0
        _STATE.labels(target).set(self.state)

    def allows(self, now_ns: int) -> bool:
        """Say whether a call may go out now. Every call that goes out reports `succeeded` or `failed`."""
        if self.state is BreakerState.CLOSED:
            return True
        waited = now_ns - self._opened_at_ns >= self._open_ns
        if self.state is BreakerState.OPEN or (waited and self._probes >= self._probes_max):
            if not waited:
                return False
            self._opened_at_ns = now_ns
            self._probes = 0
            self._enter(BreakerState.HALF_OPEN)
        if self._probes >= self._probes_max:
            return False
        self._probes += 1
        return True

    def retry_after_ms(self, now_ns: int) -> int:
        """How long a refused caller should wait; at least 1."""
        return max(1, (self._opened_at_ns + self._open_ns - now_ns) // 1_000_000)

    def succeeded(self) -> None:
        """The target answered."""
        self._failures = 0
        self._enter(BreakerState.CLOSED)

    def failed(self, now_ns: int) -> None:
        """The target did not answer, or answered that it is unable to."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._failures_max:
            self._opened_at_ns = now_ns
            self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            _STATE.labels(self.target).set(state)
