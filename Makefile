# Undertone: `make demo` shows the whole loop, `make test` proves it. Both set everything up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
# two cores are shared by several libraries' thread pools: one pool of two threads at a time
export OMP_NUM_THREADS ?= 2
export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1

# two processes of one thread each; tests that share a server stay together (tests/conftest.py), the slow ones come first
SUITES ?= tests/e2e tests/integration tests/unit
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: help install demo up test test-fast check docs format lock deploy-check spark-check clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies (about 2.5 GB, a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check "torch==2.13.0"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

install: $(STAMP)  ## make .venv with the locked dependencies

demo: $(STAMP)  ## the whole loop on synthetic messages, without a person, in minutes
	@$(BIN)/undertone demo

up: $(STAMP)  ## MLflow, Prefect with its schedules, and the serving worker on this machine
	@$(BIN)/undertone up

check: $(STAMP)  ## format, lint, types, import contracts, docs in sync, unit tests
	@$(BIN)/ruff format --check --quiet . || (echo "run: make format"; exit 1)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) tests/unit

test: $(STAMP)  ## every test
	@$(PYTEST) $(SUITES)

test-fast: $(STAMP)  ## unit tests only
	@$(PYTEST) tests/unit

format: $(STAMP)  ## format and fix what can be fixed
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

docs: $(STAMP)  ## write the reference pages anew
	@$(BIN)/python -m flows.reference

lock: $(STAMP)  ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --python-version 3.11 --quiet --output-file requirements.lock
	for part in serving mlflow; do uv pip compile deploy/$$part.in --constraint requirements.lock --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --python-version 3.11 --quiet --output-file deploy/$$part.lock || exit 1; done

build/deploy-check/installed: deploy/checks.txt
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

deploy-check: build/deploy-check/installed  ## deploy/ by the validators of its formats
	@PATH="$(CURDIR)/$(<D)/bin:$$PATH" deploy/check

build/spark/installed: $(STAMP)
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --no-compile --disable-pip-version-check "pyspark==4.1.4"
	@echo "import site; site.addsitedir('$(CURDIR)/$(VENV)/lib/python3.11/site-packages')" > $(@D)/lib/python3.11/site-packages/undertone.pth
	@touch $@

spark-check: build/spark/installed  ## a table scored on a local Spark (needs Java; installs 500 MB)
	@OMP_NUM_THREADS=1 $(<D)/bin/python -m pytest -q tests/integration/examples

clean:  ## remove everything that commands made (models, store, keys!) but the environment
	rm -rf .undertone mlruns/mlflow.db* mlruns/artifacts
