#!/usr/bin/env bash
# Builds the Python package as a wheel with FFmpeg inside, installs it into a fresh environment and runs the Python tests
# there. The wheel serves CPython 3.9 and all later ones (abi3) and needs no package of the system; CUDA, NVDEC and ONNX
# Runtime are found at run time.
#
#   scripts/build_wheel.sh            build and test
#   scripts/build_wheel.sh --no-tests build alone
#
# The wheel comes to FRAMERAIL_CACHE/wheels (.framerail/static/wheels).
#
#   FRAMERAIL_CACHE   where builds are kept (.framerail/static)
#   FRAMERAIL_PYTHON  the Python of the fresh environment
#   V=1               show the output of every tool
#
# The wheel holds x264 and is therefore under the GPL, version 2 or later.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${FRAMERAIL_HOME:-$root/.framerail}
cache=${FRAMERAIL_CACHE:-$home/static}
wheels=$cache/wheels
target=${CARGO_TARGET_DIR:-$root/target}/static

say() { printf 'wheel: %s\n' "$*"; }
die() { printf 'wheel: error: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
'') with_tests=1 ;;
--no-tests) with_tests=0 ;;
*) die "unknown argument '$1'; use: build_wheel.sh [--no-tests]" ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

run() {
    if [[ ${V:-0} == 1 ]]; then "$@"; return; fi
    local status=0
    "$@" >"$scratch/log" 2>&1 || status=$?
    if ((status)); then tail -n 40 "$scratch/log" | sed 's/^/    /' >&2; fi
    return "$status"
}

build() {
    local prefix
    prefix=$(FRAMERAIL_CACHE=$cache "$root/scripts/build_static.sh" --ffmpeg-only) || die "FFmpeg could not be built (see above)"
    say "building the package with FFmpeg of $prefix"
    mkdir -p "$scratch/wheels" "$wheels"
    # An environment without Python's headers or library is enough: the interface is the stable one.
    (cd "$root" && FFMPEG_DIR=$prefix CARGO_TARGET_DIR=$target run nice "$home/python-venv/bin/maturin" build \
        --release --locked --features static-ffmpeg --out "$scratch/wheels") || die 'the wheel could not be built'
    local built=("$scratch"/wheels/*.whl)
    ((${#built[@]} == 1)) || die "expected one wheel, found ${#built[@]}"
    [[ ${built[0]} == *-abi3-manylinux_* ]] || die "$(basename "${built[0]}") is no abi3 manylinux wheel"
    rm -f "$wheels"/framerail-*.whl
    mv "${built[0]}" "$wheels/"
    wheel=$wheels/$(basename "${built[0]}")
    say "$wheel: $(stat -c %s "$wheel" | numfmt --to=iec --suffix=B)"
    say 'it holds x264, so the wheel as a whole is under the GPL, version 2 or later: pass on its source with it'
}

# Everything but NumPy and pytest comes out of the wheel; it is tried from another folder than the sources'.
try() {
    local python=${FRAMERAIL_PYTHON:-$home/python-venv/bin/python} venv=$scratch/venv
    say 'testing it in a fresh environment'
    "$python" -m venv "$venv" || die "$python could not make an environment"
    run "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r "$root/scripts/requirements/python.txt" || die 'pip could not install what the tests need'
    run "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index "$wheel" || die 'pip refuses the wheel'
    cp -r "$root/python/tests" "$root/python/examples" "$scratch/"
    cp "$root/pyproject.toml" "$scratch/"
    local library
    library=$("$venv/bin/python" -c 'import framerail._framerail as compiled; print(compiled.__file__)')
    [[ $library == "$venv"/* ]] || die "the tests would take $library, not the wheel's"
    (cd "$scratch" && FRAMERAIL_HOME=$home FRAMERAIL_SOURCES= "$venv/bin/python" -m pytest -q -p no:cacheprovider tests) ||
        die 'tests failed'
}

"$root/scripts/setup.sh"
build
((!with_tests)) || try
