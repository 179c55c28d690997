# Every target does its own set-up: packages a build needs, and RocksDB built once per machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# ROCKSDB_LIB_DIR points cargo at the cached library; `make setup` also writes it for plain cargo calls.
WITH_ROCKSDB = dir=$$(bash .ci/rocksdb); export ROCKSDB_LIB_DIR=$$dir ROCKSDB_STATIC=1;

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what the build needs, and let plain cargo find the cached RocksDB
	@bash .ci/setup
	@$(WITH_ROCKSDB) mkdir -p .cargo; \
	printf '# Written by make setup.\n[env]\nROCKSDB_LIB_DIR = "%s"\nROCKSDB_STATIC = "1"\n' "$$dir" > .cargo/config.toml.new; \
	cmp -s .cargo/config.toml.new .cargo/config.toml && rm .cargo/config.toml.new || mv .cargo/config.toml.new .cargo/config.toml
