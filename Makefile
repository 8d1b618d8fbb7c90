# Trade2026. `make help` lists what there is. All that is needed: Linux, Python 3.11, make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# An image of a container often says this, and then each process that starts compiles all that it imports once more.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
UV ?= uv

MANIFEST ?= manifests/quickstart.yaml
UP_FLAGS ?=
DOWN_FLAGS ?=
TEST_FLAGS ?=
# Several processes share out the test files: many tests wait for clocks, stores and processes of their own. In order: sorted
# by how many tests they have, a file with one long test comes last, and all but one process wait for it.
TEST_WORKERS ?= auto
SHARED_OUT := -n $(TEST_WORKERS) --maxprocesses=4 --dist loadfile --no-loadscope-reorder
BENCH_FLAGS ?=
SOAK_FLAGS ?=
NOTEBOOK_FLAGS ?=

# The order is that of `make test`: what fails fastest comes first.
TESTS := $(wildcard tests/unit tests/contract tests/integration tests/simulation tests/e2e)
MEASURED := tests/unit tests/contract tests/integration
PYTHON_CODE := $(wildcard services operators tests bench docs e2e)

.PHONY: help up down test e2e check coverage floors lint bench soak notebook docs crds proto lock clean

help: ## Show the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

up: $(VENV)/.base ## Install what is missing, then run MANIFEST here (UP_FLAGS=--detach: in the background)
	@$(BIN)/trade2026 up -f $(MANIFEST) $(UP_FLAGS)

down: $(VENV)/.base ## Stop what `make up` started; its data stays
	@$(BIN)/trade2026 down $(DOWN_FLAGS)

test: $(VENV)/.dev ## Run every test suite: unit, contract, integration, simulation, end to end
	@$(BIN)/python -m tests.infra
	@$(BIN)/python -m pytest $(TESTS) $(SHARED_OUT) $(TEST_FLAGS)

e2e: $(VENV)/.dev ## Test on a real Kubernetes cluster, started here (root, Go), or that of E2E_KUBECONFIG
	@$(BIN)/python -m e2e.machine
	@$(BIN)/python -m pytest e2e $(TEST_FLAGS)

check: lint ## All that is quick: lint, and the unit tests
	@$(BIN)/python -m pytest tests/unit $(SHARED_OUT) $(TEST_FLAGS)

coverage: $(VENV)/.dev ## What unit, contract and integration tests reach, against its floors (`make floors` raises them)
	@COVERAGE_FLOORS=check $(BIN)/python -m pytest $(MEASURED) $(SHARED_OUT) $(TEST_FLAGS)

floors: $(VENV)/.dev ## Raise the floors of coverage to what is reached now
	@COVERAGE_FLOORS=raise $(BIN)/python -m pytest $(MEASURED) $(SHARED_OUT) $(TEST_FLAGS)

lint: $(VENV)/.dev ## Style, format, types, import rules, generated pages
	@$(BIN)/ruff check $(PYTHON_CODE)
	@$(BIN)/ruff format --check $(PYTHON_CODE)
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m trade2026.stack.crd --check

bench: $(VENV)/.dev ## Measure; see bench/README.md
	@$(BIN)/python -m bench $(BENCH_FLAGS)

soak: $(VENV)/.dev ## The simulation under 10,000 seeds, 100 rounds of kill -9 under load, requests at random; see bench/README.md
	@$(BIN)/python -m bench.soak $(SOAK_FLAGS)

notebook: $(VENV)/.notebook ## Open the notebooks of docs/notebooks; a stack that runs here is what they look at
	@$(BIN)/jupyter lab --notebook-dir=docs/notebooks $(NOTEBOOK_FLAGS)

docs: crds ## Write docs/reference from the code, and the CRDs
	@$(BIN)/python docs/generate.py

crds: $(VENV)/.base ## Write the custom resource definitions from the models
	@$(BIN)/python -m trade2026.stack.crd

proto: $(VENV)/.dev ## Write the messages of KEDA's external scaler from their definition
	@cd operators/trade2026_operator/slo && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. *.proto

lock: ## Resolve dependencies again into requirements/ (needs uv)
	@compile() { out=$$1; shift; env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(UV) pip compile --quiet --universal --upgrade \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --output-file requirements/$$out.txt "$$@"; }; \
	compile base pyproject.toml; \
	for extra in analytics cluster data infra ml notebook operator dev; do compile $$extra pyproject.toml --extra $$extra; done; \
	compile build --group build --constraint requirements/dev.txt

clean: ## Remove the environment and what tools left behind; data in .trade2026 stays
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(PYTHON_CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp stands for a finished installation, so that the second `make up` starts at once. The stores belong to what
# runs here: data.txt is base.txt and the extra `data`.
$(VENV)/.base: requirements/data.txt requirements/build.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "Trade2026 needs Python 3.11; install it or set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Trade2026 needs Python 3.11, and $(PYTHON) is another; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV) …"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python's venv module is missing (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@$(PIP) --require-hashes --only-binary=:all: -r requirements/data.txt
	@$(PIP) --require-hashes --only-binary=:all: -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.base
	@echo "Installing development tools into $(VENV) …"
	@$(PIP) --require-hashes --only-binary=:all: -r requirements/dev.txt
	@touch $@

$(VENV)/.notebook: requirements/notebook.txt $(VENV)/.base
	@echo "Installing Jupyter into $(VENV) …"
	@$(PIP) --require-hashes --only-binary=:all: -r requirements/notebook.txt
	@touch $@
