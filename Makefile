# Everything a person or CI runs. Each target sets up what it needs; a second run of the set-up costs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)
# Tests wait for processes half of the time, so two at once take little more than half as long.
PYTEST_FLAGS ?= -p tests.together --numprocesses 2

export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1
export VLLM_CPU_KVCACHE_SPACE ?= 1
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup services demo test lint types format bench docs clean lock
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 12

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*
	@touch $@

demo: setup ## ingest the example corpus and answer questions about it, on embedded defaults
	$(BIN)/python -m examples.demo

services: ## install the servers that some tests need, where this user may
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq postgresql >/dev/null 2>&1; } \
	|| echo "PostgreSQL is not installed: the tests that need it will be skipped"

test: setup services ## run the whole test suite
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: setup ## check style, layers and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell

types: setup ## check types strictly
	$(BIN)/mypy

format: setup ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## run the benchmarks that the README quotes
	$(BIN)/python -m tests.benchmarks

docs: setup ## run every example of the documentation
	$(BIN)/python -m pytest -p no:randomly tests/test_docs.py

lock: setup ## write the lock again from what is installed
	{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --all --exclude-editable | grep -vE "^(lightrag|pip)\b" | sed 's/^\(torch==[0-9.]*\)+cpu/\1/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
