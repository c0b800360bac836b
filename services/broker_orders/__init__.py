"""An order's life at the broker: checks, hold, route, follow, cancel, replace, reconcile."""
