# `make demo` and `make test` create the environment in .venv first; nothing else has to be installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= demo

# Without bytecode every command compiles its libraries again, which takes longer than many of them run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint kill-test soak mutants docs environment clean

environment: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@

demo: environment
	$(BIN)/python train.py experiment=demo run=$(RUN)

test: environment
	$(BIN)/python -m pytest

# The slow tests start processes of their own: two at a time, whatever the number of cores.
check: lint test
	$(BIN)/python -m pytest -n 2 -m 'slow or browser or reliability'

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Kills runs at random points and prints the seed, which ARES_KILL_SEED repeats.
kill-test: environment
	ARES_KILLS=30 ARES_KILL_SEED=$${ARES_KILL_SEED:-$$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')} \
		$(BIN)/python -m pytest -n 0 -s -m reliability tests/reliability/test_interrupted_runs.py -k test_killed

# 100 rounds in one process: prints memory and file descriptors.
soak: environment
	ARES_SOAK_ROUNDS=100 $(BIN)/python -m pytest -n 0 -s -m reliability tests/reliability/test_soak.py

# The documentation as a site, with a page per module: site/index.html.
docs: environment
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

mutants: environment
	$(BIN)/python tests/mutants/mutants.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
