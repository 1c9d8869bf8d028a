# The only entry point. `make` lists what it does. Needs Python 3.11 or newer and nothing else: the rest comes from the
# package index into .venv, every file checked against the hashes in requirements.lock.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# A new lock or another set of packages means another stamp, and so a new installation; otherwise nothing is done.
INSTALLED := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)
LOCAL := $(BIN)/python -m deploy.local

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "Variables of up: DETACH=1, HEARTH_PORT, HEARTH_HOST, HEARTH_HOME, HEARTH_LOCAL_MODEL=0 (see deploy/local/README.md)"

.PHONY: up
up: $(INSTALLED) ## Start everything and wait for Ctrl-C; with DETACH=1 return when it is ready
	@$(LOCAL) model
	@exec $(LOCAL) up

.PHONY: down
down: ## Stop everything; state is kept
	@if [ -x $(BIN)/python ]; then exec $(LOCAL) down; else echo "Hearth is not installed here, so it does not run"; fi

.PHONY: status
status: ## Show each process: address, health, restarts, memory
	@if [ -x $(BIN)/python ]; then exec $(LOCAL) status; else echo "Hearth is not installed here, so it does not run"; exit 1; fi

.PHONY: test
test: check browser mcp-server ## Run check and every other test, on the full real stack
	@HEARTH_LOCAL_MODEL=1 $(LOCAL) model
	$(BIN)/pytest -q -n 3 --dist worksteal tests/integration
	$(BIN)/pytest -q tests/contract tests/e2e tests/reliability

CHECKS := check-format check-lint check-types check-imports check-protos check-generated check-unit
.PHONY: check $(CHECKS)
check: $(INSTALLED) ## Run what needs no stack: format, lint, types, import contracts, protos, generated code, unit tests
	@$(MAKE) --no-print-directory --output-sync=target --keep-going -j2 $(CHECKS)

check-format: $(INSTALLED)
	$(BIN)/ruff format --check --quiet .
check-lint: $(INSTALLED)
	$(BIN)/ruff check --quiet .
check-types: $(INSTALLED)
	$(BIN)/basedpyright
check-imports: $(INSTALLED)
	$(BIN)/lint-imports --no-cache
# Compares with what the main branch holds, where there is one: a fresh copy without history has nothing to break.
check-protos: $(INSTALLED)
	$(BIN)/buf lint protos
	if git rev-parse --verify --quiet main:protos/buf.yaml >/dev/null; then \
		$(BIN)/buf breaking protos --against '.git#branch=main,subdir=protos'; fi
check-generated: $(INSTALLED)
	$(BIN)/python protos/generate.py --check
check-unit: $(INSTALLED)
	$(BIN)/pytest -q tests/unit

.PHONY: proto
proto: $(INSTALLED) ## Generate code, stubs, descriptors, docs/errors.md and docs/access.md from the protos
	$(BIN)/python protos/generate.py

.PHONY: bench
bench: $(INSTALLED) ## Measure turns on a stack of its own: CPU, latency, throughput
	$(BIN)/python -m bench.turn

# The page is tested in Debian's Chromium; without it those tests would have to be left out, so they fail instead.
.PHONY: browser
browser:
	@if command -v chromium >/dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else echo "The tests of the page need Chromium: install the package chromium (apt-get install chromium)" >&2; exit 1; fi

# One MCP server that others wrote, for the tests. Not in the lock of the project: it is neither shipped nor imported.
MCP_SERVER := @modelcontextprotocol/server-everything@2026.8.31
.PHONY: mcp-server
mcp-server: $(INSTALLED)
	@if ! command -v npm >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; \
		else echo "The tests of MCP need npm: install the packages nodejs and npm" >&2; exit 1; fi; fi
	@if [ "$$(cat $(VENV)/npm/.installed 2>/dev/null)" != "$(MCP_SERVER)" ]; then \
		echo "Installing $(MCP_SERVER) into $(VENV)/npm"; \
		mkdir -p $(VENV)/npm && rm -rf $(VENV)/npm/node_modules; \
		npm install --silent --prefix $(VENV)/npm --no-audit --no-fund --no-package-lock --ignore-scripts $(MCP_SERVER); \
		echo "$(MCP_SERVER)" > $(VENV)/npm/.installed; fi

$(INSTALLED):
	@if [ -z "$(PYTHON)" ]; then echo "Hearth needs Python 3.11 or newer" >&2; exit 1; fi
	@echo "Installing into $(VENV) (once per requirements.lock)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@
