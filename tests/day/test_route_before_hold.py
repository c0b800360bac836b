"""An order that is routed before its hold shows, when broker_orders dies in between; held first, it does not.

The fault is a module of the tests' own around broker_orders, so that the point of death lies exactly between the two
steps. The clock is left paused in the opening call: what matters is what is held, not what trades.
"""

from __future__ import annotations

from functools import partial

import pytest

from mybroker.testing.day_manifest import short_day
from tests.day.session import DaySession, running_day

pytestmark = pytest.mark.day

DIES = {"MYBROKER_KILL_AT": "orders.routed:5"}
"""With the fault an order passes this point twice, before its hold and after: the fifth passing is before one."""
FAULT = {"broker/orders": "tests.saboteurs.orders_that_route_first"}
DEATHS = 3
HELD = "every order at the exchange was held for"


async def trade_while_orders_dies(day: DaySession) -> dict[str, str]:
    """Let clients trade until broker_orders died a few times, then audit; returns what is red."""
    await day.until_ready()
    async with day.clients(seed=3, clients=1, orders_per_second=6.0):
        await day.until(
            f"{DEATHS} deaths of broker/orders", lambda: day.restarts().get("broker/orders", 0) >= DEATHS, within_s=180
        )
    outcome = await day.prove()
    assert {check.name: check.compared for check in outcome.checks}[HELD] > 5
    print("red:", [check.first for check in outcome.checks if not check.ok])
    return {check.name: check.first[0] for check in outcome.checks if not check.ok}


@pytest.mark.parametrize("fault", [False, True], ids=["held first", "routed first"])
async def test_routing_before_holding_is_what_the_audit_finds(fault: bool):
    manifest = partial(short_day, speed=6, noise_traders=2)
    async with running_day(manifest, env={"broker/orders": DIES}, modules=FAULT if fault else {}) as day:
        red = await trade_while_orders_dies(day)
    if fault:
        assert "it is at the exchange, nothing was ever held for it" in red[HELD]
    else:
        assert red == {}
