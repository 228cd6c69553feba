# RegionCLIP, the pipeline. `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help install demo table test test-all test-ops lint bench-cuda mlflow serve deploy dag clean

VENV := .venv
PYTHON ?= python3.11
UV_VERSION := 0.13.8
# The tests of the whole pipeline share one run of it, so they stay in one process.
TWO := --numprocesses 2 --dist loadgroup

# Nothing calls home or downloads while the pipeline runs.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export DVC_STUDIO_OFFLINE := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false
# MLflow's jobs judge language models; without them its server is one process, not nine.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export HF_HUB_OFFLINE := 1
# A certificate authority of the user's own network counts too.
export UV_SYSTEM_CERTS := true

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## Create .venv and install exactly what requirements.lock says

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "uv==$(UV_VERSION)"
	$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	touch $@

# DVC refuses a folder without Git until it is told so; a repository that is made later is used again.
demo: install  ## Rebuild the demo from nothing and print its table
	@if git rev-parse --git-dir > /dev/null 2>&1 || [ -e .git ]; then \
		[ ! -f .dvc/config.local ] || dvc config --quiet --local --unset core.no_scm 2> /dev/null || true; \
	else \
		echo "demo: this folder is no Git repository; DVC runs without one, its experiments and the flows do not"; \
		dvc config --quiet --local core.no_scm true; \
	fi
	dvc repro
	@$(MAKE) --no-print-directory table

table:  ## Print the table of the last run
	@cat reports/summary.md

test: install  ## Run the quick tests, in two processes
	OMP_NUM_THREADS=1 python -m pytest $(TWO)

test-all: install  ## Run the slow tests too, all but those of test-ops
	OMP_NUM_THREADS=1 python -m pytest -m "not ops" $(TWO)

# Debian keeps the programs of PostgreSQL's server out of the PATH.
test-ops: export PATH := $(PATH):$(lastword $(sort $(wildcard /usr/lib/postgresql/*/bin)))
test-ops: install  ## Run the tests on real servers (PostgreSQL, Prefect, MLflow, S3), workers and a browser
	@command -v initdb > /dev/null || { echo "test-ops: initdb is not in the PATH; install PostgreSQL's server" >&2; exit 2; }
	@command -v chromium > /dev/null || { echo "test-ops: chromium is not in the PATH; install it (Debian: chromium)" >&2; exit 2; }
	OMP_NUM_THREADS=1 python -m pytest -m ops tests/ops tests/infra

lint: install  ## Check style, and who imports whom
	ruff check .
	ruff format --check .
	lint-imports --no-cache

bench-cuda: install  ## Measure the paper's sizes on a GPU, ten minutes at most
	python -m benchmarks.cuda

mlflow: install  ## Open the MLflow UI on http://127.0.0.1:5000
	@exec python -m flows.local mlflow

serve: install  ## Run MLflow, Prefect and workers on this machine until Ctrl-C
	@exec python -m flows.local

deploy: install  ## Register pools, limits, deployments and automations at make serve's server, or $PREFECT_API_URL
	python -m flows.deploy

dag: install  ## Draw the pipeline
	dvc dag

clean:  ## Remove outputs and scratch, keep the environment and the DVC cache
	rm -rf data artifacts .scratch
