# What a person or CI does with this clone. Each target sets up what it needs first; set-up costs nothing when it is done.

.PHONY: help setup demo test sim replay sweep sweep-pairs model planted torture fuzz tempest crowd bench docs lock clean
.DEFAULT_GOAL := help

python := .venv/bin/python

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

setup: ## Debian packages, .venv, the tiny guest: whatever is missing
	@scripts/setup.sh

demo: setup ## attach volumes to two real guests, kill Kevel in the middle, watch it recover
	@$(python) -m kevel.cli.demo

test: setup ## everything that CI runs: lint, types, layers, tests
	@scripts/check.sh

sim: setup ## simulate SEEDS=500 seeds from FIRST=0: processes that die, messages that are lost, disks that fill up
	@$(python) -m tests.simulation $(or $(FIRST),0) $(or $(SEEDS),500)

replay: setup ## repeat SEED=N of the simulator exactly, and tell its story; SHRINK=1 leaves out what does not matter
	@$(python) -m tests.simulation $(SEED) $(if $(SHRINK),--shrink,--story)

sweep: setup ## every fault at every point of every operation; the table goes to docs/track-record.md
	@$(python) -m tests.sweep --write

sweep-pairs: setup ## every second fault in the recovery from each first one: hours; ONE_IN=100 plays a share
	@$(python) -m tests.sweep --depth 2 --write --one-in $(or $(ONE_IN),1)

model: setup ## check what concurrent users are told against the model, for SEEDS=200 seeds from FIRST=0
	@$(python) -m tests.model $(or $(FIRST),0) $(or $(SEEDS),200)

torture: setup ## kill a Kevel with real guests KILLS=1000 times under load, cut its power, fill its disk; take a census each time
	@$(python) -m tests.torture --kills $(or $(KILLS),1000) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

planted: setup ## plant protocol bugs one by one, and see that each is found: NAMES="..." JOBS=2 SEEDS_MAX=10000
	@$(python) -m tests.planted $(NAMES) --jobs $(or $(JOBS),2) --seeds-max $(or $(SEEDS_MAX),10000) $(if $(JSON),--json)

fuzz: setup ## made-up requests and made-up bytes for MINUTES=10; SEED=N repeats the requests of a run
	@$(python) -m tests.fuzz $(or $(MINUTES),10) $(or $(SEED),1)

tempest: setup ## judge by Tempest, unmodified: TESTS=volume (or volume-admin, compute-volumes, a regular expression)
	@$(python) -m tests.tempest $(or $(TESTS),volume)

crowd: setup ## USERS=200 at once ask at random for MINUTES=5: no 5xx, nothing refused that the rules allow, nothing left
	@$(python) -m tests.crowd --users $(or $(USERS),200) --minutes $(or $(MINUTES),5)

bench: setup ## measure attach and detach against bare libvirt, and the API with the simulated host
	@$(python) -m benchmarks

docs: setup ## draw the ladder in docs/ from its table in the code
	@$(python) scripts/draw_ladder.py

lock: setup ## lock requirements/*.txt anew from pyproject.toml; LOCK_FLAGS=--upgrade takes newer versions
	@scripts/lock.sh $(LOCK_FLAGS)

clean: ## remove what set-up and the tests made in this clone; Debian's packages stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis src/kevel.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
