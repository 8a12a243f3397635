#!/usr/bin/env python3
"""Writes a CycloneDX list of all crates that the program links, with versions, licences and checksums.

    scripts/sbom.py [--package framerail-cli] [--output target/framerail.cdx.json]

Libraries that are linked or loaded besides crates (FFmpeg, ONNX Runtime, NVIDIA's) are listed by name and licence; their versions depend on the
machine of the build.
"""

import argparse
import json
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = [
    ("FFmpeg", "LGPL-2.1-or-later OR GPL-2.0-or-later", "linked, or inside programs of make static (GPL there: x264) and wheels (LGPL; GPL in framerail-gpl)"),
    ("x264", "GPL-2.0-or-later", "inside programs of make static and make wheel-gpl"),
    ("OpenH264", "BSD-2-Clause", "inside wheels of make wheel"),
    ("dav1d", "BSD-2-Clause", "inside programs of make static and wheels"),
    ("zlib", "Zlib", "inside programs of make static and wheels"),
    ("ONNX Runtime", "MIT", "loaded at run time"),
    ("CUDA driver, NVRTC, cuDNN", "LicenseRef-NVIDIA", "loaded at run time where present"),
]


def metadata() -> dict:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(data: dict, package: str) -> set[str]:
    """Ids of the packages that `package` links: normal dependencies, and theirs."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    waiting = [one["id"] for one in data["packages"] if one["name"] == package]
    found: set[str] = set()
    while waiting:
        identity = waiting.pop()
        if identity in found:
            continue
        found.add(identity)
        for needed in nodes[identity]["deps"]:
            if any(kind["kind"] is None for kind in needed["dep_kinds"]):
                waiting.append(needed["pkg"])
    return found


def checksums() -> dict[tuple[str, str], str]:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    return {(one["name"], one["version"]): one["checksum"] for one in lock["package"] if "checksum" in one}


def component(package: dict, hashes: dict) -> dict:
    name, version = package["name"], package["version"]
    made = {"type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}"}
    if package["license"]:
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := hashes.get((name, version)):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", default="framerail-cli")
    parser.add_argument("--output", type=Path, default=ROOT / "target" / "framerail.cdx.json")
    arguments = parser.parse_args()
    data = metadata()
    wanted = linked(data, arguments.package)
    packages = sorted((one for one in data["packages"] if one["id"] in wanted), key=lambda one: (one["name"], one["version"]))
    hashes = checksums()
    version = next(one["version"] for one in packages if one["name"] == arguments.package)
    natives = [
        {"type": "library", "name": name, "licenses": [{"expression": licence}], "description": note} for name, licence, note in LIBRARIES
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "framerail", "version": version}},
        "components": [component(one, hashes) for one in packages] + natives,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"sbom: {len(packages)} crates and {len(natives)} libraries in {arguments.output}")


if __name__ == "__main__":
    main()
