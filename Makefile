# `make` lists the targets. Everything runs in .venv, which `setup` builds once per lock; nothing else needs to be installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	command -v $$each >/dev/null && $$each -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$each && break; done)
READY := $(VENV)/.ready
LIBRARIES := build/lineage/.ready
TRACKERS := build/trackers/.ready
FRAMEWORKS := build/frameworks/.ready
TENSORFLOW := build/tensorflow/.ready
NOT_LOCKED := torch triton mpmath networkx setuptools sympy cuda-bindings cuda-pathfinder cuda-toolkit \
	$(addprefix nvidia-, cublas cuda-cccl cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile cusolver cusparse \
	cusparselt-cu13 nccl-cu12 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

.PHONY: help setup demo check test test-agent test-gpu format format-check lint type bench docs docs-check package lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Build .venv: PyTorch, the locked tools, repro itself (runs again only when a lock changes)

$(READY): requirements/torch.txt requirements/dev.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11 or newer with the modules venv and ensurepip was found" >&2; \
		echo "hint: install one (on Debian: apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python" >&2; \
		exit 1; fi
	@echo "Building $(VENV): PyTorch, the locked tools, repro (some minutes, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements/torch.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(LIBRARIES): requirements/lineage.txt $(READY)
	@echo "Fetching libraries that open files by themselves, for the tests of lineage …"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

$(TRACKERS): requirements/trackers.txt $(READY)
	@echo "Fetching experiment trackers, for the tests of what is logged through them …"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

$(FRAMEWORKS): requirements/frameworks.txt $(READY)
	@echo "Fetching training frameworks, for the tests of what is read and logged through them …"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

$(TENSORFLOW): requirements/tensorflow.txt $(READY)
	@echo "Fetching Keras on TensorFlow (1.5 GB when installed), for the tests of what is seen of it …"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

demo: setup ## Record and replay the digits example, seeded and unseeded, and write a report
	@examples/digits/demo.sh

check: setup format-check lint type docs-check package test ## All that CI runs

test: setup $(LIBRARIES) $(TRACKERS) $(FRAMEWORKS) $(TENSORFLOW) ## Run the whole suite with branch coverage (ARGS="…" goes to pytest)
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

test-agent: setup $(TRACKERS) $(FRAMEWORKS) $(TENSORFLOW) ## Run the tests of what lives in the user's process
	$(BIN)/python -m pytest tests/agent $(ARGS)

test-gpu: setup ## Run the tests that need a CUDA device; without one they fail
	REPRO_REQUIRE=gpu $(BIN)/python -m pytest -m gpu $(ARGS)

format: setup ## Format the code
	$(BIN)/ruff check --quiet --fix-only --select I .
	$(BIN)/ruff format .

format-check: setup
	$(BIN)/ruff format --check .

lint: setup ## Look for mistakes
	$(BIN)/ruff check .

type: setup ## Check the types
	$(BIN)/mypy
	$(BIN)/mypy docs/generate.py

bench: setup ## Measure repro beside bare commands and, where PEERS= names their environments, its peers (ARGS="hash_big --rounds 3")
	$(BIN)/python tests/benchmarks/bench.py $(ARGS)

docs: setup ## Write the generated reference pages
	$(BIN)/python docs/generate.py

docs-check: setup
	$(BIN)/python docs/generate.py --check

package: setup ## Build wheel and source archive twice; fail unless they are equal byte for byte and the wheel works
	rm -rf build/package && mkdir -p build
	for copy in first second; do \
		SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation --outdir build/package/$$copy \
			>build/package-$$copy.log || { cat build/package-$$copy.log; exit 1; }; done
	diff -r build/package/first build/package/second
	$(BIN)/python -m pip install -qq --no-deps --target build/package/installed build/package/first/*.whl
	cd build/package/installed && PYTHONPATH=. ../../../$(BIN)/python -c "import repro.evidence.schema as schema; \
		assert 'build/package/installed' in str(schema.directory()), schema.directory(); schema.ddl(1)"
	@sha256sum build/package/first/*

lock: setup ## Compile the locks in requirements/
	$(BIN)/python -m piptools compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements/dev.txt pyproject.toml requirements/dev.in
	$(BIN)/python -m piptools compile --quiet --upgrade --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-header --output-file requirements/lineage.txt requirements/lineage.in
	$(BIN)/python -m piptools compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements/trackers.txt requirements/trackers.in
	$(BIN)/python -m piptools compile --quiet --upgrade --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-header $(addprefix --unsafe-package ,$(NOT_LOCKED)) \
		--output-file requirements/frameworks.txt requirements/frameworks.in
	$(BIN)/python -m piptools compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements/tensorflow.txt requirements/tensorflow.in

clean: ## Remove what was built, but neither .venv nor your runs
	rm -rf build dist .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache examples/digits/data examples/digits/runs
