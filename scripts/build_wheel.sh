#!/usr/bin/env bash
# Builds the Python package as a wheel with FFmpeg inside and tests it in a fresh environment. The wheel runs on glibc 2.28
# and newer (manylinux_2_28), and needs no package of the system; CUDA, NVDEC and ONNX Runtime are found at run time. It holds
# the face detector CenterFace and the program: `framerail` and `python -m framerail`.
#
#   scripts/build_wheel.sh [--gpl] [--python PYTHON] [--no-tests]
#
#   --gpl             `framerail-gpl`: x264 encodes H.264, so the wheel as a whole is under the GPL. By default `framerail`:
#                     OpenH264 encodes it and nothing is under the GPL. Both read alike, and hold the same package.
#   --python PYTHON   for one interpreter, such as python3.14t. By default one wheel for CPython 3.9 and all later ones (abi3).
#   --no-tests        only build, and check with auditwheel
#
# Wheels come to FRAMERAIL_CACHE/wheels (.framerail/static/wheels).
#
#   FRAMERAIL_CACHE   where builds are kept (.framerail/static)
#   FFMPEG_DIR        a folder with static libraries of another FFmpeg, their licence texts in `licences`
#   FRAMERAIL_PYTHON  the Python of the fresh environment
#   V=1               show the output of every tool
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${FRAMERAIL_HOME:-$root/.framerail}
cache=${FRAMERAIL_CACHE:-$home/static}
wheels=$cache/wheels
target=${CARGO_TARGET_DIR:-$root/target}/wheel
tools=$home/wheel-venv/bin
policy=manylinux_2_28

say() { printf 'wheel: %s\n' "$*"; }
die() { printf 'wheel: error: %s\n' "$*" >&2; exit 1; }

kind=lgpl
name=framerail
# Of FFmpeg's libraries and the compiler's, which both kinds have.
parts='LGPL-2.0-or-later AND BSD-2-Clause AND BSD-3-Clause AND BSD-3-Clause-Clear AND Zlib AND Apache-2.0 WITH LLVM-exception'
licence="(MIT OR Apache-2.0) AND LGPL-2.1-or-later AND $parts"
interpreter=
with_tests=1
while (($#)); do
    case $1 in
    --gpl)
        kind=gpl
        name=framerail-gpl
        licence="(MIT OR Apache-2.0) AND GPL-2.0-or-later AND $parts"
        ;;
    --python)
        interpreter=${2:-}
        [[ -n $interpreter ]] || die '--python needs an interpreter'
        shift
        ;;
    --no-tests) with_tests=0 ;;
    *) die "unknown argument '$1'; use: build_wheel.sh [--gpl] [--python PYTHON] [--no-tests]" ;;
    esac
    shift
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

run() {
    if [[ ${V:-0} == 1 ]]; then "$@"; return; fi
    local status=0
    "$@" >"$scratch/log" 2>&1 || status=$?
    if ((status)); then tail -n 40 "$scratch/log" | sed 's/^/    /' >&2; fi
    return "$status"
}

# maturin, zig, meson and auditwheel, in an environment with exactly what the list pins.
install_tools() {
    local list=$root/scripts/requirements/wheel.txt stamp=$home/wheel-venv/installed
    if cmp -s "$list" "$stamp"; then return; fi
    say "making $home/wheel-venv from $(basename "$list")"
    rm -rf "${home:?}/wheel-venv"
    "$home/python-venv/bin/python" -m venv "$home/wheel-venv" || die 'the environment could not be made'
    run "$tools/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r "$list" ||
        die "pip could not install $list (see above; is the network there?)"
    cp "$list" "$stamp"
}

# maturin's abi3 is a feature of the crate; a build for one interpreter leaves it out.
features() {
    if [[ -z $interpreter ]]; then echo --features static-ffmpeg; else echo --no-default-features --features static-ffmpeg --interpreter "$interpreter"; fi
}

build() {
    local prefix built options compilers=$cache/zig-2.28
    prefix=${FFMPEG_DIR:-$(FRAMERAIL_CACHE=$cache "$root/scripts/build_ffmpeg.sh" "$kind")} || die 'FFmpeg could not be built (see above)'
    FRAMERAIL_CACHE=$cache "$root/scripts/build_ffmpeg.sh" compilers || die 'there are no compilers (see above)'
    say "building the package with FFmpeg of $prefix"
    mkdir -p "$scratch/wheels" "$wheels"
    read -ra options <<<"$(features)"
    # The compilers for glibc 2.28, and the linker for the package alone: programs of the build run here. Nothing of debugging is left in
    # a wheel, so none is made.
    (cd "$root" && export FFMPEG_DIR=$prefix CARGO_TARGET_DIR=$target PATH=$tools:$PATH CARGO_PROFILE_RELEASE_DEBUG=0 \
        CC_x86_64_unknown_linux_gnu=$compilers/cc CXX_x86_64_unknown_linux_gnu=$compilers/c++ &&
        run nice "$tools/maturin" build --release --locked --compatibility "$policy" "${options[@]}" --out "$scratch/wheels" -- \
            -C "linker=$compilers/rust-gcc") ||
        die 'the wheel could not be built'
    built=("$scratch"/wheels/*.whl)
    ((${#built[@]} == 1)) || die "expected one wheel, found ${#built[@]}"
    wheel=$("$tools/python" "$root/scripts/finish_wheel.py" "${built[0]}" --out "$wheels" --name "$name" --licence "$licence" \
        --licences "$prefix/licences" --add "$home/models/centerface.onnx=framerail/models/centerface.onnx" \
        --add "$home/models/centerface.LICENSE=framerail/models/centerface.LICENSE") ||
        die 'the wheel could not be named'
    "$tools/auditwheel" show "$wheel" | tee "$wheel.audit.txt" | sed 's/^/    /'
    grep -q "\"${policy}_x86_64\"" "$wheel.audit.txt" || die "auditwheel does not find the wheel to be $policy"
    say "$wheel: $(stat -c %s "$wheel" | numfmt --to=iec --suffix=B), $licence"
}

# Everything but NumPy and pytest comes out of the wheel; it is tested from another folder than the sources'.
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
    [[ $library == "$venv"/* ]] || die "the tests would use $library, not the wheel's"
    (cd "$scratch" && FRAMERAIL_HOME=$home FRAMERAIL_SOURCES= "$venv/bin/python" -m pytest -q -p no:cacheprovider tests) ||
        die 'tests failed'
}

"$root/scripts/setup.sh" test
install_tools
build
((!with_tests)) || try
