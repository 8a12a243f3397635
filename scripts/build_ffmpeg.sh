#!/usr/bin/env bash
# Builds FFmpeg for wheels, as static libraries for glibc 2.28 and newer, and prints the folder that it was installed to. FFmpeg,
# dav1d, x264, OpenH264 and zlib with their patches come from Debian's source packages; the compiler is zig's. Each kind is built
# once for its versions and flags.
#
#   scripts/build_ffmpeg.sh wheel-lgpl     OpenH264 encodes H.264 (LGPL, BSD)
#   scripts/build_ffmpeg.sh wheel-gpl      x264 encodes H.264 (GPL)
#
#   FRAMERAIL_CACHE   where builds are kept (.framerail/static)
#   FRAMERAIL_JOBS    compilers at once (all processors)
#   FRAMERAIL_ZIG     Python with the packages ziglang and meson (.framerail/wheel-venv/bin/python)
#   V=1               show the output of every tool
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${FRAMERAIL_HOME:-$root/.framerail}
cache=${FRAMERAIL_CACHE:-$home/static}
jobs=${FRAMERAIL_JOBS:-$(nproc)}
verbose=${V:-0}
# The oldest glibc that wheels run on: that of manylinux_2_28.
glibc=2.28

# What every build has in common. --disable-autodetect: nothing of this machine slips in.
common=(
    --disable-autodetect --disable-debug --disable-doc --disable-ffplay --disable-postproc
    --enable-pic --enable-zlib --enable-libdav1d
    --disable-indevs --enable-indev=lavfi --disable-outdevs
)

say() { printf 'ffmpeg: %s\n' "$*"; }
die() { printf 'ffmpeg: error: %s\n' "$*" >&2; exit 1; }

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

# take_licences SOURCE NAME FILE...: keeps the licence texts of what is linked; wheels carry them.
take_licences() {
    local source=$1 name=$2 file
    shift 2
    mkdir -p "$prefix/licences"
    for file in "$@"; do cp "$source/$file" "$prefix/licences/$name-$file"; done
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

# Compilers that build for glibc 2.28 wherever they run: those of zig, as small programs, since build systems want one word.
use_zig() {
    local python=${FRAMERAIL_ZIG:-$home/wheel-venv/bin/python} bin=$cache/zig-$glibc zig tool
    zig=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))') ||
        die "$python has no package ziglang; run scripts/setup.sh wheel"
    mkdir -p "$bin"
    for tool in cc c++; do
        # Without -O zig adds checks that trap. Its preprocessor alone (-E) does not know targets with a version.
        cat >"$bin/$tool" <<WRAPPER
