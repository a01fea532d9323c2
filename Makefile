# `make demo` in a fresh clone needs python3 (3.11 or later) and a package index, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FLOOR ?= accuracy>=0.98
DEMO := runs/demo

.PHONY: help demo test test-quick lint format docs clean

help:
	@echo "make demo    compress LeNet-300-100 on MNIST; everything lies in $(DEMO)/ afterwards"
	@echo "make test    all tests"
	@echo "make lint    ruff, mypy, import-linter, the documentation"
	@echo "make format  let ruff put the code into shape"
	@echo "make docs    the documentation site, in site/"

# One stamp for what a run needs, one for what work on the code needs.
$(VENV)/.for-runs: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.for-work: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.for-runs

demo: $(VENV)/.for-runs
	$(BIN)/epigram compress lenet-300-100/mnist --out $(DEMO) --floor '$(FLOOR)'
	@echo
	@echo "Done. Open $(DEMO)/report/index.html in a browser; what else can be done with the file:"
	@echo "  $(BIN)/epigram inspect  $(DEMO)/model.epg"
	@echo "  $(BIN)/epigram evaluate $(DEMO)/model.epg --recipe lenet-300-100/mnist"

# Two workers, one thread each: torch's own threads would only get in each other's way.
test: $(VENV)/.for-work
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

test-quick: $(VENV)/.for-work
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow'

lint: $(VENV)/.for-work
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check --quiet src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

format: $(VENV)/.for-work
	$(BIN)/ruff check --fix --quiet src tests
	$(BIN)/ruff format --quiet src tests

docs: $(VENV)/.for-work
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
