#!/usr/bin/env bash
# Packs a built program as an archive for any Linux: scripts/package_binary.sh PROGRAM FOLDER
#
# The archive has the program, model cards, models for faces and persons if setup has installed them, manual pages, shell
# completions and licences. With the static program (.framerail/static/bin/framerail) it needs glibc alone.
set -euo pipefail
(($# == 2)) || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
program=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$("$program" --version | cut -d ' ' -f 2)
name=framerail-$version-$(uname -m)-linux
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
top=$scratch/$name
mkdir -p "$top"/{completions,models,licences}
install -m 755 "$program" "$top/framerail"
"$program" man "$top/man/man1"
for shell in bash zsh fish; do "$program" completions "$shell" >"$top/completions/framerail.$shell"; done
cp models/*.toml "$top/models/"
for model in centerface face-mesh face-full-range person-mask; do
    file=${FRAMERAIL_HOME:-$PWD/.framerail}/models/$model.onnx
    if [[ -f $file ]]; then cp "$file" "$top/models/"; else echo "package: without $model: run scripts/setup.sh demo to include it" >&2; fi
done
for licence in "${FRAMERAIL_HOME:-$PWD/.framerail}"/models/*.LICENSE; do
    if [[ -f $licence ]]; then cp "$licence" "$top/licences/"; fi
done
cp README.md CHANGELOG.md "$top/"
cp LICENSE-APACHE LICENSE-MIT python/NOTICE "$top/licences/"
# The same program gives the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='2000-01-01' -C "$scratch" -cz -f "$folder/$name.tar.gz" "$name"
echo "package: $folder/$name.tar.gz"
