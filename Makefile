# Each target is a thin wrapper around a command that can be typed by hand.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
comma := ,
# Where it is set, every process of a test compiles the product anew: a quarter of the tests' time.
unexport PYTHONDONTWRITEBYTECODE
# Debian's own interpreter where it is new enough: hosts have it as well, and it is a third quicker than one that a
# version manager has built. PYTHON=/path chooses another.
PYTHON ?= $(or $(shell for python in /usr/bin/python3 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)

.PHONY: help setup lint test test-quick test-lab test-long mutation bench demo browser lab-ready lab-up lab-down lab-shell
.PHONY: lock deploy verify rollback restore preflight trust uninstall history prove fetch soak diagnose

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

setup: $(VENV)/.stamp ## create the virtual environment with everything the project needs

# A bare Debian has python3 without ensurepip: then its own package is fetched first. The wheels that hosts need are
# fetched here as well, so that a deployment needs no internet on this side either.
$(VENV)/.stamp: pyproject.toml $(wildcard requirements/*.lock)
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the project into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[proofs,dev]'
	@echo "building the releases"
	@out=$$($(BIN)/ansible-playbook playbooks/build.yml 2>&1) || { echo "$$out"; exit 1; }
	@touch $@

lock: setup ## write the hashes of the wheels that hosts get, after a version in pyproject.toml changed (needs internet)
	$(BIN)/ansible-playbook playbooks/lock.yml --diff

# Tests and measurements ----------------------------------------------------------------------------------------------

# An inventory of yours is no part of the project, and not linted.
LINTED = $(filter-out $(filter-out inventory/lab inventory/nuc,$(wildcard inventory/*)),$(wildcard playbooks roles plugins inventory/*))

lint: setup ## run ruff, mypy --strict, yamllint, ansible-lint (production)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline $(LINTED)

# Lint leaves a core idle, so the quick tests begin beside it.
test: setup ## run everything: lint, the quick tests, the lab tests
	@$(MAKE) --no-print-directory -j2 lint test-quick
	@$(MAKE) --no-print-directory test-lab

# The tests wait more than they compute, so more of them than cores run in parallel. Some open the report in a browser.
test-quick: setup browser ## run the tests that need neither root nor a lab
	$(BIN)/pytest --ignore=tests/lab -n 6 --dist worksteal

# The tests of a file share one lab, and the longest file begins first. The root file system is built before several
# workers need it at once.
test-lab: setup lab-ready ## run the tests that need a disposable host (root)
	$(BIN)/pytest tests/lab -n 5 --dist loadfile --no-loadscope-reorder

# ONLY='stall and host' selects tests (pytest -k). PROOF_SEED=N repeats the random choices of a run that printed N.
test-long: setup lab-ready ## kill each proof, its controller and its host at every step: hours (ONLY=, PROOF_SEED=)
	$(BIN)/pytest tests/lab tests/mutations -m long -n 4 -v $(if $(ONLY),-k '$(ONLY)')

# NAMES=a,b or ONLY=WATCHDOG select faults, DETECTORS=mirror,promise what looks, SEED=7 TENTH=1 a random tenth; goes on
# where it was ended. RESULTS=file.jsonl; `python -m tests.mutations --help` explains.
mutation: setup lab-ready ## put each fault of a table into the product, and see what catches it (hours, root)
	$(BIN)/python -m tests.mutations $(NAMES:%=--names %) $(if $(ONLY),--only '$(ONLY)') $(if $(TENTH),--tenth) \
	  $(SEED:%=--seed %) $(DETECTORS:%=--detectors %) $(RESULTS:%=--results %)

browser:
	@command -v chromium >/dev/null || { echo "installing chromium, to test the report in a browser"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  command -v chromium >/dev/null || { \
	  echo "make: no chromium, and apt-get did not bring it: install it as root, the tests look at the report" >&2; exit 1; }; }

bench: setup .venv-bench/.stamp ## measure start, memory and throughput, compared with a bare interpreter, a bare loop and cryptofeed
	$(BIN)/python -m tests.benchmarks.bench

# For comparison, not a dependency: it has its own virtual environment.
.venv-bench/.stamp:
	@echo "installing cryptofeed 2.4.1, to compare with"
	@$(PYTHON) -m venv .venv-bench && .venv-bench/bin/pip install -q --disable-pip-version-check cryptofeed==2.4.1 uvloop
	@touch $@

demo: setup ## run engine and mock exchange on loopback with a live line of counters; Ctrl-C ends it
	@$(BIN)/python -m proofs.demo

# A disposable NUC ----------------------------------------------------------------------------------------------------

# LAB=name chooses one of several labs, LAB_SUITE=bookworm|trixie its Debian release. Ansible shows a command's output
# only at its end, so the progress of building a root file system is written to the terminal directly.
LAB_PLAY = HYBRID_LAB_PROGRESS=/proc/$$$$/fd/2 $(BIN)/ansible-playbook playbooks/lab_up.yml

lab-ready: setup ## install the packages and build the root file system of labs, once
	@$(LAB_PLAY) -e lab_nuc_state=ready

lab-up: setup ## boot a disposable host (LAB=name LAB_SUITE=bookworm|trixie)
	@$(LAB_PLAY)

lab-down: setup ## remove the lab with its processes, mounts and files (LAB=name)
	@$(BIN)/ansible-playbook playbooks/lab_down.yml

lab-shell: ## log in to the lab as its operator, who may sudo (LAB=name)
	@python3 roles/lab_nuc/files/lab.py shell

# A host --------------------------------------------------------------------------------------------------------------

# INVENTORY=inventory/yours (default: the lab), CHECK=1 only shows the changes, ARGS="-e engine_sample_every=5".
PLAY = $(BIN)/ansible-playbook $(INVENTORY:%=-i %) $(if $(CHECK),--check --diff) $(ARGS)

deploy: setup ## deploy; the new engine first runs beside the old one, and replaces it once it is healthy
	@$(PLAY) playbooks/deploy.yml

verify: setup ## assert that the host and the running engine are as deployed
	@$(PLAY) playbooks/verify.yml

rollback: setup ## roll back a drop-in or the release (DROPIN=40-hardening, RELEASE=previous)
	@$(PLAY) $(DROPIN:%=-e dropin=%) $(RELEASE:%=-e release=%) playbooks/rollback.yml

restore: setup ## restore a rolled-back drop-in, byte for byte (DROPIN=40-hardening)
	@$(PLAY) $(DROPIN:%=-e dropin=%) playbooks/restore.yml

preflight: setup ## check whether the host can be deployed to, and list every reason why not
	@$(PLAY) playbooks/preflight.yml

trust: setup ## bring a signed proof to where LIVE's gate looks for it (RUN=evidence/HOST/RUN)
	@$(PLAY) $(RUN:%=-e proof=%) playbooks/trust.yml

# DATA=absent DATA_OF=nuc1 also deletes that host's data, for ever.
uninstall: setup ## uninstall everything but the data (DATA=absent DATA_OF=host: also the data)
	@$(PLAY) $(DATA:%=-e engine_data=%) $(DATA_OF:%=-e engine_data_of=%) playbooks/uninstall.yml

history: setup ## show all deployments: when, by whom, how they ended (OUT=history.json: also as JSON)
	@$(PLAY) $(OUT:%=-e out=%) playbooks/history.yml

diagnose: setup ## collect what is needed to find a fault into one file (about 20 s)
	@$(PLAY) playbooks/diagnose.yml

# Without INVENTORY a disposable host is booted and deployed to first; your own host is proven as it was deployed.
# All proofs, or those in PROOF=exit12,stall. The evidence is written to evidence/HOST/RUN/.
SOME = $(if $(PROOF),-e '{"proof_names": ["$(subst $(comma),"$(comma) ",$(PROOF))"]}')

prove: setup ## run the proofs on a disposable host and print the verdicts (INVENTORY=... for your own host, PROOF=a,b)
ifeq ($(INVENTORY),)
	@$(LAB_PLAY)
	@$(PLAY) playbooks/deploy.yml playbooks/prove.yml $(SOME)
	@echo "the lab stays up: 'make lab-shell' logs in to it, 'make lab-down' removes it"
else
	@$(PLAY) playbooks/prove.yml $(SOME)
endif

fetch: setup ## list the runs of proofs and soaks on the host, or bring one home (RUN=id)
	@$(PLAY) $(RUN:%=-e run=%) playbooks/fetch.yml

soak: setup ## watch the engine for two hours (INVENTORY=... for your own host, ARGS="-e soak_seconds=600")
ifeq ($(INVENTORY),)
	@$(LAB_PLAY)
	@$(PLAY) playbooks/deploy.yml playbooks/soak.yml
	@echo "the lab stays up: 'make lab-shell' logs in to it, 'make lab-down' removes it"
else
	@$(PLAY) playbooks/soak.yml
endif
