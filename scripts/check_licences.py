"""Checks licences, sources and wildcards of all dependencies against deny.toml, without cargo-deny.

A stand-in for machines that lack cargo-deny: it reads the licence that each crate states, not its licence
files, and knows nothing of security advisories.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def metadata() -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def tokens(expression: str) -> list[str]:
    # Old crates write "MIT/Apache-2.0" for "MIT OR Apache-2.0".
    spaced = expression.replace("/", " OR ")
    return re.findall(r"\(|\)|[^\s()]+", re.sub(r"(\S+)\s+WITH\s+(\S+)", r"\1_WITH_\2", spaced))


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with the allowed licences. AND binds before OR."""
    stream = tokens(expression)

    def licence() -> bool:
        token = stream.pop(0)
        if token != "(":
            return token.replace("_WITH_", " WITH ") in allowed
        inside = either()
        stream.pop(0)
        return inside

    def both() -> bool:
        value = licence()
        while stream and stream[0] == "AND":
            stream.pop(0)
            value &= licence()
        return value

    def either() -> bool:
        value = both()
        while stream and stream[0] == "OR":
            stream.pop(0)
            value |= both()
        return value

    value = either()
    return value and not stream


def licence_problems(packages: list[dict], rules: dict) -> list[str]:
    allowed = set(rules["allow"])
    exceptions = {row["crate"]: set(row["allow"]) for row in rules.get("exceptions", [])}
    problems = []
    for package in packages:
        stated = package["license"]
        name = f"{package['name']} {package['version']}"
        if not stated:
            problems.append(f"{name} states no licence")
        elif not is_allowed(stated, allowed | exceptions.get(package["name"], set())):
            problems.append(f"{name}: licence '{stated}' is not allowed by deny.toml")
    return problems


def source_problems(packages: list[dict]) -> list[str]:
    problems = []
    registries = {p["source"] for p in packages if p["source"] and p["source"].startswith(("registry+", "sparse+"))}
    if len(registries) > 1:
        problems.append("crates come from more than one registry")
    for package in packages:
        source = package["source"]
        if source and source not in registries:
            problems.append(f"{package['name']} {package['version']} comes from {source}, not from the registry")
        elif source is None and not Path(package["manifest_path"]).is_relative_to(ROOT):
            problems.append(f"{package['name']} lies outside this repository")
    return problems


def wildcard_problems(packages: list[dict]) -> list[str]:
    return [
        f"{package['name']} depends on {needed['name']} without a version"
        for package in packages
        if package["source"] is None
        for needed in package["dependencies"]
        if needed["req"] == "*" and not needed.get("path")
    ]


def several_versions(packages: list[dict]) -> list[str]:
    versions = defaultdict(list)
    for package in packages:
        versions[package["name"]].append(package["version"])
    return [f"{name} {', '.join(sorted(found))}" for name, found in sorted(versions.items()) if len(found) > 1]


def main() -> int:
    packages = metadata()["packages"]
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    problems = licence_problems(packages, rules["licenses"]) + source_problems(packages) + wildcard_problems(packages)
    for problem in problems:
        print(f"check_licences: {problem}", file=sys.stderr)
    if several := several_versions(packages):
        print(f"check_licences: warning: in several versions: {'; '.join(several)}")
    verdict = f"{len(problems)} problems" if problems else "fine"
    print(f"check_licences: {len(packages)} crates: {verdict}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
