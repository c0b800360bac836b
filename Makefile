# The commands of the house. `make` alone lists them.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
SESSION ?= k8s/samples/pregao.yaml
CODE := mybroker services tools tests bench
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up down status day test check lint lock bench clean runtime dev

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The system's Python runs the bootstrap; it answers in an instant when there is nothing to install.
runtime:
	@sh tools/bootstrap.sh runtime

dev:
	@sh tools/bootstrap.sh dev

up: runtime ## start the market (SESSION=file.yaml for another MarketSession) and stay until ctrl-C
	@exec $(BIN)/mybroker up $(SESSION)

down: runtime ## stop everything that `make up` started
	@exec $(BIN)/mybroker down

status: runtime ## processes, phases, sequence numbers, lag and engines, live
	@exec $(BIN)/mybroker status --watch

day: runtime ## one whole simulated day without a screen, then the audit
	@exec $(BIN)/mybroker day

# A failed check does not hide what the tests say.
test: dev ## everything: the checks, then every test; exactly what CI runs
	@code=0; \
	$(BIN)/python -m tools.check $(CODE) || code=1; \
	$(BIN)/python -m pytest $(PYTEST_ARGS) || code=1; \
	exit $$code

check: dev ## format, lint, types, walls, house rules, generated files
	@$(BIN)/python -m tools.check $(CODE)

lock: dev ## resolve the pins of requirements*.txt again from pyproject.toml
	@$(BIN)/python -m tools.lock

bench: dev ## measure; the figures go to docs/performance.md
	@$(BIN)/python -m bench

clean: ## remove caches (the days under .mybroker stay: `mybroker down --delete` removes those)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
