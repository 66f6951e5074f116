# One target per intention, the same on a laptop and in CI.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STUDIES := $(filter-out results/benchmarks,$(wildcard results/*))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow check format bench bench-peers results clean

demo: $(VENV)/.core  ## the imitation study at its quick size; prints the table and the report's path
	$(BIN)/steelyard study run imitation --preset quick

test: $(VENV)/.test  ## everything but the slow learning tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=40

test-slow: $(VENV)/.test  ## statistical learning tests, minutes each
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=false $(BIN)/python -m pytest -m slow --durations=20

check: $(VENV)/.test  ## style, types, layers, freshness of generated results and pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	for folder in $(STUDIES); do $(BIN)/python -m steelyard.reports --check $$folder || exit 1; done
	$(BIN)/python tools/fill_docs.py --check

format: $(VENV)/.test  ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.core  ## cost of an update, by network size and seeds together
	$(BIN)/python benchmarks/update_cost.py

bench-peers: $(VENV)/.test  ## beside other libraries, which it installs into peers/: half an hour
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python tools/fill_docs.py

results: $(VENV)/.test  ## make summaries and the tables in the docs again from raw scores
	for folder in $(STUDIES); do $(BIN)/python -m steelyard.reports $$folder || exit 1; done
	$(BIN)/python tools/fill_docs.py

clean:  ## remove the environment and caches; runs/ and results/ stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache src/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Steelyard into $(VENV) …"
	$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Steelyard and its test tools into $(VENV) …"
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.core
