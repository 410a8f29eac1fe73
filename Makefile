# The front door. `make demo` and `make test` need only Rust, Python 3.9+, make and a C compiler: they install the rest.
.DEFAULT_GOAL := help
SHELL := bash

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

.PHONY: demo
demo: ## build, start the embedded backend, run the example workflow with stock pyflyte, stop
	@scripts/prepare demo
	@scripts/demo

.PHONY: test
test: ## every test: Rust (SQLite and PostgreSQL), then stock flytekit, boto3 and kubectl
	@scripts/prepare test
	cargo build --workspace --bins --examples
	cargo test --workspace --no-fail-fast
	.venv/bin/python -m pytest tests/python

.PHONY: test-kubernetes
test-kubernetes: KUBERNETES_TESTS ?= tests/python
test-kubernetes: ## the engine's tests and those of the API on a real kube-apiserver and etcd, built here; KUBERNETES_TESTS=FILES for some
	tests/kubernetes/build.sh target/kubernetes
	@scripts/prepare test
	cargo build --workspace --bins
	.venv/bin/python -m pytest $(KUBERNETES_TESTS) --cluster kubernetes

.PHONY: fuzz
fuzz: ## random requests to every port, an hour each; FLYTE_FUZZ_SECONDS=600 for less, FLYTE_FUZZ_SEED=1 for those of a seed
	@scripts/prepare test
	cargo build --workspace --bins
	FLYTE_FUZZ_SEED=$${FLYTE_FUZZ_SEED:-random} FLYTE_FUZZ_SECONDS=$${FLYTE_FUZZ_SECONDS:-3600} \
		.venv/bin/python -m pytest tests/python -k test_fuzz -s

.PHONY: record-kubernetes
record-kubernetes: ## ask a real kube-apiserver (built here, needs Go) about the objects of tests/kubernetes again
	tests/kubernetes/build.sh target/kubernetes
	.venv/bin/python tests/kubernetes/record.py --programs target/kubernetes

.PHONY: lint
lint: ## what CI checks before the tests: fmt, clippy, links of docs, deny, orphans, citations, reference
	@scripts/prepare deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D rustdoc::broken_intra_doc_links -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --quiet
	target/tools/cargo-deny/bin/cargo-deny --workspace check bans licenses sources
	cargo xtask orphans
	cargo xtask citations
	cargo xtask reference --check

.PHONY: bench
bench: ## measure the whole embedded backend, release build; ARGUMENTS="--shape one" for less, "--help" for more
	cargo run --release --package flyte-benches -- $(ARGUMENTS)

.PHONY: docs
docs: ## the reference pages in docs/reference, and API documentation of every crate under target/doc
	cargo xtask reference
	cargo doc --workspace --no-deps
