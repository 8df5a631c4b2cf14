# Thin targets: each one is a command of the project's own that can be typed by hand.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

setup: $(VENV)/.stamp ## make the virtual environment with everything the project needs

# A bare Debian has python3 without ensurepip: then its own package is fetched first.
$(VENV)/.stamp: pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@echo "installing the project into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[proofs,dev]'
	@touch $@
