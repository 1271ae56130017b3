# The commands of the README. Each installs what it needs (Debian packages, PyPI), and is quick when all is there.
# Debian 12 or newer; any Linux that has the same tools.

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup setup-cluster try-images demo test lint bench bench-large
.DEFAULT_GOAL := help

help:
	@echo 'make demo   two agents, one record: the whole story against an emulator, in half a minute after the build'
	@echo 'make test   all tests, unmodified clients included'
	@echo 'make lint   format, clippy, licences, advisories'
	@echo 'make try-images  the images of the Dockerfile, built and run without a registry (root, a few minutes)'
	@echo 'make bench  figures beside what they are to reach, in about seven minutes after the build'
	@echo 'make bench-large  searches in a log of ten million entries: half an hour, 20 GB of disk meanwhile'

# What a fresh machine lacks.
setup:
	@tests/setup/machine.sh
	@tests/setup/python.sh
	@tests/setup/node.sh
	@tests/setup/java.sh

# The images of the Dockerfile, with this machine's build of the programs, and each program run in its image. Needs root.
try-images:
	@tests/setup/machine.sh
	cargo build --workspace --bins
	@tests/setup/images.sh

# A Kubernetes control plane for the tests, built once in ten minutes or so, and what tests alerts.
setup-cluster:
	@tests/setup/cluster.sh
	@tests/setup/promtool.sh

# The programs are built before the tests, which start them.
demo: setup
	cargo build --workspace --bins
	@target/debug/demo

test: setup setup-cluster
	cargo build --workspace --bins
	cargo test --workspace

lint:
	@tests/setup/machine.sh
	@tests/setup/lint.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	"$$(cat target/cargo-deny)" --log-level error check bans licenses sources
	@if "$$(cat target/cargo-deny)" fetch db >/dev/null 2>&1; \
	  then "$$(cat target/cargo-deny)" --log-level error check --disable-fetch advisories; \
	  else echo 'lint: ADVISORIES NOT CHECKED: their database cannot be fetched from here'; fi

bench:
	@tests/setup/machine.sh
	@tests/setup/bench.sh
	@tests/setup/cluster.sh || echo 'NO CONTROL PLANE CAN BE BUILT HERE: make bench will leave the operator out'
	cargo build --release --workspace --bins
	@target/release/bench

# Searches at ten million entries; a bundle of everything is measured at a million, by `make bench`.
bench-large:
	@tests/setup/machine.sh
	cargo build --release --workspace --bins
	@target/release/bench --only evidence --entries 10000000
