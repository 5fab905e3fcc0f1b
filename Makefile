# `make demo` and `make test` create the environment in .venv first; nothing else has to be installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= demo

# Without bytecode every command compiles its libraries again, which takes longer than many of them run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint mutants environment clean

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

# The slow tests measure times and start processes of their own: one at a time.
check: lint test
	$(BIN)/python -m pytest -n 0 -m 'slow or browser'

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: environment
	$(BIN)/python tests/mutants/mutants.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
