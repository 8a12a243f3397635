#!/usr/bin/env python3
"""Checks that the Rust version in Cargo.toml is one that every locked dependency supports, and the one that texts name."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["README.md", "CONTRIBUTING.md", "docs/install.md", "docs/support.md"]


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))[:2]


def main() -> int:
    stated = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["rust-version"]
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    needing = [f"{one['name']} {one['version']} needs {one['rust_version']}" for one in packages if one["rust_version"] and version(one["rust_version"]) > version(stated)]
    texts = [
        f"{name} says Rust {found}"
        for name in TEXTS
        for found in re.findall(r"Rust (1\.\d+)", (ROOT / name).read_text(encoding="utf-8"))
        if found != stated
    ]
    for problem in needing + texts:
        print(f"check_msrv: Cargo.toml states Rust {stated}; {problem}", file=sys.stderr)
    return 1 if needing or texts else 0


if __name__ == "__main__":
    sys.exit(main())
