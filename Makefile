# `make` lists the targets. `make demo` and `make test` need nothing but Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
export NO_ALBUMENTATIONS_UPDATE = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check format notebooks bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed ## make the environment in .venv and install the package into it

demo: install ## train, test and tabulate a small network on the pictures that come along (minutes, two CPU cores)
	$(RUN) -m aimmat.train

test: install ## run the tests
	$(RUN) -m pytest -q -n 2

check: install ## ruff, formatting, types, floors
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: install ## mend formatting and what ruff can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

notebooks: install ## write notebooks/*.ipynb again from their .py
	$(RUN) -m jupytext --quiet --to ipynb notebooks/*.py

bench: install ## print sizes, times and memory of the network
	$(RUN) -m aimmat.bench model=aimnet

clean: ## remove the environment and caches, not the runs
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
