# Two commands do all the set-up on a fresh Debian 12 or 13, as root:
#
#     make demo    build lap, build a real Dockerfile with it, run the result
#     make test    check formatting, lints and house rules, and run all tests
#
# Everything goes below target/ (or $CARGO_TARGET_DIR), but for the packages that scripts/setup installs.

# Rust from rustup, which setup may have installed a moment ago.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
MAKEFLAGS += --no-print-directory

.PHONY: help build demo test soak lint bench setup-build setup-test setup-demo setup-bench

help:
	@echo 'make demo    set up, build lap, and show it at work'
	@echo 'make test    set up, and run all checks and tests'
	@echo 'make soak    the long form of the tests that shake the store: SECONDS=300 for each'
	@echo 'make build   set up, and build $(TARGET_DIR)/lap'
	@echo 'make lint    formatting, clippy and house rules'
	@echo 'make bench   measure lap beside the installed peers'

# What setup installs depends on what is to be done.
setup-build setup-test setup-demo setup-bench: setup-%:
	@scripts/setup $*

build: setup-build
	cargo build --locked --release --package cli
	@ln -sf "$$(rustc -vV | sed -n 's/^host: //p')/release/lap" '$(TARGET_DIR)/lap'
	@ls -lL '$(TARGET_DIR)/lap'

demo: setup-demo build
	@demo/run '$(abspath $(TARGET_DIR))'

test: setup-test lint
	cargo xtask test --locked

# How long each test of the long form takes.
SECONDS ?= 300

soak: setup-test
	LAPSTRAKE_SOAK_SECONDS=$(SECONDS) cargo test --locked --package snapshotter --test stress --test power_loss -- --test-threads=1
	LAPSTRAKE_SOAK_SECONDS=$(SECONDS) cargo test --locked --package frontend-tests --test team -- --nocapture

# Shipped code obeys the disallowed calls of clippy.toml; tests may start processes and read the clock.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace -- -D warnings
	cargo clippy --locked --workspace --all-targets -- -D warnings \
		-A clippy::disallowed_methods -A clippy::disallowed_macros
	cargo xtask tidy
	cargo xtask coverage --deny-missing

bench: setup-bench build
	cargo run --locked --release --package bench -- --lap '$(abspath $(TARGET_DIR))/lap' $(BENCH)
