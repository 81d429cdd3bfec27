# Two commands do everything: `make demo` and `make test`. Both work in .venv, made here.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Tests start many short commands, each of which would compile the whole package again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test lint docs clean

demo: $(BIN)/.installed
	$(BIN)/letheon demo

test: $(BIN)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal --check-evidence

lint: $(BIN)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(BIN)/.installed-test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

docs: $(BIN)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

$(BIN)/.installed-docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV)
