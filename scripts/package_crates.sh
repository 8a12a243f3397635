#!/usr/bin/env bash
# Packs every public crate as for the registry (in target/package/) and checks the manifests; nothing is published.
#
#   scripts/package_crates.sh            pack only
#   scripts/package_crates.sh --verify   also build every packed crate
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t public < <(cargo metadata --no-deps --format-version=1 --locked | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["publish"] is None and "/crates/" in package["manifest_path"]:
        missing = [key for key in ("description", "license", "keywords", "categories", "rust_version") if not package[key]]
        if missing:
            sys.exit(package["name"] + " lacks " + ", ".join(missing))
        print(package["name"])
')
((${#public[@]})) || { echo 'package: no public crates were found' >&2; exit 1; }
flags=(--locked --allow-dirty)
[[ ${1:-} == --verify ]] || flags+=(--no-verify)
cargo package --quiet "${flags[@]}" "${public[@]/#/--package=}"
# A crate may not need files of its neighbours: they are not in its package.
for name in "${public[@]}"; do
    if grep -rnE 'include_(str|bytes)!\("(\.\./){2,}[a-z]+' "crates/$name/src" | grep -vE '"(\.\./)+(cards|fonts|page|kernels)/'; then
        echo "package: $name includes files outside its folder" >&2
        exit 1
    fi
done
printf 'package: %d crates packed: %s\n' "${#public[@]}" "${public[*]}"
