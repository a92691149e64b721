# make demo       trains the default method on the digits of scikit-learn and writes a report
# make test       linters, type checker, order of imports, and every test
# make test-fast  the tests that neither train nor start processes: under a minute
# make coverage   every test, then the lines of ltjax/ that none of them reached
# make lint       linters, type checker and order of imports alone
# make docs       the documentation as a site in .site/, strictly
# make core       a fresh environment without extras, in which the README's snippet must run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := .venv-core
DEMO_DIR ?= runs/demo
PYTEST = $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: demo test test-fast coverage lint docs core clean

demo: $(VENV)/.run
	$(BIN)/python -m ltjax.main --config configs/digits_lt.py --workdir $(DEMO_DIR)

test: $(VENV)/.dev lint
	$(PYTEST)

test-fast: $(VENV)/.dev
	$(PYTEST) -m "not slow"

coverage: $(VENV)/.dev
	$(PYTEST) --cov=ltjax --cov-report=term-missing:skip-covered

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

core:
	$(PYTHON) -m venv --clear $(CORE)
	$(CORE)/bin/python -m pip install -q .
	$(CORE)/bin/python tests/project/core.py

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'ltjax needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) $(CORE) runs .site .coverage
