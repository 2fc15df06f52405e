# Everything a newcomer or a machine runs. Each target creates the virtual environment that it needs.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/installed
SOURCES := attngraph grammar compiler tests benchmarks docs

# One thread per test worker: on two cores torch's own threads only get in each other's way.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint types examples docs bench performance growth sweep clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv and install attngraph with the pinned packages

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attngraph needs Python 3.11 or later, and '$(PYTHON)' is not that; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "==> virtual environment in $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "==> pinned packages (torch is the large one)"
	$(PY) -m pip install --constraint constraints.txt setuptools
	$(PY) -m pip install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## the guided tour: formulas checked, compiled, trained on digits, drawn
	$(PY) -m benchmarks.demo

test: $(STAMP)  ## all tests, on two workers
	$(PY) -m pytest -n 2 --dist worksteal

check: lint types examples test docs  ## what CI runs

lint: $(STAMP)  ## ruff
	$(PY) -m ruff check $(SOURCES)

types: $(STAMP)  ## mypy, strict
	$(PY) -m mypy

examples: $(STAMP)  ## the example formulas: claims hold, canonical layout
	$(VENV)/bin/attngraph check examples
	$(VENV)/bin/attngraph fmt --check examples

docs: $(STAMP)  ## the documentation, into site/
	$(PY) -m mkdocs build --strict

bench: $(STAMP)  ## speed and memory against the named baselines
	$(PY) -m benchmarks

performance: $(STAMP)  ## measure, and put the tables and the picture into docs/performance.md; wants a quiet machine
	$(PY) -m benchmarks --lengths 256,1024,2048 --threads 1 --seconds 0.2 --large --page docs/performance.md

growth: $(STAMP)  ## time and memory of every example at N, 2N, 4N, 8N, into docs/growth.md; wants a quiet machine
	$(PY) -m benchmarks.growth --page docs/growth.md

sweep: $(STAMP)  ## every example on every target; about an hour
	$(PY) -m tests.targets.sweep
	$(PY) -m tests.targets.sweep --table

clean:  ## remove what is built; the virtual environment stays
	rm -rf build dist site out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
