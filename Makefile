# make demo | make real | make compare | make test | make test-slow | make test-cluster | make test-browser | make lint: each makes .venv when it is
# missing or older than what it is made from, and nothing otherwise.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo real compare test test-unit test-whole test-slow test-cluster test-browser gpu-check lint install
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@.ci/install

demo: $(INSTALLED)
	$(VENV)/bin/cgd run jobs/configs/tinymath.yaml

# A pretrained pair from the hub on a CPU; ARGS="student.model=DIR teacher.model=DIR" takes local copies.
real: $(INSTALLED)
	$(VENV)/bin/cgd run examples/real/mawps.yaml $(ARGS)

compare: $(INSTALLED)
	$(VENV)/bin/cgd compare jobs/configs/compare_tinymath_quick.yaml

# Side by side, as the unit tests keep one core busy and the others seldom both; make waits for both and fails when one does.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs=2 test-unit test-whole

test-unit:
	@mkdir -p build
	@MAKEFLAGS= $(PYTHON) -m pytest tests/unit > build/test-unit.log 2>&1; status=$$?; cat build/test-unit.log; exit $$status

test-whole:
	@MAKEFLAGS= $(PYTHON) -m pytest tests/integration tests/chaos

test-slow: $(INSTALLED)
	$(PYTHON) -m pytest -o faulthandler_timeout=3000 -m slow

# Several Ray nodes in network namespaces; as root.
test-cluster: $(INSTALLED)
	$(PYTHON) -m pytest -o faulthandler_timeout=1500 -m cluster tests/cluster

# On a machine with one GPU; ARGS=--reduced runs the same on a CPU.
gpu-check: $(INSTALLED)
	$(PYTHON) -m benchmarks.gpu_check $(ARGS)

# The report's page in Debian's chromium; npm fetches axe-core once.
test-browser: $(INSTALLED)
	$(PYTHON) -m pytest -m browser tests/browser

lint: $(INSTALLED)
	$(VENV)/bin/shellcheck .ci/*
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
