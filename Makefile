# One-line entry points. A machine needs Python 3.11, git and make; everything else goes into .venv.

PYTHON ?= python3.11
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

# DVC runs each stage as `python -m pipeline.STAGE`: that must be this environment's python.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONHOME
# No library of ours may report home.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help install repro check test test-long lint format ui lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

repro: .venv/.installed ## run the whole experiment of params.yaml, or what of it has changed
	@$(BIN)/retrace check
	@$(BIN)/dvc repro
	@$(BIN)/retrace summary

install: .venv/.installed ## make .venv from the locked versions

check: .venv/.installed ## validate params.yaml and estimate the run
	@$(BIN)/retrace check

test: lint ## lint, types and all tests but the long ones
	$(BIN)/pytest -n 2 --dist loadfile

test-long: .venv/.installed-dev ## the long tests
	$(BIN)/pytest -m long -n 2 --dist loadfile

lint: .venv/.installed-dev ## what test does before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed-dev ## mend what lint finds, as far as ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: .venv/.installed ## open MLflow's UI on 127.0.0.1
	@$(BIN)/retrace ui

lock: .venv/.installed-dev ## write constraints.txt anew from pyproject.toml (maintainers)
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	@# A local suffix such as +cpu names one build of a version; the same line must fit every machine.
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+[A-Za-z0-9.]*$$//' > .venv-lock/frozen
	{ sed -n '/^#/p' constraints.txt; cat .venv-lock/frozen; } > .venv-lock/new && mv .venv-lock/new constraints.txt
	rm -rf .venv-lock

clean: ## remove .venv and the tools' caches; data/, artifacts/ and mlflow.db stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON): not found; install Python 3.11, or name it: make $(or $(MAKECMDGOALS),repro) PYTHON=/path/to/python3.11" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON): is older than Python 3.11; name a newer one with PYTHON=" >&2; exit 2; }
	$(PYTHON) -m venv .venv

# Stamps: a second call installs nothing; a change of either file installs again.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the locked versions into .venv (the first time takes some minutes)"
	@$(PIP_INSTALL) -e .
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the locked versions and the developers' tools into .venv (the first time takes some minutes)"
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@ .venv/.installed
