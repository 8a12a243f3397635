#!/usr/bin/env bash
# Runs the commands of docs/first-hour.md in a scratch folder and compares their output with the page's, numbers aside.
#
#   scripts/first_hour.sh            with target/release (make demo first), and the Python package of PYTHONPATH
#   scripts/first_hour.sh --no-rust  without building the stage in Rust
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CHECKOUT=$PWD FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
export PATH=${FRAMERAIL_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/release}:$FRAMERAIL_HOME/python-venv/bin:$PATH
export PYTHONPATH=${PYTHONPATH:-$PWD/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$CHECKOUT/crates/my-stage"; git -C "$CHECKOUT" checkout -q -- Cargo.lock' EXIT
cp "$FRAMERAIL_HOME/clips/carphone_pristine.mp4" "$scratch/in.mp4"

python3 - "${1:-}" "$scratch" <<'PY'
import os, re, subprocess, sys

option, scratch = sys.argv[1:]
page = open("docs/first-hour.md", encoding="utf-8").read()
blocks = re.findall(r"^```(sh|text)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
plain = lambda text: [re.sub(r"[\d.]+", "#", line.strip()) for line in text.splitlines() if line.strip()]
output = ""
for language, block in blocks:
    if language == "sh":
        if option == "--no-rust" and "cargo run" in block:
            continue
        print(block, end="", flush=True)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output = done.stdout
        print(re.sub("^", "    ", output, flags=re.MULTILINE).rstrip(" "), flush=True)
        if done.returncode:
            sys.exit(f"first_hour: exit code {done.returncode}")
    else:
        missing = [line for line in plain(block) if line not in plain(output)]
        if missing:
            sys.exit(f"first_hour: docs/first-hour.md shows what the command does not print: {missing}")
print("first_hour: every command of the page works")
PY
