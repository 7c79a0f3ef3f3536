# Every target works from a bare `python3` (3.11 or newer) and `make`; nothing has to be activated by hand.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS := $(wildcard notebooks/[0-9][0-9]_*.ipynb)
PROFILE ?= smoke
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
ENGINE ?= local
SOLUTIONS := $(wildcard notebooks/solutions/*.ipynb)
REPORT := $(wildcard notebooks/[0-9][0-9]_exp_*.ipynb) notebooks/15_results_report.ipynb

# threads that wait spin by default, and stall each other when the machine has other work: several times slower was seen
export OMP_WAIT_POLICY ?= passive

.PHONY: help env lab run test unit nbtest sweep sweep-status slurm-test report notebooks qm9 bench book test-oldest test-newest slides browser-test mutants lint lock clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

env: $(READY) ## build .venv from requirements.lock (does nothing when it is up to date)

# bytecode is compiled here, once: where PYTHONDONTWRITEBYTECODE is set, each of hundreds of processes would do it anew
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is wanted, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make env PYTHON=python3.12" >&2; exit 1; }
	@if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then uv=uv; uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV); \
	else uv=$(BIN)/uv; $(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; fi; \
	echo "installing the locked packages into $(VENV) ..."; \
	$$uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock; \
	$$uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@mkdir -p $(VENV)/etc/jupyter/labconfig  # JupyterLab's question whether it may fetch news
	@echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > $(VENV)/etc/jupyter/labconfig/page_config.json
	@touch $(READY)

lab: $(READY) ## open the course in JupyterLab
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

run: $(READY) ## run 00_start_here: a VAE beside a TopoVAE on real digits; prints the table
	@$(BIN)/python -m topo_utils.runs notebooks/00_start_here.ipynb

test: lint unit nbtest ## everything that CI runs: lint, unit tests, all notebooks

unit: $(READY) ## the unit tests
	$(BIN)/python -m pytest -n auto --dist worksteal tests

nbtest: $(READY) ## execute every notebook and solution with nbval, side by side; fails when there is none
	$(BIN)/python -m pytest -x -n auto --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=3600 -p no:cacheprovider notebooks

sweep: $(READY) ## run a grid of notebooks, side by side: make sweep PROFILE=smoke|cpu|gpu [CORES=2] [ENGINE=local|slurm]
	$(BIN)/python -m topo_utils.runs.sweep start $(PROFILE) --cores $(CORES) --profile $(ENGINE)
	@$(BIN)/python -m topo_utils.runs.sweep finish $(PROFILE)

sweep-status: $(READY) ## how many runs of that grid are done, running, interrupted and waiting
	@$(BIN)/python -m topo_utils.runs.sweep status $(PROFILE)

slurm-test: $(READY) ## a small grid on a Slurm of this one machine, with a job killed and resumed (root, packages slurm-wlm and munge)
	$(BIN)/python tests/slurm/run.py

report: $(READY) ## the experiments and their report from the runs that are there, or of another grid: make report [GRID=smoke]
	@printf '%s\n' $(REPORT) | xargs -P $(CORES) -I @ $(BIN)/python -m topo_utils.runs @ $(if $(GRID),-p grid=$(GRID))

notebooks: $(READY) ## the canonical execution: rerun each notebook with its defaults and keep its outputs
	$(BIN)/python -m topo_utils.runs --publish $(NOTEBOOKS) $(SOLUTIONS)

qm9: $(READY) ## install the package that holds QM9, and convert it
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --no-build-isolation -e '.[qm9]'
	$(BIN)/python -m topo_utils.datasets fetch qm9

bench: $(READY) ## measure the topological core beside its peers; writes data/results/benchmarks.csv
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --no-build-isolation -e '.[bench]'
	$(BIN)/python tests/benchmarks/bench.py

book: $(READY) ## the course and the reference as pages: build/book/book/index.html
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --no-build-isolation -e '.[book]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html -c notebooks/book notebooks build/book
	@echo "open build/book/book/index.html"

# the unit tests with other packages than the locked ones, in an environment of their own
define with_versions
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv venv --quiet --clear --python "$$(command -v $(PYTHON))" build/$(1); \
	$$uv pip install --quiet --python build/$(1)/bin/python --resolution $(2) -e '.[dev,sweep]'; \
	build/$(1)/bin/python -m pytest -n auto --dist worksteal tests
endef

test-oldest: $(READY) ## the unit tests with the oldest packages that pyproject.toml allows, in build/oldest
	$(call with_versions,oldest,lowest-direct)

test-newest: $(READY) ## the unit tests with the newest packages that pyproject.toml allows, in build/newest
	$(call with_versions,newest,highest)

slides: $(READY) ## slides of notebooks 01 to 04: build/slides/01_persistent_homology.html and so on
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --no-build-isolation -e '.[book]'
	$(BIN)/python notebooks/book/slides.py build/slides

browser-test: book slides ## open every page and slide, and two notebooks in JupyterLab, in a real browser (chromium in the path)
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --no-build-isolation -e '.[browser]'
	$(BIN)/python -m pytest -q tests/browser/pages.py tests/browser/lab.py

mutants: $(READY) ## plant small errors, one at a time, and see which no test notices; e.g. WHERE=topo_utils/training SAMPLE=50
	$(BIN)/python tests/mutants/run.py $(WHERE) --sample $(or $(SAMPLE),100)

lint: $(READY) ## style of the code and of the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: $(READY) ## compile requirements.lock anew from pyproject.toml (all platforms, with hashes)
	uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip compile pyproject.toml --extra dev --extra sweep --universal --generate-hashes --python-version 3.11 --no-header --quiet -o requirements.lock

clean: ## remove the environment and caches; run records and downloaded data stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis data/processed
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
