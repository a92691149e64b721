# make demo       trains the default method on scikit-learn's digits and writes a report
# make test       runs the linters, the type checker, the import contracts and every test
# make test-fast  runs the tests that are not marked slow, of every room, in a few minutes
# make test-few   runs the demo for one epoch and a few tests, as on a second Python
# make coverage   runs every test and lists the lines of ltjax/ that no test reached
# make lint       runs only the linters, the type checker and the import contracts
# make docs       builds the documentation as a site in .site/; a warning is an error
# make audit      reads the advisories on what is pinned, which needs the network, and lists licenses
# make hashes     writes requirements-hashes.txt anew, from the pins
# make release-artifacts  exports the finished runs below RUNS to ARTIFACTS, with their hashes
# make core       runs the README's snippet in a new environment without extras
PYTHON ?= python3
# The environment of another Python, such as PYTHON=python3.13, is a folder of its own.
VENV := .venv$(if $(filter-out python python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
CORE := .venv-core
DEMO_DIR ?= runs/demo
AUDIT := .venv-audit
# Folders of workdirs, and of what is published of them.
RUNS ?= runs
ARTIFACTS ?= dist/artifacts
# HASHES=1 installs nothing whose SHA-256 is not in requirements-hashes.txt.
HASHES ?=
LICENSES = $(AUDIT)/bin/pip-licenses --python=$(BIN)/python --from=mixed --order=license
PYTEST = $(BIN)/python -m pytest -q -n 2 --dist worksteal
FEW := tests/test_init.py tests/whitening/test_methods.py tests/losses/test_logit_adjustment.py

.PHONY: demo test test-fast test-few coverage lint docs audit hashes release-artifacts core clean

demo: $(VENV)/.run
	$(BIN)/python -m ltjax.main --config digits_lt --workdir $(DEMO_DIR)

test: $(VENV)/.dev lint
	$(PYTEST)

test-fast: $(VENV)/.dev
	$(PYTEST) -m "not slow"

test-few: $(VENV)/.few
	$(BIN)/python -m pytest -q -m "not slow" $(FEW)
	rm -rf $(VENV)/demo
	$(BIN)/python -m ltjax.main --config digits_lt --config.train.epochs=1 \
		--workdir $(VENV)/demo

coverage: $(VENV)/.dev
	$(PYTEST) --cov=ltjax --cov-report=term-missing:skip-covered

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

audit: $(VENV)/.dev $(AUDIT)/.done
	$(LICENSES) --partial-match --fail-on="GPL;GNU" > /dev/null
	@# Some packages give the whole text of a license; the name is its first line.
	@$(LICENSES) | grep "^ \?[^ ]"
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-hashes.txt || { \
		echo "make audit: not every pin is known to be free of advisories; see above: an" \
		"advisory is listed there, or https://pypi.org/pypi could not be asked" >&2; exit 1; }

hashes: $(AUDIT)/.done
	$(AUDIT)/bin/uv pip compile -q --universal --python-version 3.11.5 --generate-hashes \
		--no-header --no-annotate --no-strip-extras -o requirements-hashes.txt requirements-dev.txt

release-artifacts: $(VENV)/.run
	$(BIN)/python -m experiments.artifacts --runs $(RUNS) --out $(ARTIFACTS)

core:
	$(PYTHON) -m venv --clear $(CORE)
	$(CORE)/bin/python -m pip install -q .
	$(CORE)/bin/python tests/project/core.py

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'ltjax needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt setup.cfg | $(VENV)/bin/python
	$(if $(HASHES),$(BIN)/python -m pip install -q --require-hashes -r requirements-hashes.txt)
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

# Only what a few tests need: the rest of requirements-dev.txt takes minutes.
$(VENV)/.few: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install -q -c requirements-dev.txt pytest pytest-timeout hypothesis
	touch $@

$(AUDIT)/.done: Makefile
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q pip-audit==2.10.1 pip-licenses==5.5.5 uv==0.13.9
	touch $@

clean:
	rm -rf .venv .venv-python* $(CORE) $(AUDIT) runs .site .coverage
