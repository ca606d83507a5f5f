# Everything that this file makes goes into .venv and target; `make help` lists what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The features of every Rust build here: with one set, tests and wheel share the dependencies that are built.
FEATURES := cli,emulator,sim
TOOLS := $(VENV)/.tools
WHEEL := $(VENV)/.wheel
SOURCES := $(shell find src python -type f -not -name '*.pyc') \
	Cargo.toml Cargo.lock build.rs pyproject.toml README.md LICENSE

.PHONY: help
help: ## Shows this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: build ## Streams real data through a killed service and a killed producer into a Delta table
	$(BIN)/python examples/python/demo/demo.py

.PHONY: test
test: test-rust test-python test-chaos test-fuzz ## Runs all tests, with the chaos suite and the examples of the README

.PHONY: test-rust
test-rust: need-cargo ## Runs the tests of the crate
	cargo test --locked --workspace --features $(FEATURES)
	# With other locks the crate is built once more: as little of it as the log needs.
	cargo test --locked --features sim,shuttle --test concurrency

# Options of the chaos suite, such as CHAOS_ARGS="kill-rust --seed 7".
CHAOS_ARGS ?=
# How long it runs as a part of `make soak`.
CHAOS_SECONDS ?= 3600

.PHONY: test-chaos
test-chaos: build victims ## Runs the chaos suite in its short mode: real processes, real faults (chaos-tests/README.md)
	cd chaos-tests && $(CURDIR)/$(BIN)/python -m chaos run $(CHAOS_ARGS)

.PHONY: victims
victims: need-cargo
	# As a test needs them, for a plain build has other features of the dependencies and would build them once more.
	cargo test --locked --workspace --features $(FEATURES) --test exactly --no-run

.PHONY: soak
soak: build victims ## Runs the chaos suite for an hour (CHAOS_SECONDS=…) and the simulated world for hours: ten million crashes
	cd chaos-tests && $(CURDIR)/$(BIN)/python -m chaos run --long $(CHAOS_SECONDS) $(CHAOS_ARGS)
	FLIPS=all cargo test --locked --features $(FEATURES) --test log bit
	LEDGER_SETTLES=10000000 cargo test --locked --features $(FEATURES) --test ledger
	SCHEDULES=1000000 cargo test --locked --features sim,shuttle --test concurrency
	SIM_CRASHES=10000000 SIM_LONG=1 cargo test --locked --features $(FEATURES) --test model -- --nocapture

.PHONY: test-fuzz
test-fuzz: need-cargo ## Runs each fuzz target for 10 seconds; says so where there is no nightly compiler
	chaos-tests/fuzz/run.sh 10

# How long each target runs.
FUZZ_SECONDS ?= 3600

.PHONY: fuzz
fuzz: need-cargo ## Runs each fuzz target for an hour (FUZZ_SECONDS=…)
	chaos-tests/fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: test-python
test-python: build ## Runs the tests of the Python package against the installed wheel
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

.PHONY: build
build: $(WHEEL) ## Builds the wheel and installs it into .venv

DIST := target/dist

.PHONY: wheel
wheel: $(TOOLS) need-cargo ## Builds the wheel as it is published, and tries it in a new venv of each Python on this machine
	rm -rf $(DIST)
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out $(DIST)
	$(BIN)/python tests/python/wheel/try_wheel.py $(DIST)/*.whl

# Options for the benchmarks, such as BENCH_ARGS="--quick --dir /mnt/disk".
BENCH_ARGS ?=
# Options for the benchmark of the conversion, which knows no disk.
CONVERT_ARGS ?=
# Options for the benchmark of the drainer.
DRAIN_ARGS ?=
# Options for the benchmark of storing and delivering from Python.
DELIVER_ARGS ?=
RELEASE_WHEEL := target/bench-python

.PHONY: bench
bench: need-cargo ## Measures the log against raw methods on the same disk, and the conversion (docs/performance.md)
	cargo bench --locked -p benches --bench append -- $(BENCH_ARGS)
	cargo bench --locked -p benches --bench open -- $(BENCH_ARGS)
	cargo bench --locked -p benches --bench convert -- $(CONVERT_ARGS)

.PHONY: bench-crates
bench-crates: need-cargo ## Measures the log against other logs and stores too
	cargo bench --locked -p benches --features crates --bench append -- $(BENCH_ARGS)
	cargo bench --locked -p benches --features crates --bench open -- $(BENCH_ARGS)

.PHONY: bench-python
bench-python: $(TOOLS) need-cargo ## Measures an optimised wheel against Rust and Python: send_batch, draining, the conversion
	rm -rf $(RELEASE_WHEEL)
	$(BIN)/maturin build --profile bench-wheel --locked --interpreter $(BIN)/python --auditwheel skip --out $(RELEASE_WHEEL)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--target $(RELEASE_WHEEL)/installed $(RELEASE_WHEEL)/*.whl
	PYTHONPATH=$(RELEASE_WHEEL)/installed $(BIN)/python benches/python/send_batch.py $(BENCH_ARGS)
	PYTHONPATH=$(RELEASE_WHEEL)/installed $(BIN)/python benches/python/deliver.py $(DELIVER_ARGS)
	PYTHONPATH=$(CURDIR)/$(RELEASE_WHEEL)/installed cargo bench --locked -p benches --features jemalloc --bench drain -- \
		--service $(CURDIR)/$(RELEASE_WHEEL)/installed/bin/zerobus-wal $(DRAIN_ARGS)
	$(BIN)/python benches/python/convert.py $(CONVERT_ARGS)

DOCS_VENV := target/docs-venv
DOCS_TOOLS := $(DOCS_VENV)/.tools
# Options of mkdocs, such as DOCS="serve" for pages that follow while you write.
DOCS ?= build

.PHONY: docs
docs: $(DOCS_TOOLS) ## Builds the documentation into target/site; a broken link or a page that is nowhere listed is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs $(DOCS) --strict

$(DOCS_TOOLS): requirements-docs.txt
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-docs.txt
	touch $@

.PHONY: lint
lint: $(TOOLS) need-cargo ## Checks format, lints, types and workflows
	cargo fmt --all --check
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --locked --workspace --all-targets --features python -- -D warnings
	cargo clippy --locked --package arrow-zerobus-sdk-wrapper -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/zizmor --quiet --offline .github
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --all-features check; \
		else echo 'cargo-deny is not installed, its checks are left out'; fi

.PHONY: clean
clean: ## Removes everything that was made here
	rm -rf $(VENV) target .mypy_cache .pytest_cache .ruff_cache

.PHONY: need-cargo
need-cargo:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust 1.90 or newer from https://rustup.rs' >&2; exit 1; }

$(TOOLS): requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is missing: install Python 3.11 or newer, or say which: make PYTHON=…' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed, say which: make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.txt
	touch $@

$(WHEEL): $(TOOLS) $(SOURCES) | need-cargo
	rm -rf target/wheels
	$(BIN)/maturin build --locked --interpreter $(BIN)/python --auditwheel skip --out target/wheels
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall target/wheels/*.whl
	touch $@
