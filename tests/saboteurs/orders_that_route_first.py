"""broker_orders that lets an order go out before its hold: `python -m tests.saboteurs.orders_that_route_first`."""

from __future__ import annotations

from mybroker.runtime.lifecycle import run_service
from services.broker_orders.app import SERVICE, start
from services.broker_orders.intake import Intake
from services.broker_orders.lifecycle import Order

hold_and_route = Intake._hold_and_route


async def route_first(self: Intake, order: Order) -> Order:
    """Route, then do what is right: hold, and route again, which is a repeat."""
    await self._route(order)
    return await hold_and_route(self, order)


if __name__ == "__main__":
    Intake._hold_and_route = route_first  # type: ignore[method-assign]
    run_service(SERVICE, start)
