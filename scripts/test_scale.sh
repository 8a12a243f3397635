#!/usr/bin/env bash
# Tests framerail on Ray, on Daft, in NeMo Curator's stages, with torchdata and with an S3 server on loopback, which are installed into a
# separate environment. PyTorch comes from that of the readers where `make test-torch` has made it; without it the tests of training are skipped.
#
#   scripts/test_scale.sh [ARG..]            with arguments of pytest
#   SCALE_OPTIONAL=1 scripts/test_scale.sh   does nothing where the packages cannot be had
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${FRAMERAIL_HOME:-$PWD/.framerail}
environment=$home/scale-venv
list=scripts/requirements/scale.txt
# NeMo Curator and torchdata: their modules that are tested need none of NVIDIA's packages.
more=scripts/requirements/scale-without-dependencies.txt
install=("$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary=:all:)
if ! cat "$list" "$more" | cmp -s - "$environment/requirements.txt"; then
    rm -rf "$environment"
    "${FRAMERAIL_PYTHON:-python3}" -m venv "$environment"
    if ! { "${install[@]}" -r "$list" && "${install[@]}" --no-deps -r "$more"; }; then
        rm -rf "$environment"
        if [[ ${SCALE_OPTIONAL:-0} == 1 ]]; then
            echo 'Ray and its packages cannot be installed here: framerail.ray is NOT tested.'
            exit 0
        fi
        exit 1
    fi
    cat "$list" "$more" >"$environment/requirements.txt"
fi
readers=$(compgen -G "$home/readers-venv/lib/python3*/site-packages" || true)
echo "$readers" >"$(echo "$environment"/lib/python3*/site-packages)/readers.pth"

cargo build -p framerail-python
cp "${CARGO_TARGET_DIR:-target}/debug/lib_framerail.so" python/framerail/.compiled.partial
mv python/framerail/.compiled.partial python/framerail/_framerail.abi3.so
FRAMERAIL_HOME=$home FRAMERAIL_SOURCES=$PWD PYTHONPATH=$PWD/python "$environment/bin/python" -m pytest -q -p no:cacheprovider python/tests/scale python/tests/test_ranks.py "$@"
