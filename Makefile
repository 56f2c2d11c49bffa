# make demo · make test: the two set-up commands. Both make the same .venv first.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test quick lint clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/mae demo

test: $(VENV)/installed
	$(BIN)/pytest

quick: $(VENV)/installed
	$(BIN)/pytest -m 'not slow and not gpu'

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)
