# What a user of a checkout needs. Everything else is plain cargo.

TARGET := $(or $(CARGO_TARGET_DIR),target)
HULLWATCH := $(TARGET)/release/hullwatch
# Watching and containers need root; building does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Seconds that each fuzz target runs.
SECONDS ?= 60

.PHONY: help run demo test conformance browser kernels bench fuzz build rust root

help:
	@echo 'make run         install what is missing, build, and watch every container on this machine (ARGS="..." for options)'
	@echo 'make demo        watch while every simulation is performed, and show the findings'
	@echo 'make test        install what is missing, and run all tests, those in real containers too'
	@echo 'make conformance run the clients of Google and schemathesis against the API, and check what is sent on'
	@echo 'make browser     drive the review page in headless Chromium; leaves pictures in e2e/browser/artifacts'
	@echo 'make kernels     watch simulations on kernels of other versions, in an emulated machine'
	@echo 'make bench       measure, and print one table'
	@echo 'make fuzz        run every fuzz target for SECONDS=60 each'

run: root build
	$(SUDO) $(HULLWATCH) run $(ARGS)

demo: root build
	@scripts/install demo
	@$(SUDO) scripts/demo $(HULLWATCH)

test: root rust
	@scripts/install build test
	@scripts/test

conformance: rust
	@scripts/install build clients
	@crates/server/conformance/run $(ARGS)

browser: rust
	@scripts/install build clients
	@scripts/browser

kernels: rust
	@scripts/install build kernels
	cargo build --package hullwatch
	@scripts/kernels $(TARGET)/debug/hullwatch $(ARGS)

bench: root rust
	@scripts/install build test
	cargo build --release --package hullwatch --package bench
	$(SUDO) $(TARGET)/release/bench $(ARGS)

fuzz: rust
	@scripts/install build
	scripts/fuzz $(SECONDS)

build: rust
	@scripts/install build
	cargo build --release --package hullwatch

# An older Rust fails at the first manifest it does not understand, and says nothing that helps.
rust:
	@command -v cargo >/dev/null || { echo "There is no cargo in PATH. Install Rust from https://rustup.rs$${SUDO_USER:+, or run make without sudo: it asks for root where it needs it}." >&2; exit 1; }
	@needed=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); has=$$(rustc --version | cut -d' ' -f2); \
		printf '%s\n' "$$needed" "$$has" | sort -C -V || \
		{ echo "Rust $$needed or later is needed, this is $$has. Get it with rustup update, or from https://rustup.rs." >&2; exit 1; }

root:
	@[ -z '$(SUDO)' ] || command -v sudo >/dev/null || \
		{ echo 'Watching and containers need root: install sudo, or run make as root.' >&2; exit 1; }
