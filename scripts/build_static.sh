#!/usr/bin/env bash
# Builds one release program with FFmpeg inside: beyond glibc and libgcc_s it needs nothing, and it finds CUDA,
# NVDEC and ONNX Runtime at run time. scripts/build_ffmpeg.sh builds FFmpeg, once for each set of versions and flags.
#
#   scripts/build_static.sh                   FFmpeg (cached), then the program `framerail`
#   scripts/build_static.sh --also PACKAGE... the programs of further packages of the workspace with it
#   scripts/build_static.sh --tests PACKAGE...  the tests of packages, as programs for another machine
#   scripts/build_static.sh --ffmpeg-only     FFmpeg alone; prints the folder for FFMPEG_DIR and nothing else
#   scripts/build_static.sh --shared FOLDER   FFmpeg's shared libraries, small and without x264 (LGPL), for other
#                                             readers that load libavcodec.so.59 and its like
#
# Programs come to FRAMERAIL_CACHE/bin, tests to FRAMERAIL_CACHE/tests.
#
#   FRAMERAIL_CACHE   where builds are kept (.framerail/static)
#   FRAMERAIL_JOBS    compilers at once (all processors)
#   V=1               show the output of every tool
#
# The program holds x264 and is therefore under the GPL, version 2 or later.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FRAMERAIL_CACHE:-$root/.framerail/static}
jobs=${FRAMERAIL_JOBS:-$(nproc)}
verbose=${V:-0}

say() { printf 'static: %s\n' "$*"; }
die() { printf 'static: error: %s\n' "$*" >&2; exit 1; }

# ffmpeg_of KIND: FFmpeg from scripts/build_ffmpeg.sh, in `prefix`.
ffmpeg_of() {
    prefix=$(FRAMERAIL_CACHE=$cache FRAMERAIL_JOBS=$jobs V=$verbose "$root/scripts/build_ffmpeg.sh" "$1") ||
        die 'FFmpeg could not be built (see above)'
}

shared_ffmpeg() {
    local out=$1 library
    ffmpeg_of shared
    mkdir -p "$out"
    # One file for each soname: what programs load; the other names are for linkers.
    for library in "$prefix"/lib/lib{av,sw}*.so.*.*.*; do
        local name
        name=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
        strip --strip-unneeded -o "$out/$name" "$library"
        # They look for one another beside themselves.
        patchelf --set-rpath '$ORIGIN' "$out/$name"
    done
    say "FFmpeg's shared libraries in $out ($(du -shL "$out" | cut -f 1)):"
    (cd "$out" && ls -s --block-size=K lib*)
}

# Fails when a program needs a shared library that is not part of glibc, or libgcc_s, which every Rust program
# needs for unwinding and every distribution has.
only_glibc() {
    local other
    other=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -v -x -E 'lib(c|m|dl|rt|pthread|util|resolv|gcc_s)\.so\.[0-9]+|ld-linux-x86-64\.so\.2' || true)
    [[ -z $other ]] || die "$1 needs more than glibc: $(tr '\n' ' ' <<<"$other")"
}

# The newest glibc that a program asks for: the oldest system that it runs on.
glibc_of() { readelf -V "$1" | grep -o 'GLIBC_[0-9.]*' | sort -u -V | tail -n 1; }

# Cargo with FFmpeg from our folder. Its own target folder: other builds link the system's FFmpeg.
static_cargo() {
    FFMPEG_DIR=$prefix CARGO_TARGET_DIR=$target nice cargo "$@" --locked -j "$jobs" --features framerail-cli/static-ffmpeg
}

# build_programs PACKAGE...: each program of these packages, stripped, in FRAMERAIL_CACHE/bin.
build_programs() {
    local package packages=() built
    for package in "$@"; do packages+=(-p "$package"); done
    say "building $* with FFmpeg of $prefix"
    # Cargo says itself which programs it made.
    static_cargo build --release "${packages[@]}" --message-format json-render-diagnostics >"$log" ||
        die 'the program could not be built'
    mapfile -t built < <(executables_in "$log" bin)
    collect "$cache/bin" "${built[@]}"
    program=$cache/bin/framerail
}

