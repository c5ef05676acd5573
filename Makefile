# make demo    installs and runs the default workflow
# make test    installs the test extras too; lint, types and the tests, all but the slow ones: 11 minutes on two cores
# make test-all  make test, and which branches it does not take; and the slow tests (kills, clusters, whole presets)
# make cluster installs what SLURM and clusters of Dask need besides
# make bench   installs the peers too; measures everything, half an hour, into benchmarks/RESULTS.md
# make gpu     what needs a GPU: its tests and benchmarks, in 10 minutes and without a network
# make schema  writes schemas/config.schema.json, from the options, and schemas/leaderboard.schema.json
# make table   prints the table of docs/configuration.md, from the options
# make rulegraph draws docs/rulegraph.svg (needs Graphviz)
# make lock    resolves the newest versions into locks/ (needs uv)

PYTHON ?= python3
# CUDA=  leaves the CUDA libraries out, for the CPU-only pair of torch and torchvision: see the README.
CUDA ?= 1
BIN := .venv/bin
# The lock is complete, so nothing is resolved and nothing outside it is installed.
INSTALL := $(BIN)/pip install --quiet --no-deps --disable-pip-version-check

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all lint cluster bench gpu schema table rulegraph lock

help:
	@sed -n 's/^# make/make/p' Makefile

demo: .venv/run
	$(BIN)/snakemake --cores all

# Workers of a test session; each job of the workflow that they start takes a core of its own.
JOBS ?= 2
COVERAGE :=
PYTEST = $(BIN)/pytest --numprocesses $(JOBS) $(COVERAGE)

test: .venv/test lint
	$(PYTEST) --dist worksteal -m "not slow"

# Most of what they run is in other processes, of which no branches are counted.
# Tests of a cluster stay together, on one worker: they disturb its nodes.
test-slow: .venv/test
	$(PYTEST) --dist loadgroup -m slow

test-all:
	shared=$$(mktemp -d) && trap 'rm -rf "$$shared"' EXIT && export DETOUR_SHARED="$$shared" && \
	$(MAKE) test COVERAGE="--cov --cov-report=" && $(MAKE) test-slow
	$(BIN)/coverage report

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

cluster: .venv/cluster

bench: .venv/bench
	$(BIN)/python -m benchmarks

# Installs nothing, as it may have no network: it says what is missing.
gpu:
	@test -x $(BIN)/python || { echo "make gpu: found no $(BIN)/python, expected the environment of \`make test\`; \
	run that once, it needs a network" >&2; exit 1; }
	@$(BIN)/python -m benchmarks.gpu

# A stamp is newer than the lock that it was installed from; a changed lock is installed over the old.
.venv/%: locks/%.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing $< into .venv: some minutes and, with CUDA, 6 GB the first time"
	$(if $(CUDA),cat,grep -vE '^(cuda|nvidia|triton)') $< > .venv/$*.lock
	$(INSTALL) $$(grep '^setuptools==' $<)
	$(INSTALL) --no-build-isolation -r .venv/$*.lock --editable .
	touch $@

# The table of docs/configuration.md.
table: .venv/run
	$(BIN)/python -c 'from detour.options import documented; print(documented.table())'

# What editors complete configurations by, and what a leaderboard has.
schema: .venv/run
	$(BIN)/python -c 'import json; from detour.options import documented; \
	print(json.dumps(documented.schema(), indent=2))' > schemas/config.schema.json
	$(BIN)/python -c 'import json; from detour import leaderboard; \
	print(json.dumps(leaderboard.schema(), indent=2))' > schemas/leaderboard.schema.json

# The default run's rules, without the arrows that follow from others.
rulegraph: .venv/run
	$(BIN)/snakemake --rulegraph --forceall | tred | dot -Tsvg -Grankdir=LR -Gsize=11 -Nfontname=sans-serif -o docs/rulegraph.svg

lock:
	uv pip compile --quiet --universal --no-annotate --upgrade pyproject.toml -o locks/run.txt
	uv pip compile --quiet --universal --no-annotate --extra test -c locks/run.txt pyproject.toml -o locks/test.txt
	uv pip compile --quiet --universal --no-annotate --extra cluster -c locks/run.txt pyproject.toml -o locks/cluster.txt
	uv pip compile --quiet --universal --no-annotate --extra bench -c locks/run.txt pyproject.toml -o locks/bench.txt
