# Thin targets: each one is a command of the project's own that can be typed by hand.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
comma := ,

.PHONY: help setup lint test test-quick test-lab test-long bench demo browser lab-ready lab-up lab-down lab-shell
.PHONY: deploy verify rollback restore preflight uninstall history prove soak diagnose

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

setup: $(VENV)/.stamp ## make the virtual environment with everything the project needs

# A bare Debian has python3 without ensurepip: then its own package is fetched first. The wheels that hosts need are
# fetched here as well, so that a deployment needs no internet on this side either.
$(VENV)/.stamp: pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@echo "installing the project into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[proofs,dev]'
	@echo "building the releases"
	@out=$$($(BIN)/ansible-playbook playbooks/build.yml 2>&1) || { echo "$$out"; exit 1; }
	@touch $@

# What is measured and tested -----------------------------------------------------------------------------------------

lint: setup ## ruff, mypy --strict, yamllint, ansible-lint (production)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline

test: lint test-quick test-lab ## everything: lint, then the quick tests, then those that need a lab

# They wait more than they work, so more of them than cores run side by side. The report is looked at in a browser.
test-quick: setup browser ## the tests that need neither root nor a lab
	$(BIN)/pytest -m 'not lab' -n 4

# A file's tests share one host. The root file system is built before several workers want it at the same time.
test-lab: setup lab-ready ## the tests that need a disposable NUC (root)
	$(BIN)/pytest -m 'lab and not long' -n 4 --dist loadfile

# ONLY='stall and host' takes a part of it (pytest -k), PROOF_SEED=N draws again what a run drew that printed it.
test-long: setup lab-ready ## kill every proof, who waits for it and its host at every step: hours (ONLY=, PROOF_SEED=)
	$(BIN)/pytest -m long -n 4 -v $(if $(ONLY),-k '$(ONLY)')

browser:
	@command -v chromium >/dev/null || { echo "installing chromium, to look at the report in"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  command -v chromium >/dev/null || { \
	  echo "make: no chromium, and apt-get did not bring it: install it as root, the tests look at the report" >&2; exit 1; }; }

bench: setup .venv-bench/.stamp ## start, memory and throughput, beside a bare interpreter, a bare loop and cryptofeed
	$(BIN)/python -m tests.benchmarks.bench

# A peer, not a dependency: it has a virtual environment of its own.
.venv-bench/.stamp:
	@echo "installing cryptofeed 2.4.1, to run beside"
	@python3 -m venv .venv-bench && .venv-bench/bin/pip install -q --disable-pip-version-check cryptofeed==2.4.1 uvloop
	@touch $@

demo: setup ## engine and mock exchange on loopback, a live line of counters; Ctrl-C ends it
	@$(BIN)/python -m proofs.demo

# A disposable NUC ----------------------------------------------------------------------------------------------------

# LAB=name chooses one of several, LAB_SUITE=bookworm|trixie what it runs. Ansible holds back what a command
# prints until it is done, so the minute it takes to build a root file system is told past it.
LAB_PLAY = HYBRID_LAB_PROGRESS=/proc/$$$$/fd/2 $(BIN)/ansible-playbook playbooks/lab_up.yml

lab-ready: setup ## install and build what labs need, once
	@$(LAB_PLAY) -e lab_nuc_state=ready

lab-up: setup ## boot a disposable NUC (LAB=name LAB_SUITE=bookworm|trixie)
	@$(LAB_PLAY)

lab-down: setup ## remove it, with its processes, mounts and files (LAB=name)
	@$(BIN)/ansible-playbook playbooks/lab_down.yml

lab-shell: ## log in to it as its operator, who may sudo (LAB=name)
	@python3 roles/lab_nuc/files/lab.py shell

# A host --------------------------------------------------------------------------------------------------------------

# INVENTORY=inventory/yours (without it: the lab), CHECK=1 only says what it would do, ARGS="-e engine_sample_every=5".
PLAY = $(BIN)/ansible-playbook $(INVENTORY:%=-i %) $(if $(CHECK),--check --diff) $(ARGS)

deploy: setup ## deploy: the new runs beside the old first, and replaces it once it is well
	@$(PLAY) playbooks/deploy.yml

verify: setup ## assert that what is deployed is in force, by what runs there
	@$(PLAY) playbooks/verify.yml

rollback: setup ## take a drop-in out, or go back to a release (DROPIN=40-hardening, RELEASE=previous)
	@$(PLAY) $(DROPIN:%=-e dropin=%) $(RELEASE:%=-e release=%) playbooks/rollback.yml

restore: setup ## bring a drop-in back that was rolled back, byte for byte (DROPIN=40-hardening)
	@$(PLAY) $(DROPIN:%=-e dropin=%) playbooks/restore.yml

preflight: setup ## say whether the host is ready to be deployed to, or every reason why not
	@$(PLAY) playbooks/preflight.yml

# DATA=absent DATA_OF=nuc1 deletes that host's data as well, for ever.
uninstall: setup ## take everything off the host but its data
	@$(PLAY) $(DATA:%=-e engine_data=%) $(DATA_OF:%=-e engine_data_of=%) playbooks/uninstall.yml

history: setup ## what was ever done to the host, when, by whom and how it ended (OUT=history.json: for machines as well)
	@$(PLAY) $(OUT:%=-e out=%) playbooks/history.yml

diagnose: setup ## everything to look at when something is wrong with a host, as one file (about 20 s)
	@$(PLAY) playbooks/diagnose.yml

# Without INVENTORY a disposable NUC is booted and deployed to first; a host of yours is proven as it was deployed.
# All of them, or PROOF=exit12,stall names some. The evidence goes to evidence/HOST/RUN/.
SOME = $(if $(PROOF),-e '{"proof_names": ["$(subst $(comma),"$(comma) ",$(PROOF))"]}')

prove: setup ## boot a disposable NUC, deploy, prove, print the verdicts (INVENTORY=... for your own host, PROOF=a,b)
ifeq ($(INVENTORY),)
	@$(LAB_PLAY) playbooks/deploy.yml playbooks/prove.yml $(SOME)
	@echo "the lab stays up: 'make lab-shell' looks around in it, 'make lab-down' removes it"
else
	@$(BIN)/ansible-playbook -i $(INVENTORY) playbooks/prove.yml $(SOME)
endif

soak: setup ## watch the engine at work for two hours (INVENTORY=... for your own host, ARGS="-e soak_seconds=600")
ifeq ($(INVENTORY),)
	@$(LAB_PLAY) playbooks/deploy.yml playbooks/soak.yml $(ARGS)
	@echo "the lab stays up: 'make lab-shell' looks around in it, 'make lab-down' removes it"
else
	@$(BIN)/ansible-playbook -i $(INVENTORY) playbooks/soak.yml $(ARGS)
endif
