# The two commands of the README are `make demo` and `make test`. Each sets up .venv by itself.
#
#   make demo                        train, serve, simulate, report (DATA=PATH ITEMS=PATH: your log;
#                                    COLUMNS=user=NAME,... TIES=file: as `cloud-service train`)
#   make test                        every test, on two cores (WORKERS=4: on four)
#   make quick                       unit tests, lint and types, in about a minute: no test that
#                                    starts a process, or trains or exports for a second
#   make check                       lint, types and tests: the gate
#   make bench                       a short form of the benchmarks; keeps nothing
#   make docs                        the documentation as a site, in build/site
#   make install TORCH=cuda          a GPU build of PyTorch in place of the CPU build

PYTHON ?= python3.11
VENV ?= .venv
TORCH ?= cpu
TORCH_VERSION := 2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed-$(TORCH)

# Each of the processes that share the tests takes the files of tests one by one: what a file's
# tests share, such as a cloud, is started once.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
SHARED_OUT := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test quick test-compose lint types check bench docs clean

help:
	@sed -n '2,12s/^# \{0,1\}//p' Makefile

install: $(STAMP)

# torch comes in a step of its own: from a local wheel where pip knows one, else as the CPU build
# from PyTorch's index. pip's default would bring several gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(PIP) install -q --no-index --no-deps torch==$(TORCH_VERSION) 2>/dev/null \
	  || $(PIP) install -q --no-deps --index-url $(CPU_INDEX) torch==$(TORCH_VERSION)
else
	$(PIP) install -q torch==$(TORCH_VERSION)
endif
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py --data "$(DATA)" --items "$(ITEMS)" --columns "$(COLUMNS)" --ties "$(TIES)"

test: $(STAMP)
	$(PYTEST) $(SHARED_OUT)

quick: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; \
	$(PYTEST) -q $(SHARED_OUT) -m "not slow"; tests=$$?; \
	wait $$types && exit $$tests

test-compose:
	bash docker/test_compose.sh

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/vague_names.py

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

bench: $(STAMP)
	$(BIN)/python -m benchmarks.training_speed --rounds 3 --steps 3 --short
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.device_cost --short
	$(BIN)/python -m benchmarks.rerank --short
	$(BIN)/python -m benchmarks.wire_bytes --short
	$(BIN)/python -m benchmarks.one_device --short
	$(BIN)/python -m benchmarks.many_devices --short
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling --short
	$(BIN)/python -m benchmarks.soak --short

# Warnings are errors (mkdocs.yml: strict). In an environment of its own: the site needs nothing of ours.
docs:
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt mkdocs-material
	$(VENV)/docs/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) store bundles report build *.egg-info
