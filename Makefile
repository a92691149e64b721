# make demo       trains the default method on scikit-learn's digits and writes a report
# make test       runs the linters, the type checker, the import contracts and every test
# make test-fast  runs the tests that are not marked slow, of every room, in under a minute
# make coverage   runs every test and lists the lines of ltjax/ that no test reached
# make lint       runs only the linters, the type checker and the import contracts
# make docs       builds the documentation as a site in .site/; a warning is an error
# make core       runs the README's snippet in a new environment without extras
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
