# `make repro`: from a fresh clone to trained, compared and registered models. `make test`: lint and all tests.
# Needs Python 3.11 or newer, make and git; everything else goes into .venv. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where pip finds packages is for its own configuration to say.
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What pip does by itself on one core. Files that are templates for Python do not compile, and need not.
COMPILE = @$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# Options of pytest, such as `make test TESTS="-m 'not slow'"` or `make test TESTS=tests/test_audio.py`.
TESTS ?=
# How long `make fuzz` looks for input that breaks something.
MINUTES ?= 10
# Seconds after which a test has hung: it fails, and the stacks of all threads are shown.
LIMIT ?= 900

.DEFAULT_GOAL := help
# DVC's stages call `overtone` by name, and `mlflow models serve` its own helpers.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
# DVC's own place for it, /var/tmp/dvc, can be written to by every user of the machine, and DVC reads pickles there.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.dvc/tmp/site

# LOCKED=1: what the lock pins and nothing else, each file compared with its digest. Linux on x86-64, Python 3.11.5 or a later 3.11.
LOCKED ?=
LOCK := requirements/lock-py311.txt
# An export of the OSV database, a folder or zip file, where no service can be asked: make audit OSV=all.zip
OSV ?=

.PHONY: help repro install dev test long fuzz faults lint format docs lock audit licences clean distclean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

repro: $(VENV)/.installed ## install, fetch the corpus, run the pipeline, print the scores
	$(BIN)/dvc pull data.dvc released/cnn.dvc released/rnn.dvc
	$(BIN)/dvc repro
	@$(BIN)/overtone summary

install: $(VENV)/.installed ## .venv with what the pipeline needs

dev: $(VENV)/.installed-dev ## .venv with what development needs

# One compute thread a process: several tests run beside each other.
test: lint ## lint, then all tests; TESTS="..." are options of pytest
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --timeout $(LIMIT) --durations 15 $(TESTS)

fuzz: dev ## new hostile input for readers and servers, for MINUTES=10
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=long timeout --signal=INT $(MINUTES)m \
	  $(BIN)/pytest -n auto --maxprocesses 4 tests/test_fuzz.py || test $$? -eq 124
long: dev ## the tests that take minutes: each command of the documentation, hostile files through every door
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --timeout 3600 -m long $(TESTS)

# Processes killed at so many moments of each command, full and read-only disks, servers that go away, damaged files.
FAULTS ?= 5

faults: dev ## the long form of the fault suite, and a table of it; FAULTS=20 kills each command at 20 moments
	OMP_NUM_THREADS=1 OVERTONE_FAULTS=$(FAULTS) $(BIN)/pytest -n auto --maxprocesses 4 --timeout 3600 -m "faults or not faults" tests/faults $(TESTS)

lint: dev ## the format, the linter, the types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: dev ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: dev ## the documentation, as pages in build/docs; docs/reference/settings.md from the types of the settings
	$(BIN)/python docs/make_settings.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/docs
	@echo "build/docs/index.html"

lock: dev ## pin all that development installs, by digest
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11.5 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet --output-file $(LOCK)

audit: dev ## known weaknesses of what the lock pins; each needs a reason in requirements/weaknesses.toml
	$(BIN)/python requirements/audit.py --lock $(LOCK) --reasons requirements/weaknesses.toml $(if $(OSV),--osv $(OSV))

licences: dev ## what is installed under which licence; each is allowed in requirements/licences.toml, or has its reason
	$(BIN)/python requirements/licences.py

clean: ## remove what tools leave behind; models, reports and runs stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache dvc_plots build
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV) src/*.egg-info

# The stamps are older than pyproject.toml when it changed: then pip looks again.
$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(PIP) install --no-compile -e '.[train,serve]'
	$(PIP) install --no-compile --quiet -e '.[visqol]' || echo "ViSQOL does not install here: the tables go without it"
	$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml $(if $(LOCKED),$(LOCK))
	$(if $(LOCKED),$(PIP) install --no-compile --require-hashes -r $(LOCK),$(PIP) install --no-compile -e '.[dev]')
	$(if $(LOCKED),$(PIP) install --no-build-isolation --no-deps -e .)
	$(COMPILE)
	@touch $@ $(VENV)/.installed

# pip of 2023 and before back-tracks for minutes over the dependencies.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "Overtone needs Python 3.11, 3.12 or 3.13; this is $(PYTHON): $$($(PYTHON) --version 2>&1)" \
	    "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	@touch $@