#!/bin/sh
case " \$* " in *" -E "*) version= ;; *) version=.$glibc ;; esac
exec "$zig" $tool -target x86_64-linux-gnu\$version -fno-sanitize=undefined "\$@"
WRAPPER
    done
    for tool in ar ranlib; do printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig" "$tool" >"$bin/$tool"; done
    chmod +x "$bin"/*
    # Debian's meson does not know zig's linker.
    meson=("$python" -m mesonbuild.mesonmain)
    export CC=$bin/cc CXX=$bin/c++ AR=$bin/ar RANLIB=$bin/ranlib
    compiler="zig $("$zig" version) for glibc $glibc"
}

build_zlib() {
    local prefix=$1 work=$2 source
    say "building zlib $zlib_version"
    fetch_source zlib "$zlib_version" "$work/zlib"
    source=$(unpacked "$work/zlib")
    take_licences "$source" zlib LICENSE
    (cd "$source" && CFLAGS='-O3 -fPIC' run ./configure --static --prefix="$prefix" && run nice make -j "$jobs" libz.a && run make install) ||
        die 'zlib could not be built'
}

build_dav1d() {
    local prefix=$1 work=$2 source
    say "building dav1d $dav1d_version"
    fetch_source dav1d "$dav1d_version" "$work/dav1d"
    source=$(unpacked "$work/dav1d")
    take_licences "$source" dav1d COPYING
    run "${meson[@]}" setup "$work/dav1d/build" "$source" --prefix "$prefix" --libdir lib --buildtype release \
        --default-library static -Denable_tools=false -Denable_tests=false || die 'meson could not set up dav1d'
    run nice ninja -C "$work/dav1d/build" -j "$jobs" install || die 'dav1d could not be built'
}

# Debian's own libx264.a cannot become part of a shared library, such as the Python package's.
build_x264() {
    local prefix=$1 work=$2 source
    say "building x264 $x264_version"
    fetch_source x264 "$x264_version" "$work/x264"
    source=$(unpacked "$work/x264")
    take_licences "$source" x264 COPYING
    (cd "$source" && run ./configure --prefix="$prefix" --enable-static --enable-pic --disable-cli --disable-opencl &&
        run nice make -j "$jobs" && run make install-lib-static) || die 'x264 could not be built'
}

build_openh264() {
    local prefix=$1 work=$2 source
    say "building OpenH264 $openh264_version"
    fetch_source openh264 "$openh264_version" "$work/openh264"
    source=$(unpacked "$work/openh264")
    take_licences "$source" openh264 LICENSE
    (cd "$source" && run nice make -j "$jobs" OS=linux ARCH=x86_64 BUILDTYPE=Release PREFIX="$prefix" \
        CC="${CC:-cc}" CXX="${CXX:-c++}" AR="${AR:-ar}" libopenh264.a &&
        run make OS=linux ARCH=x86_64 PREFIX="$prefix" CC="${CC:-cc}" CXX="${CXX:-c++}" AR="${AR:-ar}" install-static) ||
        die 'OpenH264 could not be built'
}

# build_all PREFIX FLAGS...: everything into PREFIX, which appears only when complete.
build_all() {
    local prefix=$1 work=$cache/work.$$ source
    shift
    rm -rf "$work" "$prefix"
    mkdir -p "$work" "$prefix/lib/pkgconfig"
    build_zlib "$prefix" "$work"
    build_dav1d "$prefix" "$work"
    [[ " $* " != *' --enable-libx264 '* ]] || build_x264 "$prefix" "$work"
    [[ " $* " != *' --enable-libopenh264 '* ]] || build_openh264 "$prefix" "$work"
    say "building FFmpeg $ffmpeg_version with $compiler (minutes, once)"
    fetch_source ffmpeg "$ffmpeg_version" "$work/ffmpeg"
    source=$(unpacked "$work/ffmpeg")
    case " $* " in
    *' --enable-gpl '*) take_licences "$source" ffmpeg COPYING.GPLv2 ;;
    *) take_licences "$source" ffmpeg COPYING.LGPLv2.1 ;;
    esac
    cd "$source"
    local tools=()
    [[ -z ${CC:-} ]] || tools=(--cc="$CC" --cxx="$CXX" --ar="$AR" --ranlib="$RANLIB" --pkg-config=pkg-config)
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig run ./configure --prefix="$prefix" "$@" "${tools[@]}" --pkg-config-flags=--static \
        --extra-cflags="-I$prefix/include" --extra-ldflags="-L$prefix/lib" || {
        tail -n 15 ffbuild/config.log >&2
        die "FFmpeg's configure failed"
    }
    # glibc 2.28 has sysctl(), and zig no header for it.
    sed -i 's/^#define HAVE_SYSCTL 1/#define HAVE_SYSCTL 0/' config.h
    run nice make -j "$jobs" || die 'FFmpeg could not be built'
    run make install || die 'FFmpeg could not be installed'
    cd "$root"
    rm -rf "$work"
}

# The Rust binding links FFmpeg's own libraries only; what they lean on goes into the lowest of them.
merge_archives() {
    local lib=$1/lib archive
    {
        printf 'create %s\n' "$lib/merged.a"
        for archive in avcodec x264 openh264 dav1d z; do
            [[ ! -e $lib/lib$archive.a ]] || printf 'addlib %s\n' "$lib/lib$archive.a"
        done
        printf 'save\nend\n'
    } >"$lib/merge.mri"
    ar -M <"$lib/merge.mri" || die 'the static libraries could not be merged'
    mv "$lib/merged.a" "$lib/libavcodec.a"
    ranlib "$lib/libavcodec.a"
    rm "$lib/merge.mri"
}

# Two builds at once must not write the same folder; the second finds it complete.
lock() {
    exec 8>"$cache/lock-$(basename "$1")"
    flock 8
}

# Names a build by all that goes into it. Prints the folder.
prefix_for() {
    local kind=$1 key
    shift
    key=$(printf '%s\n' "$ffmpeg_version" "$dav1d_version" "$x264_version" "$openh264_version" "$zlib_version from source" \
        "$compiler" "$@" | sha256sum | cut -c 1-12)
    echo "$cache/ffmpeg-$kind-${ffmpeg_version#*:}-$key"
}

main() {
    local kind=${1:-} flags
    case $kind in
    wheel-gpl) flags=("${common[@]}" --enable-gpl --enable-libx264) ;;
    wheel-lgpl) flags=("${common[@]}" --enable-libopenh264 --disable-decoder=libopenh264) ;;
    *) die "unknown kind '$kind'; use: build_ffmpeg.sh wheel-lgpl or wheel-gpl" ;;
    esac
    [[ $(uname -m) == x86_64 ]] || die 'only x86_64 is supported today'
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    log=$cache/ffmpeg.$$.log
    # What a failed build leaves is kept, to look at and to go on with by hand.
    trap 'rm -f "$log"' EXIT
    # Messages go to stderr; stdout is for the script that called this one.
    exec 3>&1 1>&2
    install_packages
    use_zig
    ffmpeg_version=$(source_version libavcodec-dev)
    dav1d_version=$(source_version libdav1d6)
    x264_version=$(source_version libx264-dev)
    openh264_version=$(source_version libopenh264-dev)
    zlib_version=$(source_version zlib1g-dev)
    local prefix
    prefix=$(prefix_for "$kind" "${flags[@]}")
    lock "$prefix"
    if [[ ! -e $prefix/complete ]]; then
        build_all "$prefix" "${flags[@]}"
        merge_archives "$prefix"
        touch "$prefix/complete"
    fi
    echo "$prefix" >&3
}

main "$@"
