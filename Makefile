# The two commands of this project, and what a developer needs besides.
# `make demo` and `make check` set everything up by themselves.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: help demo check lint types test scenarios outage e2e kernels clean

help:
	@echo "make demo    run a whole mesh on this machine and watch it at http://localhost:8080"
	@echo "make check   lint, types and all tests, as CI runs them"
	@echo "make lint | types | test | e2e   one part of 'make check'"
	@echo "make kernels   build the native kernels into $(VENV), where cargo is; then tests run over both"
	@echo "make scenarios   every scenario on 20 seeds in virtual time (hours); SEEDS=1..3 for fewer"
	@echo "make outage   two controllers, real nodes and media, and a NATS server that is away for a minute"
	@echo "make clean   remove the virtual environment and caches"

# One stamp for each set of extras, renewed when the package's metadata changes.
$(VENV)/client.stamp: pyproject.toml scripts/venv.sh
	@sh scripts/venv.sh "$(PYTHON)" "$(VENV)" client

$(VENV)/dev.stamp: pyproject.toml scripts/venv.sh
	@sh scripts/venv.sh "$(PYTHON)" "$(VENV)" dev

demo: $(VENV)/client.stamp
	@$(BIN)/relaymesh demo $(ARGS)

check: lint types test e2e

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

# Everything in virtual time or without time: on all cores at once.
test: $(VENV)/dev.stamp
	$(BIN)/pytest -n auto --dist loadfile -q --ignore=tests/e2e --ignore=tests/netsim/emulate --ignore=tests/client $(ARGS)

# Optional: the references do the same. Two minutes at first, so no part of `make check`.
kernels: $(VENV)/client.stamp
	@sh scripts/kernels.sh "$(VENV)"

# All that simulations/ promises. The table of docs/results is made by this.
SEEDS ?= 1..20
scenarios: $(VENV)/dev.stamp
	@mkdir -p build
	$(BIN)/relaymesh simulate simulations --seeds $(SEEDS) --summary build/scenarios.md $(ARGS)

# What `make e2e` does in seconds, for as long as an outage may last.
outage: $(VENV)/dev.stamp
	@sh scripts/nats.sh "$(VENV)"
	RELAYMESH_OUTAGE_S=60 $(BIN)/pytest tests/e2e/test_controllers.py -k store $(ARGS)

# Everything in real time, one after the other: real encoders and decoders, emulated networks, whole meshes of
# real processes, several controllers where there is a nats-server, and real
# browsers where there is a Chromium. Participants, which mostly wait, two at a time (5: ARGS leave none of them).
e2e: $(VENV)/dev.stamp
	@sh scripts/browser.sh
	@sh scripts/nats.sh "$(VENV)"
	$(BIN)/pytest tests/client -n 2 --dist worksteal $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/pytest tests/netsim/emulate tests/e2e $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist native/target
