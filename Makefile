# Each target does its own set-up: a virtual environment in .venv, with pinned requirements. Neither root nor system
# packages are needed, only Python 3.11 or later (PYTHON=... names another than python3).

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run user dashboard demo test chaos lint bench bench-quick clean

help:
	@echo 'make run     web and workers on this machine: http://127.0.0.1:8000 (PORT=... for another port)'
	@echo 'make user    NAME=...: another user of that service, or another password'
	@echo 'make dashboard  the queues, on http://127.0.0.1:9181/rq/ (also at /rq/ of the service)'
	@echo 'make demo    real folds on real data, from posting to scores, on a scratch instance'
	@echo 'make test    lint and every test; ARGS="-k word" goes to pytest'
	@echo 'make chaos   one process after another dies under load, for MINUTES=10; ARGS="--database postgresql --seed 1"'
	@echo 'make lint    lint alone'
	@echo 'make bench   speed against what one would run instead; make bench-quick: less of it, sooner'
	@echo 'make clean   remove the virtual environments'

# What a laptop needs, and what tests need besides; a change of the requirements installs again
.venv/local: requirements.txt requirements-local.txt
	$(call install,requirements-local.txt)
.venv/dev: requirements.txt requirements-local.txt requirements-dev.txt
	$(call install,requirements-dev.txt)

define install
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: PYTHON=...")'
	@echo 'Installing $(1) into .venv ...'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r $(1)
	@touch $@
endef

# honcho reads .env. It gives a process 5 s to stop: workers hand back what they run within 3 s.
run: export PORT ?= 8000
run: export WEB_HOST ?= 127.0.0.1
run: export GRACE_PERIOD ?= 3
run: .venv/local
	@$(BIN)/honcho run flask first-run
	@$(BIN)/python run.py start web worker

user: .venv/local
	@$(BIN)/honcho run flask create-user "$$NAME"

dashboard: .venv/local
	@$(BIN)/honcho run python dashboard.py

demo: .venv/local
	@$(BIN)/python demo.py $(ARGS)

test: lint
	@$(BIN)/pytest -q -n auto $(ARGS)

chaos: MINUTES ?= 10
chaos: .venv/dev
	@PYTHONPATH=. $(BIN)/python tests/chaos.py --minutes $(MINUTES) $(ARGS)

lint: .venv/dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

# What it compares to has a virtual environment of its own, .venv-bench, and ramp-workflow another, .venv-ramp
.venv-bench/installed: requirements.txt requirements-local.txt requirements-dev.txt requirements-bench.txt
	@echo 'Installing requirements-bench.txt into .venv-bench ...'
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

bench: .venv/local .venv-bench/installed
	@.venv-bench/bin/python -m benchmarks $(ARGS)

bench-quick: .venv/local .venv-bench/installed
	@.venv-bench/bin/python -m benchmarks --quick $(ARGS)

clean:
	rm -rf .venv .venv-bench .venv-ramp
