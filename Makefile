# SPDX-License-Identifier: Apache-2.0
# The front door. `make help` says what there is. PRESET=NAME takes another preset of CMakePresets.json.
PRESET ?= dev
BUILD := build/$(PRESET)
JOBS ?= $(shell nproc)
# Tests start processes and wait for them for much of their time.
TEST_JOBS ?= $(shell expr $(JOBS) + 1)
PYTHON := /usr/bin/python3
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help run build install test bench test-benchmark lint format docs soak clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

run: build ## Install what is missing, build, run the quickstart
	@BIN=$(CURDIR)/bin/aether examples/quickstart/run

build: ## Build bin/aether, bin/aeterna and bin/aetheris
	@scripts/install-deps --run
	@scripts/configure $(PRESET)
	@ninja -C $(BUILD) -j $(JOBS) aether
	@mkdir -p bin
	@install -m 755 $(BUILD)/bin/aether bin/aether
	@ln -sf aether bin/aeterna
	@ln -sf aether bin/aetheris

PREFIX ?= /usr/local
install: build ## Install below PREFIX (/usr/local): the program, and the libraries it gives to handlers
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX) --component aether

test: ## Build everything and run every test
	@scripts/install-deps --test
	@scripts/install-criu || echo "no CRIU works here: the tests of images are skipped"
	@scripts/configure $(PRESET)
	@ninja -C $(BUILD) -j $(JOBS)
	@tests/run $(BUILD) -j $(TEST_JOBS) $(CTEST_ARGUMENTS)

bench: build ## Run the benchmarks; prints a table, writes JSON
	@scripts/install-deps --bench --test
	@scripts/install-criu || echo "no CRIU works here: images are not measured"
	@bench/run

soak: build ## A million requests over a hundred swaps for each server (SERVER=uvicorn: only that one)
	@scripts/install-deps --bench --test
	@bench/soak $(if $(SERVER),--server $(SERVER))

test-benchmark: bench ## The same as bench

lint: ## Check format, style and clang-tidy on what has changed
	@scripts/install-deps --run --lint
	@scripts/lint

format: ## Format every C++ file
	@scripts/install-deps --lint
	@git ls-files -co --exclude-standard -- '*.cc' '*.h' | xargs clang-format-19 -i

docs: ## Write the generated pages of docs/ again
	@scripts/install-deps --run
	@scripts/configure $(PRESET)
	@ninja -C $(BUILD) -j $(JOBS) generate_docs
	@scripts/generate-docs $(BUILD)/bin/generate_docs

clean: ## Remove everything that was built
	rm -rf build bin
