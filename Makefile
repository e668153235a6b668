# make demo | make test | make test-slow | make lint: each makes .venv when it is missing or older than what it is made from, and nothing otherwise.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint install
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@.ci/install

demo: $(INSTALLED)
	$(VENV)/bin/cgd run jobs/configs/tinymath.yaml

test: $(INSTALLED)
	$(PYTHON) -m pytest

test-slow: $(INSTALLED)
	$(PYTHON) -m pytest -m slow

lint: $(INSTALLED)
	$(VENV)/bin/shellcheck .ci/*
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