# build_tests PACKAGE...: each test program of these packages, stripped, as FRAMERAIL_CACHE/tests/PACKAGE-NAME.
build_tests() {
    local package packages=() built
    for package in "$@"; do packages+=(-p "$package"); done
    # The package with the feature has to take part in the build.
    static_cargo test --no-run -p framerail-cli "${packages[@]}" --message-format json-render-diagnostics >"$log" ||
        die 'the tests could not be built'
    rm -rf "$cache/tests"
    for package in "$@"; do
        mapfile -t built < <(executables_in "$log" test "$package")
        ((${#built[@]})) || die "the package $package has no tests"
        collect "$cache/tests" "${built[@]}"
    done
}

# executables_in LOG KIND [PACKAGE]: lines "path<tab>name" of what Cargo built.
executables_in() {
    python3 - "$@" <<'PY'
import json, pathlib, sys

log, kind, package = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
for line in pathlib.Path(log).read_text().splitlines():
    message = json.loads(line) if line.startswith("{") else {}
    path = message.get("executable")
    if not path or message["profile"]["test"] != (kind == "test"):
        continue
    # Of a package's identifier, its name: .../framerail-cli#0.1.0 or ...#framerail-cli@0.1.0.
    folder, _, name = message["package_id"].partition("#")
    owner = name.split("@")[0] if "@" in name else folder.rsplit("/", 1)[-1]
    if package in (None, owner):
        target = message["target"]
        unit = "" if kind != "test" else owner + ("-unit" if target["kind"] != ["test"] else "-" + target["name"])
        print(path, unit or target["name"], sep="\t")
PY
}

# collect FOLDER LINE...: strips what executables_in found into FOLDER. Each has its name only when it is whole.
collect() {
    local folder=$1 line path name
    shift
    mkdir -p "$folder"
    for line in "$@"; do
        IFS=$'\t' read -r path name <<<"$line"
        only_glibc "$path"
        strip -o "$folder/$name.partial" "$path"
        mv "$folder/$name.partial" "$folder/$name"
        say "$folder/$name: $(size_of "$folder/$name")"
    done
}

size_of() { stat -c %s "$1" | numfmt --to=iec --suffix=B; }

# A real file through the program, with no library path set.
try_program() {
    local scratch clip=${FRAMERAIL_HOME:-$root/.framerail}/clips/carphone_pristine.mp4
    scratch=$(mktemp -d)
        [[ -e $clip ]] || "$prefix/bin/ffmpeg" -v error -f lavfi -i testsrc=d=1 -c:v libx264 "$scratch/clip.mp4"
    [[ -e $clip ]] || clip=$scratch/clip.mp4
    (cd "$scratch" && "$program" probe "$clip" && "$program" run "read '$clip' ! null" &&
        "$program" run "read '$clip' ! write '$scratch/out.mp4'" && "$program" probe "$scratch/out.mp4") >"$scratch/log" 2>&1 || {
        tail -n 20 "$scratch/log" >&2
        die 'the program was built and does not work'
    }
    rm -rf "$scratch"
    # What doctor misses on this machine (a GPU, models) is no fault of the build; that it runs is what counts.
    "$program" doctor || say 'doctor has remarks on this machine (above); the program itself runs'
}

report() {
    ldd "$program" | sed 's/^/    /'
    say "$program: $(size_of "$program"), needs $(glibc_of "$program") or newer"
    say 'network inputs: file, pipe, http, rtsp, udp; no TLS, so no https'
    say 'it holds x264, so this program as a whole is under the GPL, version 2 or later: pass on its source with it'
}

usage() { die "$1; use: build_static.sh [--also PACKAGE... | --tests PACKAGE... | --ffmpeg-only | --shared FOLDER]"; }

main() {
    local mode=${1:---programs} out=
    shift || true
    case $mode in
    --programs | --ffmpeg-only) (($# == 0)) || usage "'$1' does not belong there" ;;
    --also | --tests) (($#)) || usage "$mode needs packages" ;;
    --shared)
        (($# == 1)) || usage '--shared needs a folder'
        out=$(mkdir -p "$1" && cd "$1" && pwd)
        ;;
    *) usage "unknown argument '$mode'" ;;
    esac
    [[ $(uname -m) == x86_64 ]] || die 'only x86_64 is supported today'
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    target=${CARGO_TARGET_DIR:-$root/target}/static
    log=$cache/build.$$.log
    trap 'rm -f "$log"' EXIT
    # What is said goes to stderr; stdout is for what another script reads.
    exec 3>&1 1>&2
    if [[ $mode == --shared ]]; then shared_ffmpeg "$out"; return; fi
    ffmpeg_of static
    only_glibc "$prefix/bin/ffmpeg"
    case $mode in
    --ffmpeg-only) echo "$prefix" >&3 ;;
    --tests) build_tests "$@" ;;
    *)
        build_programs framerail-cli "$@"
        try_program
        report
        ;;
    esac
}

main "$@"
