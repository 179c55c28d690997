# Every target does its own set-up: packages a build needs, and RocksDB built once per machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

comma := ,

# Points cargo at the cached RocksDB; `make setup` writes it for plain cargo calls as well.
WITH_ROCKSDB = dir=$$(bash .ci/rocksdb); export ROCKSDB_LIB_DIR=$$dir ROCKSDB_STATIC=1;

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what the build needs, and let plain cargo find the cached RocksDB
	@bash .ci/setup
	@$(WITH_ROCKSDB) mkdir -p .cargo; \
	printf '# Written by make setup.\n[env]\nROCKSDB_LIB_DIR = "%s"\nROCKSDB_STATIC = "1"\n' "$$dir" > .cargo/config.toml.new; \
	if cmp -s .cargo/config.toml.new .cargo/config.toml; then rm .cargo/config.toml.new; \
	else mv .cargo/config.toml.new .cargo/config.toml; fi

.PHONY: demo
demo: ## The whole way on this machine, with figures; EXIT=1 ends by itself
	@begun=$$(date +%s); $(MAKE) --no-print-directory release; \
	export HASHWARD_BUILD_SECONDS=$$(( $$(date +%s) - begun )); \
	exec target/release/hashward demo $(if $(EXIT),--exit)

.PHONY: release
release: setup
	@cargo build --release --locked -p engine -p loadtest -p tests --bins

.PHONY: test
test: setup ## Everything CI runs
	@bash .ci/test

.PHONY: bench
bench: setup ## Micro-benchmarks of kernels and search
	@cargo bench --locked -p benches

.PHONY: bench-peers
bench-peers: release ## Our index against FAISS and python-threatexchange, and over the wire; FULL=1: 10 M as well
	@cargo build --release --locked -p benches
	@python=$$(bash .ci/bench-venv); status=0; \
	"$$python" benches/peers/run.py --bin target/release/hashward-peers --out target/bench \
	  $(if $(FULL),--full) $(BENCH_ARGS) || status=$$?; \
	target/release/hashward-peers nearest $(if $(FULL),--n 10000$(comma)100000) | tee target/bench/nearest.json || status=$$?; \
	target/release/hashward-peers churn | tee target/bench/churn.json || status=$$?; \
	"$$python" benches/peers/wire.py --bin target/release --out target/bench $(WIRE_ARGS) || status=$$?; \
	"$$python" benches/peers/restart.py --bin target/release --out target/bench \
	  $(if $(FULL),--n 10000000) $(RESTART_ARGS) || status=$$?; \
	exit $$status

.PHONY: bench-http
bench-http: release ## HMA's routes under wrk, and hashing beside the reference hasher
	@command -v wrk >/dev/null || { as_root=; [ "$$(id -u)" -eq 0 ] || as_root="sudo -n"; $$as_root apt-get install -y -qq --no-install-recommends wrk >/dev/null; }
	@"$$(bash .ci/bench-venv)" benches/peers/hma.py --bin target/release --out target/bench $(HTTP_ARGS)

.PHONY: bench-cases
bench-cases: release ## Items through 50 live rules; 'next job' with 1 000 000 open hits in 100 000 jobs
	@bash .ci/bench-cases

.PHONY: bench-keys
bench-keys: release ## Lookups by a key with budget and warden beside lookups by the token, in turns
	@bash .ci/bench-keys

.PHONY: bench-reports
bench-reports: release ## Reports an hour to a stand-in for NCMEC, and how long organisations wait for each other
	@bash .ci/bench-reports $(REPORTS_ARGS)

.PHONY: speed
speed: release ## Lookups a second over loopback at 100 000 and 1 000 000 hashes, one shard
	@bash .ci/speed

.PHONY: fuzz
fuzz: ## Fuzz each parser that reads from outside, FUZZ_SECONDS (default 60) a target; needs a nightly toolchain
	@bash .ci/fuzz

.PHONY: fuzz-http
fuzz-http: setup ## Fuzz every route by our own OpenAPI document, FUZZ_EXAMPLES (default 30) an operation and phase
	@bash .ci/fuzz-http

.PHONY: soak
soak: release ## Mixed load, hostile clients and kills for SOAK_SECONDS (default 1800); SOAK_ARGS: see hashward-soak --help
	@HASHWARD_BIN_DIR=target/release target/release/hashward-soak --verbose $(SOAK_ARGS)
