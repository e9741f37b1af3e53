# The two commands that matter: `make chat` talks to the sandbox's agent in this
# terminal, `make test` runs every check there is. Both make what they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
MATRIX ?= 3.10 3.11 3.12 3.13
PYENV_ROOT ?= $(HOME)/.pyenv
PYTEST_ARGS ?=
# Tests wait for sockets half of the time. All of a file stays on one worker.
WORKERS ?= -n 3 --dist loadfile

# What the matrix runs on each Python: the suite without what needs a browser, a
# server of its own, or minutes.
CORE := not slow and not stress and not browser and not redis and not gevent

.DEFAULT_GOAL := help
.PHONY: help chat test lint format typing docs pictures unit bench test-matrix test-lowest dist clean

help:
	@echo "make chat         talk to the sandbox's agent in this terminal"
	@echo "make test         lint, types, manual and the whole test suite"
	@echo "make test-matrix  the core suite on CPython $(MATRIX)"
	@echo "make test-lowest  the core suite on the oldest dependencies allowed"
	@echo "make bench        the benchmarks, each beside a peer"
	@echo "make pictures     the manual's pictures, from the terminal and the browser"
	@echo "make lint typing docs unit   one part of 'make test' each"
	@echo "make format       let ruff rewrite what it can"
	@echo "make dist         wheel and sdist in dist/"
	@echo "make clean        remove what the above made"

# A stamp says which set of extras a virtual environment holds; it is renewed when
# the list of dependencies changes.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "polysync needs Python 3.10 or newer; say which with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-chat: setup.cfg | $(BIN)/python
	$(PIP) install --editable '.[cli,sandbox]'
	@touch $@

$(VENV)/.stamp-test: setup.cfg | $(BIN)/python
	$(PIP) install --upgrade pip
	$(PIP) install --editable '.[all,test,docs,lab]'
	@touch $@ $(VENV)/.stamp-chat

chat: $(VENV)/.stamp-chat
	$(BIN)/polysync chat

test: lint typing docs unit

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typing: $(VENV)/.stamp-test
	$(BIN)/mypy

docs: $(VENV)/.stamp-test
	@if $(BIN)/python -c 'import sphinx, furo' 2>/dev/null; then \
	  $(BIN)/sphinx-build -q -n -W -b html docs docs/_build/html \
	  && echo "manual: docs/_build/html/index.html"; \
	else \
	  echo "skipped: the manual (Sphinx needs Python 3.11 or newer)"; \
	  test -z "$$POLYSYNC_CI"; \
	fi

unit: $(VENV)/.stamp-test
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	  || echo "skipped: tests marked 'browser' (no chromium and chromedriver on PATH)"
	@command -v redis-server >/dev/null \
	  || echo "skipped: tests marked 'redis' (no redis-server on PATH)"
	$(BIN)/python -m pytest -q $(WORKERS) $(PYTEST_ARGS)

# Each script takes its pictures of what really runs; needs tmux and Chromium, too.
PICTURES ?= terminal web notebook reports
pictures: $(VENV)/.stamp-test
	@set -e; for script in $(PICTURES); do $(BIN)/python -m docs.pictures.$$script; done

$(VENV)/.stamp-bench: benchmarks/requirements.txt $(VENV)/.stamp-test
	$(PIP) install -r benchmarks/requirements.txt
	@touch $@

# BENCH_ARGS=--quick takes under five minutes instead of twenty.
bench: $(VENV)/.stamp-bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

test-matrix:
	@failed=""; \
	for version in $(MATRIX); do \
	  python=""; \
	  for candidate in $(PYENV_ROOT)/versions/$$version.*/bin/python python$$version; do \
	    if "$$candidate" -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$$version'.split('.'))))" \
	      2>/dev/null; then python="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "skipped: CPython $$version (neither on PATH nor under pyenv)"; continue; \
	  fi; \
	  echo "== CPython $$version"; \
	  $(MAKE) --no-print-directory test-core VENV=.venv-$$version PYTHON="$$python" \
	    || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed on CPython$$failed"; exit 1; fi

$(VENV)/.stamp-core: setup.cfg | $(BIN)/python
	$(PIP) install --upgrade pip
	$(PIP) install --editable '.[all,test]'
	@touch $@

.PHONY: test-core
test-core: $(VENV)/.stamp-core
	$(BIN)/python -m pytest -q -m '$(CORE)' $(WORKERS) $(PYTEST_ARGS)

# The lower bounds of install_requires, read from setup.cfg so that they are what
# is tested.
.PHONY: test-lowest-inside
test-lowest:
	@$(MAKE) --no-print-directory test-lowest-inside VENV=.venv-lowest

test-lowest-inside: $(VENV)/.stamp-core
	$(PIP) install $$(sed -n '/^install_requires/,/^$$/s/^ *\([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2/p' setup.cfg)
	$(BIN)/python -m pytest -q -m '$(CORE)' $(PYTEST_ARGS)

dist: $(VENV)/.stamp-test
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv .venv-* build dist docs/_build .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .coverage .coverage.* htmlcov *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
