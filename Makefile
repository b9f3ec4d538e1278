# What a developer and CI call. Everything is built into target/ (or CARGO_TARGET_DIR).

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BUF := $(firstword $(wildcard $(TARGET)/tools/bin/buf) $(shell command -v buf))
LOCKED := --locked

.PHONY: help demo demo-full demo-cloud build test test-slow test-nightly soak bench lint format clean-tools
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## a live source, a replica, a kill in the middle, the proof: on this machine, in three minutes
	deploy/install-deps.sh demo
	$(CARGO) build --release $(LOCKED) --workspace --bins
	deploy/demo/run.sh

demo-full: ## the demo, then a Debian that boots on the target only after its conversion: as root, packages of 300 MB, seven minutes more
	deploy/install-deps.sh demo slow
	$(CARGO) build --release $(LOCKED) --workspace --bins
	deploy/demo/run.sh --full

demo-cloud: ## a machine tested on CloudStack with LINSTOR, moved there and brought back: both simulated, with real bytes and guests
	deploy/install-deps.sh demo
	$(CARGO) build --release $(LOCKED) --workspace --bins
	deploy/demo/cloud.sh

build: ## the programs, optimised, in target/release
	deploy/install-deps.sh build
	$(CARGO) build --release $(LOCKED) --workspace --bins

test: ## install what tests need, run all of them
	deploy/install-deps.sh test
	# The end-to-end tests run the programs themselves.
	$(CARGO) build $(LOCKED) --workspace --bins
	$(CARGO) test $(LOCKED) --workspace --no-fail-fast

test-slow: ## conversions by the real virt-v2v, of guests that are made here: packages of 300 MB, some five minutes
	deploy/install-deps.sh test slow
	$(CARGO) test $(LOCKED) --workspace --lib -- --ignored conversion::tests::slow:: --nocapture --test-threads=1

test-nightly: ## the same with a real Debian, which boots on virtio after it and not before: as root, a quarter of an hour
	deploy/install-deps.sh test slow
	$(CARGO) test $(LOCKED) --workspace --lib -- --ignored conversion::tests::nightly:: --nocapture --test-threads=1
	$(CARGO) test $(LOCKED) -p oma-api --lib -- --ignored zone::faults::nightly --nocapture

SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d " "))
KILLS ?= 200
soak: ## two hundred kills among all other faults, and one at every sync of the database, of a new seed: nightly (SEED=… repeats one, KILLS=… for fewer)
	deploy/install-deps.sh test
	$(CARGO) build $(LOCKED) --workspace --bins
	MIGRATEKIT_SEED=$(SEED) MIGRATEKIT_KILLS=$(KILLS) $(CARGO) test $(LOCKED) -p integration-tests --test e2e -- \
	    kills:: links:: clocks:: crowd:: survive:: --nocapture --test-threads=1

bench: ## the data path side by side with nbdcopy and b3sum, the control plane, failovers, also on both simulated targets: optimised build, tables, bench-results/*.json (BENCH=--quick)
	deploy/install-deps.sh test bench
	$(CARGO) build --release $(LOCKED) --bin oma-api --bin vma-agent --bin bench
	# A program of its own, with machines that are only remembered: oma-api has no such thing.
	$(CARGO) build --release $(LOCKED) --bin oma-instant --features oma-api/test-compute
	$(TARGET)/release/bench $(BENCH)

lint: ## formatting, clippy, the schema, dependencies (warnings are errors)
	deploy/install-deps.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	@$(MAKE) --no-print-directory lint-schema lint-dependencies

.PHONY: lint-schema lint-dependencies
lint-schema:
ifeq ($(BUF),)
	@echo "SKIPPED: buf lint (buf is not here)"
else
	cd proto && $(abspath $(BUF)) lint
endif

# Advisories are not among them: they need a database from the network. `cargo deny check advisories` has its day in a
# nightly run.
lint-dependencies:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "cargo deny check bans licenses sources"; $(CARGO) deny --locked check bans licenses sources; \
	else echo "SKIPPED: cargo deny (cargo-deny is not installed)"; fi

format: ## format the sources
	$(CARGO) fmt --all

clean-tools: ## remove what install-deps.sh put into target/tools
	rm -rf "$(TARGET)/tools"
