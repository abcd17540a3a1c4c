# make demo   trains a small model that writes Python, from nothing, in a few minutes
# make test   everything that must hold: lint, types, import rules, tests
# make setup  makes .venv with the command gptlab

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: setup demo test

setup: .venv/runtime

demo: setup
	$(BIN)/gptlab train

test: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --dist worksteal -q

.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[tensorboard]'
	touch $@

.venv/development: .venv/runtime
	$(PIP) --editable '.[dev]'
	touch $@
