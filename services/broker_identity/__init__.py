"""Users, passwords and tokens of the broker."""
