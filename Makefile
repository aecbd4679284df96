# Everything a fresh machine needs to see cytolite work (make demo) and to change it (make test).
# Needs Python 3.11 to 3.13 and make; choose another Python with: make demo PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# The newest versions that are known to work together: make test LOCK=.ci/constraints.txt
LOCK ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint $(LOCK))
# Two workers, the tests of a file on one of them, files in the order of their names (those of tests/e2e, which take
# longest, are first); one worker alone: make test PARALLEL=
PARALLEL ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

IMAGE := demo/histo.jpg
RESULTS := demo/results

.PHONY: help demo test quick fix docs dist extension lock clean

help:
	@echo "make demo   install cytolite into $(VENV), outline and name the nuclei of a real H&E image"
	@echo "make test   install what tests need; check format, lint, types, import rules; run the tests"
	@echo "make quick  the same checks, and the tests that take least: for every commit"
	@echo "make fix    format the code and apply safe lint fixes"
	@echo "make docs   build the documentation into site/; a dead link or an unknown name is an error"
	@echo "make dist   build what is released into dist/, and try it in an empty environment"
	@echo "make lock   write the newest versions of all packages into .ci/constraints.txt, which CI installs"
	@echo "make extension  build the extension for QuPath (needs JDK 17 and JavaFX: apt install libopenjfx-java)"
	@echo "make clean  remove $(VENV) and everything the other targets made"

demo: $(VENV)/.base $(IMAGE)
	$(BIN)/cytolite segment $(IMAGE) -o $(RESULTS) --mpp 0.5 --overwrite
	@echo
	@echo "Results:"
	@ls -1 $(RESULTS)/histo/*
	@echo "Picture: $(CURDIR)/$(RESULTS)/histo/overview.png"

test: lint
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term

quick: lint
	$(BIN)/pytest $(PARALLEL) -m 'not slow'

.PHONY: lint
lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict
	@echo "Site: $(CURDIR)/site/index.html; with its search: $(BIN)/python -m http.server --directory site"

dist: $(VENV)/.dist $(IMAGE)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python .ci/check_dist.py dist $(IMAGE)

# PyTorch and what it brings of CUDA are left out: which build fits depends on the machine.
lock: | $(BIN)/python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --no-header --no-annotate \
	  --quiet --output-file .ci/resolved.txt
	grep -vE '^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==' .ci/resolved.txt >.ci/constraints.txt
	rm .ci/resolved.txt

extension: $(VENV)/.test
	$(BIN)/python qupath-extension/build.py

clean:
	rm -rf $(VENV) demo build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say what is installed; what names the packages is newer than they are when they have to be installed again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: cytolite needs Python 3.11 to 3.13; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --no-compile --editable . || \
	  { echo "error: the packages cytolite needs could not be installed; is this machine online?" >&2; exit 1; }
	@touch $@

$(VENV)/.test: pyproject.toml Makefile | $(BIN)/python
	$(PIP_INSTALL) --editable '.[dev,train,qupath,cluster]' || \
	  { echo "error: the packages the tests need could not be installed; is this machine online?" >&2; exit 1; }
	@touch $@ $(VENV)/.base

$(VENV)/.docs: pyproject.toml Makefile | $(BIN)/python
	$(PIP_INSTALL) --editable '.[docs]' || \
	  { echo "error: the packages the documentation needs could not be installed; is this machine online?" >&2; exit 1; }
	@touch $@ $(VENV)/.base

$(VENV)/.dist: Makefile | $(BIN)/python
	$(PIP_INSTALL) build twine || \
	  { echo "error: the packages that build a release could not be installed; is this machine online?" >&2; exit 1; }
	@touch $@

# An H&E image under a BSD licence, taken out of the stardist wheel (fetched alone, nothing of it is installed).
$(IMAGE): | $(BIN)/python
	@mkdir -p demo
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --dest demo stardist 2>demo/download.log || \
	  { echo "error: the demo image could not be fetched (details in demo/download.log); it comes from the stardist" \
	    "package, so this step needs a network, or a copy of its data/images/histo.jpg at $(IMAGE)." >&2; exit 1; }
	@$(BIN)/python -c 'import pathlib, zipfile; wheel = next(pathlib.Path("demo").glob("stardist-*.whl")); \
	  pathlib.Path("$(IMAGE)").write_bytes(zipfile.ZipFile(wheel).read("stardist/data/images/histo.jpg")); wheel.unlink()'
