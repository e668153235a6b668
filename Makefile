# make demo | make test | make test-slow | make test-cluster | make lint: each makes .venv when it is missing or older than what it is made from, and nothing otherwise.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-unit test-chaos test-integration test-slow test-cluster lint install
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@.ci/install

demo: $(INSTALLED)
	$(VENV)/bin/cgd run jobs/configs/tinymath.yaml

# Two at a time, as most tests wait for processes to start and seldom keep both cores of a small machine busy; make fails when one does.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs=2 test-integration test-chaos

test-unit:
	@mkdir -p build
	@MAKEFLAGS= $(PYTHON) -m pytest tests/unit > build/test-unit.log 2>&1; status=$$?; cat build/test-unit.log; exit $$status

test-chaos: test-unit
	@MAKEFLAGS= $(PYTHON) -m pytest tests/chaos > build/test-chaos.log 2>&1; status=$$?; cat build/test-chaos.log; exit $$status

test-integration:
	@MAKEFLAGS= $(PYTHON) -m pytest tests/integration

test-slow: $(INSTALLED)
	$(PYTHON) -m pytest -m slow

# Several Ray nodes in network namespaces; as root.
test-cluster: $(INSTALLED)
	$(PYTHON) -m pytest -m cluster tests/cluster

lint: $(INSTALLED)
	$(VENV)/bin/shellcheck .ci/*
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
