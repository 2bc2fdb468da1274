# make train: install, and train a generator of digits.   make test: every check.   make test-faults: inject faults, as often as
# docs/reliability.md says.   make docs: build site/index.html.   PYTHON=python3.12 make ...: use another Python.
PYTHON ?= python3
BIN := .venv/bin
# Silence MkDocs' notice of another release; --quiet would also hide broken links
export NO_MKDOCS_2_WARNING := 1

.PHONY: train test test-faults docs clean
.DELETE_ON_ERROR:

train: .venv/installed
	$(BIN)/python scripts/train.py --config digits --accelerator cpu

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest

test-faults: .venv/installed-dev
	GAN_LIGHTNING_THOROUGH=1 $(BIN)/python -m pytest -m "" tests/faults tests/training/test_distributed.py tests/test_recipes.py::test_a_resumed_run_ends_like_an_uninterrupted_one

docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "gan_lightning needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ .venv/installed
