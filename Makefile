# The project's commands. `make` lists them.
#
#   CORES=2         processor cores for Snakemake (default: all)
#   ARGS="..."      further options for Snakemake, or for pytest with `make test`
#   WORKERS=3       processes of `make test`
#   BENCH=quick     the short benchmark
#   PYTHON, VENV, TORCH_SPEC, TORCH_INDEX: see scripts/setup.sh

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
CORES ?= all
# Of pytest: one more than cores where these are few, since some tests wait for Slurm, or for another
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))
ARGS ?=

# As in an activated environment: the workflow's own `python` is the environment's.
export VENV PYTHON TORCH_SPEC TORCH_INDEX
# The path as it is, whatever is in it: make's own functions would split it at its blanks.
export VIRTUAL_ENV := $(if $(filter /%,$(firstword $(VENV))),,$(CURDIR)/)$(VENV)
RUN := PATH="$$VIRTUAL_ENV/bin:$$PATH"

.PHONY: help setup reproduce test unit check lint config lock docs links site bench bench-gpu calibrate \
    report clean-env

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup:  ## R, .venv and the pinned packages; nothing the second time
	@scripts/setup.sh

reproduce: setup  ## set up, then run the whole study of config.yaml
	$(RUN) snakemake --cores $(CORES) $(ARGS)

test:  ## set up, with a browser and a Slurm to test in, then run every test, R's included
	@scripts/setup.sh --tests
	$(RUN) python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

unit: setup  ## the tests of the library alone
	$(RUN) python -m pytest -n auto --maxprocesses 4 -m "not slow" tests/unit $(ARGS)

check: lint unit  ## lint, then unit: before each commit

lint:  ## check style, formatting, types, the workflow and the R code
	@scripts/setup.sh --lint
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile rules
	$(RUN) snakemake --lint
	$(RUN) mypy
	Rscript --no-init-file --no-environ scripts/lint.R

docs: site  ## build the site, warnings as errors: docs/_build/html
	$(RUN) python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

links: site  ## ask for every address that the site links to; needs a network
	$(RUN) python -m sphinx -b linkcheck docs docs/_build/links $(ARGS)

site: setup
	$(RUN) python -m pip --disable-pip-version-check --quiet install \
	    --constraint requirements.txt --requirement docs/requirements.txt

config:  ## write config.yaml and schemas/ from the configuration's types
	$(RUN) python scripts/write_config.py

lock:  ## write requirements.lock from requirements.txt; with ARGS=--upgrade, the newest of all
	@$${PYTHON:-python3} scripts/write_lock.py $(ARGS)

bench: setup  ## time the engine against the textbook algorithms
	$(RUN) python benchmarks/bench.py $(if $(filter quick,$(BENCH)),--quick) $(ARGS)

bench-gpu:  ## on a bare machine with a card: check the numbers, measure the rates; no set-up
	PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}" $${PYTHON:-python3} benchmarks/bench_gpu.py $(ARGS)

calibrate:  ## sizes and coverages of the statistics on made-up studies, into the docs; fails beyond bounds
	Rscript --no-init-file --no-environ benchmarks/calibrate.R 400 docs/explanation/calibration.csv

report: setup  ## one page with every figure and table: results/MODEL/DATASET/report.zip
	$(RUN) snakemake --cores $(CORES) report $(ARGS)

clean-env:  ## remove the virtual environment (the results stay)
	rm -rf "$$VIRTUAL_ENV" locedit.egg-info
