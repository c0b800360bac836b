"""House rules that no ready linter knows; `python -m tools.house` runs them all."""
