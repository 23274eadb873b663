# The commands of the README. Each installs what it needs (scripts/setup.sh).
MAKEFLAGS += --no-print-directory
# Servers and account tools are in sbin, which a user's PATH on Debian does not have.
export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/sbin:/sbin

PREFIX ?= /usr/local
# Seconds per fuzz target.
FUZZ_TIME ?= 60

.PHONY: help build install demo test lint bench fuzz clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

build: ## compile the program and its static host helper into target/release
	@scripts/setup.sh build
	cargo build --release --locked --bin relstore
	@scripts/helper.sh release >/dev/null

install: build ## put both programs into PREFIX/bin (default /usr/local)
	@bin=$$(scripts/helper.sh release) && install -D -m 755 -t "$(DESTDIR)$(PREFIX)/bin" "$$bin/relstore" "$$bin/relstore-host"

demo: ## build, deploy, break and roll back a real Laravel application on this machine
	@scripts/setup.sh demo
	cargo build --release --locked --bin relstore
	@bin=$$(scripts/helper.sh release) && scripts/demo.sh "$$bin"

test: ## run all tests, the end-to-end ones against a real server on loopback
	@scripts/test.sh

lint: ## formatting, clippy, dependencies, documentation: warnings are errors
	@scripts/setup.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features e2e --locked -- -D warnings
	cargo deny --workspace --locked check bans licenses sources
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked

bench: ## run the benchmarks, one after another
	@scripts/setup.sh bench
	cargo build --release --locked --bin relstore
	@bin=$$(scripts/helper.sh release) && for bench in benches/*.sh; do "$$bench" "$$bin" || exit; done

fuzz: ## run each decoder's fuzz target for FUZZ_TIME seconds (default 60)
	@scripts/setup.sh fuzz
	@for target in $$(cargo +nightly fuzz list); do \
	    mkdir -p "fuzz/corpus/$$target" "fuzz/corpus-seeds/$$target"; \
	    cargo +nightly fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/corpus-seeds/$$target" -- \
	        -max_total_time=$(FUZZ_TIME) -rss_limit_mb=2048 -malloc_limit_mb=512 || exit; done

clean: ## remove what was compiled and what the tests and the demo left
	cargo clean
	rm -rf /var/tmp/relstore-test /var/tmp/relstore-demo /var/tmp/relstore-bench /var/tmp/relstore-bench-import /var/tmp/relstore-bench-store /dev/shm/relstore-bench-thousand /dev/shm/relstore-bench-remote
