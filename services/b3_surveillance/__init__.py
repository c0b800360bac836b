"""The exchange's supervisor: one per session, its hand is the command log."""
