# Thin over `python -m dpe_ray`: every target makes .venv when it is missing and installs only what changed.
# Needs Linux, make and Python >= 3.11 with venv; another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-cluster check clean

demo: $(INSTALLED)
	$(BIN)/dpe-ray run jobs/micro.yaml

test: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit tests/e2e/test_run.py tests/ray

# Runs that are submitted, that are ended and go on, with every supplier, on nodes that come and go; training whose
# worker is killed, and with DeepSpeed.
test-cluster: $(INSTALLED)
	$(BIN)/python -m pytest tests/e2e --ignore tests/e2e/test_run.py

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/architecture

# Removes what make made; runs/ stays.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find dpe_ray jobs tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# A half-made environment would pass for a whole one at the next call, so it is removed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dpe_ray needs Python >= 3.11, but $(PYTHON) is $$($(PYTHON) --version 2>&1); say: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make an environment; install its venv module (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
