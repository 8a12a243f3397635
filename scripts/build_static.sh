#!/usr/bin/env bash
# Builds one release program with FFmpeg inside: beyond glibc and libgcc_s it needs nothing, and it finds CUDA,
# NVDEC and ONNX Runtime at run time. FFmpeg, dav1d, x264 and their patches come from Debian's source packages,
# zlib as Debian's static library. FFmpeg is built once for each set of versions and flags.
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

# What every build of FFmpeg here has in common. --disable-autodetect: nothing of this machine slips in.
common=(
    --disable-autodetect --disable-debug --disable-doc --disable-ffplay --disable-postproc
    --enable-pic --enable-zlib --enable-libdav1d
    --disable-indevs --enable-indev=lavfi --disable-outdevs
)
static_flags=("${common[@]}" --enable-gpl --enable-libx264)
# Readers decode and filter; they do not encode. The peers find NVDEC themselves.
shared_flags=("${common[@]}" --enable-shared --disable-static --disable-programs --disable-encoders --disable-muxers)

say() { printf 'static: %s\n' "$*"; }
die() { printf 'static: error: %s\n' "$*" >&2; exit 1; }

# Runs a tool quietly; its output goes to the log, and its last lines to the terminal if it fails.
run() {
    if [[ $verbose == 1 ]]; then "$@"; return; fi
    local status=0
    "$@" >"$log" 2>&1 || status=$?
    if ((status)); then tail -n 25 "$log" | sed 's/^/    /' >&2; fi
    return "$status"
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_packages() {
    local package missing=()
    command -v apt-get >/dev/null || die 'this script takes FFmpeg from Debian; run it on Debian 12 or in its container'
    while read -r package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] || missing+=("$package")
    done < <(sed 's/#.*//' "$root"/scripts/requirements/debian{,-static}.txt | xargs -n 1)
    ((${#missing[@]})) || return 0
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    run as_root apt-get update -qq || die 'apt-get update failed; check the network and the package sources'
    run as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}"
}

# The version of the source package that an installed package was built from.
source_version() {
    dpkg-query -W -f '${source:Version}' "$1" 2>/dev/null || die "the package $1 is not installed; run scripts/setup.sh first"
}

# fetch_source NAME VERSION FOLDER: unpacks a source package, Debian's patches applied. The list of sources is
# private to this script; the system's own is not touched.
fetch_source() {
    local name=$1 version=$2 folder=$3 apt=$cache/apt codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$apt/lists/partial" "$apt/parts" "$folder"
    cat >"$apt/parts/source.sources" <<SOURCES
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: $codename $codename-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://deb.debian.org/debian-security
Suites: $codename-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    local private=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/parts" -o "Dir::State::Lists=$apt/lists"
        -o Dir::Cache::srcpkgcache= -o Dir::Cache::pkgcache=)
    if [[ ! -e $apt/updated ]]; then
        run apt-get "${private[@]}" update || die "Debian's list of source packages could not be fetched"
        touch "$apt/updated"
    fi
    (cd "$folder" && run apt-get "${private[@]}" -q source "$name=$version") || {
        rm -f "$apt/updated"
        die "Debian's archive has no source of $name $version; where a newer one is out, upgrade the installed packages"
    }
    rm -f "$folder"/*.tar.* "$folder"/*.dsc
}

# The only folder below $1: an unpacked source.
unpacked() { find "$1" -mindepth 1 -maxdepth 1 -type d | head -n 1; }

build_dav1d() {
    local prefix=$1 work=$2 source
    say "building dav1d $dav1d_version"
    fetch_source dav1d "$dav1d_version" "$work/dav1d"
    source=$(unpacked "$work/dav1d")
    run meson setup "$work/dav1d/build" "$source" --prefix "$prefix" --libdir lib --buildtype release \
        --default-library static -Denable_tools=false -Denable_tests=false || die 'meson could not set up dav1d'
    run nice ninja -C "$work/dav1d/build" -j "$jobs" install || die 'dav1d could not be built'
}

# Debian's own libx264.a cannot become part of a shared library, such as the Python package's.
build_x264() {
    local prefix=$1 work=$2 source
    say "building x264 $x264_version"
    fetch_source x264 "$x264_version" "$work/x264"
    source=$(unpacked "$work/x264")
    (cd "$source" && run ./configure --prefix="$prefix" --enable-static --enable-pic --disable-cli --disable-opencl &&
        run nice make -j "$jobs" && run make install-lib-static) || die 'x264 could not be built'
}

# Copies a static library of Debian's, so that -L of our own folder finds it before the system's shared one.
take_static() {
    local archive
    archive=$(gcc -print-file-name="$2")
    [[ $archive == /* ]] || die "$2 is missing; is its -dev package installed?"
    cp "$archive" "$1/lib/"
}

# build_ffmpeg PREFIX FLAGS...: everything into PREFIX, which appears only when complete.
build_ffmpeg() {
    local prefix=$1 work source
    shift
    work=$cache/work.$$
    rm -rf "$work" "$prefix"
    mkdir -p "$work" "$prefix/lib/pkgconfig"
    build_dav1d "$prefix" "$work"
    take_static "$prefix" libz.a
    if [[ " $* " == *' --enable-libx264 '* ]]; then
        build_x264 "$prefix" "$work"
    fi
    say "building FFmpeg $ffmpeg_version (minutes, once)"
    fetch_source ffmpeg "$ffmpeg_version" "$work/ffmpeg"
    source=$(unpacked "$work/ffmpeg")
    cd "$source"
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig run ./configure --prefix="$prefix" "$@" --pkg-config-flags=--static \
        --extra-cflags="-I$prefix/include" --extra-ldflags="-L$prefix/lib" || {
        tail -n 15 ffbuild/config.log >&2
        die "FFmpeg's configure failed"
    }
    run nice make -j "$jobs" || die 'FFmpeg could not be built'
    run make install || die 'FFmpeg could not be installed'
    cd "$root"
    rm -rf "$work"
}

# The Rust binding links FFmpeg's own libraries only; what they lean on goes into the lowest of them.
merge_archives() {
    local lib=$1/lib
    printf 'create %s\n' "$lib/merged.a" >"$lib/merge.mri"
    printf 'addlib %s\n' "$lib"/lib{avcodec,x264,dav1d,z}.a >>"$lib/merge.mri"
    printf 'save\nend\n' >>"$lib/merge.mri"
    ar -M <"$lib/merge.mri" || die 'the static libraries could not be merged'
    mv "$lib/merged.a" "$lib/libavcodec.a"
    ranlib "$lib/libavcodec.a"
    rm "$lib/merge.mri"
}

# Two builds at once must not write the same folder; who waited finds it complete.
lock() {
    exec 8>"$cache/lock-$(basename "$1")"
    flock 8
}

# Names a build by all that goes into it. Prints the folder.
prefix_for() {
    local kind=$1 key
    shift
    key=$(printf '%s\n' "$ffmpeg_version" "$dav1d_version" "$x264_version from source" "$(gcc -dumpfullversion)" "$@" |
        sha256sum | cut -c 1-12)
    echo "$cache/ffmpeg-$kind-${ffmpeg_version#*:}-$key"
}

static_ffmpeg() {
    prefix=$(prefix_for static "${static_flags[@]}")
    [[ ! -e $prefix/complete ]] || return 0
    lock "$prefix"
    if [[ ! -e $prefix/complete ]]; then
        build_ffmpeg "$prefix" "${static_flags[@]}"
        merge_archives "$prefix"
        strip "$prefix/bin/ffmpeg" "$prefix/bin/ffprobe"
        only_glibc "$prefix/bin/ffmpeg"
        touch "$prefix/complete"
    fi
    flock -u 8
}

shared_ffmpeg() {
    local out=$1 library
    prefix=$(prefix_for shared "${shared_flags[@]}")
    [[ -e $prefix/complete ]] || lock "$prefix"
    if [[ ! -e $prefix/complete ]]; then
        build_ffmpeg "$prefix" "${shared_flags[@]}"
        touch "$prefix/complete"
    fi
    mkdir -p "$out"
    # One file for each soname: what programs load; the other names are for linkers.
    for library in "$prefix"/lib/lib{av,sw}*.so.*.*.*; do
        local name
        name=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
        strip --strip-unneeded -o "$out/$name" "$library"
        # They look for one another beside themselves.
        patchelf --set-rpath '$ORIGIN' "$out/$name"
    done
    say "FFmpeg ${ffmpeg_version#*:} as shared libraries in $out ($(du -shL "$out" | cut -f 1)):"
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
    trap 'rm -rf "$log" "$cache/work.$$"' EXIT
    # What is said goes to stderr; stdout is for what another script reads.
    exec 3>&1 1>&2
    install_packages
    ffmpeg_version=$(source_version libavcodec-dev)
    dav1d_version=$(source_version libdav1d6)
    x264_version=$(source_version libx264-dev)
    if [[ $mode == --shared ]]; then shared_ffmpeg "$out"; return; fi
    static_ffmpeg
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
