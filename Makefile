# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine with only Python 3.11.
SHELL := /bin/bash
PYTHON ?= python3
# Quoted in every recipe, as the path of the checkout may hold spaces.
BIN := .venv/bin
READY := .venv/.ready
TESTS ?= tests
# More than there are cores: system tests mostly wait, for consumer groups that form and for sessions that end.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# Of a part of the tests it would say nothing.
COVERAGE = $(if $(filter tests,$(TESTS)),--cov)
# The plug-in, or else the docker-compose of Debian.
COMPOSE = $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose) -f docker-compose.kafka.yml

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kafka lint fmt mutants bench lock up down logs compose-check clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

setup: $(READY) ## Make .venv with the locked versions of everything

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mdstream needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "setting up .venv (once; under a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup ## Everything on this machine: broker, venues, ingestors, worker, files (LIVE=1: the real venues)
	@$(BIN)/mdstream demo $(if $(LIVE),--live)

test: setup ## All tests, on the embedded broker; fails unless they cover the pure core
	$(PYTEST) $(TESTS) $(COVERAGE)

test-kafka: TESTS = tests/system
test-kafka: setup ## The whole-system tests again on Apache Kafka (needs Java 17 and Maven)
	MDSTREAM_TEST_BROKER=kafka $(PYTEST) -m system $(TESTS)

lint: setup ## Lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: setup ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutants: setup ## A million mutated frames of every venue, by the rules of the conformance tests
	$(BIN)/python tests/conformance/mutate.py

bench: setup ## Frames/s beside other frameworks, in one run (their packages go into .bench/); then SenpAI
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.senpai_nats

lock: setup ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --all-extras pyproject.toml -o requirements.lock

up: ## Everything with docker compose: Kafka, TimescaleDB, NATS, ingestors, workers (docs/deployment.md)
	$(COMPOSE) build
	$(COMPOSE) up -d
	$(COMPOSE) ps

down: ## Stop it again; the volumes keep the data
	$(COMPOSE) down

logs: ## Follow what the containers say (SERVICES="core sink-nats": of these only)
	$(COMPOSE) logs -f --tail=100 $(SERVICES)

compose-check: ## Let docker compose itself check docker-compose.kafka.yml (needs no engine)
	$(COMPOSE) config --quiet

clean: ## Remove what the targets made
	rm -rf .venv .bench .kafka build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
