#!/usr/bin/env python3
"""Resolves Python packages and prints a pinned, hashed requirements list for each supported interpreter.

    scripts/pin_requirements.py [--python 3.11,3.12] PACKAGE ... >> scripts/requirements/LIST.txt

The comment at the head of a list says which packages it was made from. Linux x86_64 wheels only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict


def resolve(python: str, packages: list[str]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("2014", "_2_17", "_2_27", "_2_28")]
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:"]
        command += ["--report=-", f"--python-version={python}", f"--target={folder}", *platforms, *packages]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["install"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.11,3.12,3.13,3.14", help="interpreter versions, separated by commas")
    parser.add_argument("packages", nargs="+")
    arguments = parser.parse_args()
    versions: dict[str, set[str]] = defaultdict(set)
    hashes: dict[str, set[str]] = defaultdict(set)
    for python in arguments.python.split(","):
        for found in resolve(python, arguments.packages):
            name = found["metadata"]["name"].lower().replace("_", "-")
            versions[name].add(found["metadata"]["version"])
            hashes[name].add(found["download_info"]["archive_info"]["hashes"]["sha256"])
    for name in sorted(versions):
        if len(versions[name]) > 1:
            raise SystemExit(f"pin_requirements: {name} has several versions: {', '.join(sorted(versions[name]))}; pin it")
        lines = [f"{name}=={next(iter(versions[name]))}", *(f"    --hash=sha256:{one}" for one in sorted(hashes[name]))]
        print(" \\\n".join(lines))


if __name__ == "__main__":
    main()
