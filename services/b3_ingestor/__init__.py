"""Prices from outside: a planner that says what is due, fetchers that get it, one `Quote` whatever the source."""
