#!/usr/bin/env bash
# Checks texts and scripts without building anything: spelling, vocabulary, Python, shell, Dockerfiles, workflows, changelog.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=${FRAMERAIL_HOME:-$PWD/.framerail}/lint-venv/bin
status=0

check() {
    printf 'check: %s\n' "$1"
    shift
    "$@" || status=1
}

mapfile -t shell < <(git ls-files '*.sh' '.ci/run')
mapfile -t dockerfiles < <(git ls-files '*Dockerfile*' '*.dockerfile')
mapfile -t workflows < <(git ls-files '.github/workflows/*.yml')

check spelling "$tools/codespell" --config scripts/codespell.cfg README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md \
    changelog.d docs examples crates python scripts packaging
check vocabulary "$tools/python" scripts/check_words.py
check python "$tools/ruff" check --quiet --select E9,F python/framerail scripts
check shell "$tools/shellcheck" --severity=warning --exclude=SC1007 "${shell[@]}"
((${#dockerfiles[@]} == 0)) || check dockerfiles "$tools/hadolint" --config packaging/hadolint.yaml "${dockerfiles[@]}"
((${#workflows[@]} == 0)) || check workflows "$tools/check-jsonschema" --builtin-schema vendor.github-workflows "${workflows[@]}"
check msrv "$tools/python" scripts/check_msrv.py
exit "$status"
