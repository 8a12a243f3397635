#!/usr/bin/env bash
# Builds FFmpeg for programs and wheels, and prints the folder that it was installed to. FFmpeg and the libraries that it uses,
# with their patches, come from Debian's source packages. Each kind is built once for its versions and flags; a build that failed
# continues where it stopped.
#
#   scripts/build_ffmpeg.sh lgpl      static libraries without GPL parts, for glibc 2.28 and newer: OpenH264 encodes H.264,
#                                     libvpx VP8 and VP9, SVT-AV1 AV1, LAME MP3, libopus Opus
#   scripts/build_ffmpeg.sh gpl       the same with x264 in place of OpenH264: GPL
#   scripts/build_ffmpeg.sh static    static libraries and programs for this system, with x264: GPL
#   scripts/build_ffmpeg.sh shared    shared libraries for this system, to decode alone: LGPL
#   scripts/build_ffmpeg.sh compilers only the compilers for glibc 2.28, in FRAMERAIL_CACHE/zig-2.28
#
#   FRAMERAIL_CACHE   where builds are kept (.framerail/static)
#   FRAMERAIL_JOBS    compilers at once (all processors)
#   FRAMERAIL_ZIG     Python with the packages ziglang and meson, for lgpl and gpl (.framerail/wheel-venv/bin/python)
#   V=1               show the output of every tool
#
# ccache is used where it is installed.
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
# Wheels need the libraries alone. FFmpeg's native decoders stay the only ones of VP8, VP9 and Opus.
wheel=(
    "${common[@]}" --disable-programs --disable-avdevice
    --enable-libvpx --enable-libsvtav1 --enable-libmp3lame --enable-libopus "--disable-decoder=libvpx_vp8,libvpx_vp9,libopus"
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

# fetch_source NAME VERSION: unpacks a source package, Debian's patches applied, and sets `source` to its folder. The list of
# sources is private to this script; the system's own is not touched.
fetch_source() {
    local name=$1 version=$2 folder=$work/$1 apt=$cache/apt codename
    if [[ ! -e $folder/fetched ]]; then
        codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
        rm -rf "$folder"
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
        touch "$folder/fetched"
    fi
    source=$(find "$folder" -mindepth 1 -maxdepth 1 -type d -not -name build | head -n 1)
}

# use_zig: compilers that build for glibc 2.28 wherever they run, as small programs, since build systems want one word. `rust-gcc` is the
# linker for scripts/build_wheel.sh.
use_zig() {
    local python=${FRAMERAIL_ZIG:-$home/wheel-venv/bin/python} bin=$cache/zig-$glibc zig tool
    zig=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))') ||
        die "$python has no package ziglang; scripts/build_wheel.sh installs it"
    mkdir -p "$bin/zig"
    for tool in cc c++; do
        # Without -O zig adds checks that trap. A target with a version is refused for standard input. The target that Rust's
        # build scripts name is left out: zig has other names.
        cat >"$bin/zig/$tool" <<WRAPPER
#!/bin/sh
for argument do
    shift
    case \$argument in --target=*) ;; *) set -- "\$@" "\$argument" ;; esac
done
case " \$* " in *" - "*) version= ;; *) version=.$glibc ;; esac
exec "$zig" $tool -target x86_64-linux-gnu\$version -fno-sanitize=undefined "\$@"
WRAPPER
        printf '#!/bin/sh\n! command -v ccache >/dev/null || exec ccache "%s" "$@"\nexec "%s" "$@"\n' "$bin/zig/$tool" "$bin/zig/$tool" >"$bin/$tool"
    done
    for tool in ar ranlib; do printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig" "$tool" >"$bin/$tool"; done
    # For Rust, which infers from the name how the linker takes its arguments. OpenH264 is C++.
    printf '#!/bin/sh\nexec "%s" "$@" -lc++\n' "$bin/zig/cc" >"$bin/rust-gcc"
    chmod +x "$bin"/* "$bin"/zig/*
    # Debian's meson does not know zig's linker.
    meson=("$python" -m mesonbuild.mesonmain)
    export CC=$bin/cc CXX=$bin/c++ AR=$bin/ar RANLIB=$bin/ranlib CCACHE_COMPILERTYPE=clang
    compiler="zig $("$zig" version) for glibc $glibc"
    # What the linker adds: libc++ and libunwind.
    runtime_licence=$(dirname "$zig")/lib/libcxx/LICENSE.TXT
}

use_gcc() {
    meson=(meson)
    export CC=gcc CXX=g++ AR=ar RANLIB=ranlib
    compiler="gcc $(gcc -dumpfullversion)"
}

build_zlib() {
    licences=(LICENSE)
    (cd "$source" && CFLAGS='-O3 -fPIC' run ./configure --static --prefix="$part" && run make -j "$jobs" libz.a && run make install)
}

build_dav1d() {
    licences=(COPYING)
    [[ -e $work/dav1d/build/build.ninja ]] || run "${meson[@]}" setup "$work/dav1d/build" "$source" --prefix "$part" --libdir lib \
        --buildtype release --default-library static -Denable_tools=false -Denable_tests=false || return
    run ninja -C "$work/dav1d/build" -j "$jobs" install
}

# Debian's own libx264.a cannot become part of a shared library, such as the Python package's.
build_x264() {
    licences=(COPYING)
    (cd "$source" && run ./configure --prefix="$part" --enable-static --enable-pic --disable-cli --disable-opencl &&
        run make -j "$jobs" && run make install-lib-static)
}

build_openh264() {
    licences=(LICENSE)
    local options=(OS=linux ARCH=x86_64 BUILDTYPE=Release PREFIX="$part" CC="$CC" CXX="$CXX" AR="$AR")
    (cd "$source" && run make -j "$jobs" "${options[@]}" libopenh264.a && run make "${options[@]}" install-static)
}

# Encoders alone: FFmpeg decodes VP8 and VP9.
build_libvpx() {
    licences=(LICENSE PATENTS)
    (cd "$source" && LD=$CC AS=nasm run ./configure --prefix="$part" --target=x86_64-linux-gcc --enable-pic --enable-runtime-cpu-detect \
        --enable-vp9-highbitdepth --disable-vp8-decoder --disable-vp9-decoder --disable-examples --disable-tools --disable-docs \
        --disable-unit-tests && run make -j "$jobs" && run make install)
}

build_svt_av1() {
    licences=(LICENSE.md LICENSE-BSD2.md PATENTS.md)
    # Its settings are not for standard error.
    sed -i 's/level = SVT_LOG_INFO;/level = SVT_LOG_ERROR;/' "$source/Source/Lib/Common/Codec/EbLog.c"
    # Flags are tried without the linker, for which zig would build its libc++ with each.
    run cmake -S "$source" -B "$work/svt-av1/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$part" \
        -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
        -DCMAKE_AR="$(command -v "$AR")" -DCMAKE_RANLIB="$(command -v "$RANLIB")" -DBUILD_SHARED_LIBS=OFF -DBUILD_APPS=OFF \
        -DBUILD_DEC=OFF -DBUILD_TESTING=OFF -DNATIVE=OFF -DSVT_AV1_LTO=OFF -DREPRODUCIBLE_BUILDS=ON &&
        run ninja -C "$work/svt-av1/build" -j "$jobs" install
}

build_opus() {
    licences=(COPYING)
    (cd "$source" && run ./configure --prefix="$part" --disable-shared --enable-static --with-pic --disable-doc --disable-extra-programs &&
        run make -j "$jobs" && run make install)
}

build_lame() {
    licences=(COPYING)
    (cd "$source" && run ./configure --prefix="$part" --disable-shared --enable-static --with-pic --disable-frontend --disable-decoder \
        --disable-gtktest && run make -j "$jobs" && run make install)
}

# use_part NAME VERSION: builds a library that FFmpeg uses, unless an earlier build has it; adds its folder to `parts`.
use_part() {
    local name=$1 version=$2 part source licences=() file
    part=$cache/parts/$name-${version#*:}-$(sha256sum <<<"$compiler" | cut -c 1-12)
    if [[ ! -e $part/complete ]]; then
        say "building $name $version with $compiler"
        fetch_source "$name" "$version"
        mkdir -p "$part/licences"
        "build_${name//-/_}" || die "$name could not be built"
        for file in "${licences[@]}"; do cp "$source/$file" "$part/licences/$name-$file"; done
        rm -rf "${work:?}/$name"
        touch "$part/complete"
    fi
    parts+=("$part")
}

# build_all PREFIX FLAGS...: FFmpeg with its parts.
build_all() {
    local prefix=$1 source part parts=() cflags='' ldflags='' packages=''
    shift
    mkdir -p "$work" "$prefix/licences"
    use_part zlib "$zlib_version"
    use_part dav1d "$dav1d_version"
    [[ " $* " != *' --enable-libx264 '* ]] || use_part x264 "$x264_version"
    [[ " $* " != *' --enable-libopenh264 '* ]] || use_part openh264 "$openh264_version"
    [[ " $* " != *' --enable-libvpx '* ]] || use_part libvpx "$vpx_version"
    [[ " $* " != *' --enable-libsvtav1 '* ]] || use_part svt-av1 "$svt_version"
    [[ " $* " != *' --enable-libopus '* ]] || use_part opus "$opus_version"
    [[ " $* " != *' --enable-libmp3lame '* ]] || use_part lame "$lame_version"
    for part in "${parts[@]}"; do
        cflags+=" -I$part/include"
        ldflags+=" -L$part/lib"
        packages+=:$part/lib/pkgconfig
        cp "$part"/licences/* "$prefix/licences/"
    done
    say "building FFmpeg $ffmpeg_version with $compiler (minutes, once)"
    fetch_source ffmpeg "$ffmpeg_version"
    case " $* " in
    *' --enable-gpl '*) cp "$source/COPYING.GPLv2" "$prefix/licences/ffmpeg-COPYING.GPLv2" ;;
    *) cp "$source/COPYING.LGPLv2.1" "$prefix/licences/ffmpeg-COPYING.LGPLv2.1" ;;
    esac
    [[ -z $runtime_licence ]] || cp "$runtime_licence" "$prefix/licences/llvm-LICENSE.TXT"
    cd "$source"
    [[ -e ffbuild/configured ]] || {
        PKG_CONFIG_PATH=${packages#:} run ./configure --prefix="$prefix" "$@" --cc="$CC" --cxx="$CXX" --ar="$AR" --ranlib="$RANLIB" \
            --pkg-config-flags=--static --extra-cflags="$cflags" --extra-ldflags="$ldflags" || {
            tail -n 15 ffbuild/config.log >&2
            die "FFmpeg's configure failed"
        }
        # glibc 2.28 has sysctl(), and zig has no header for it.
        [[ $compiler != zig* ]] || sed -i 's/^#define HAVE_SYSCTL 1/#define HAVE_SYSCTL 0/' config.h
        touch ffbuild/configured
    }
    run make -j "$jobs" || die 'FFmpeg could not be built'
    run make install || die 'FFmpeg could not be installed'
    cd "$root"
    [[ " $* " == *' --enable-shared '* ]] || merge_archives "$prefix" "${parts[@]}"
    rm -rf "$work"
}

# merge_archives PREFIX PART...: the Rust binding links FFmpeg's own libraries only; what they need goes into the lowest of them.
merge_archives() {
    local lib=$1/lib archive part
    shift
    {
        printf 'create %s\naddlib %s\n' "$lib/merged.a" "$lib/libavcodec.a"
        for part in "$@"; do
            for archive in "$part"/lib/*.a; do printf 'addlib %s\n' "$archive"; done
        done
        printf 'save\nend\n'
    } | ar -M || die 'the static libraries could not be merged'
    mv "$lib/merged.a" "$lib/libavcodec.a"
    ranlib "$lib/libavcodec.a"
}

main() {
    local kind=${1:-} flags use=use_zig
    case $kind in
    lgpl) flags=("${wheel[@]}" --enable-libopenh264 --disable-decoder=libopenh264) ;;
    gpl) flags=("${wheel[@]}" --enable-gpl --enable-libx264) ;;
    static) use=use_gcc flags=("${common[@]}" --enable-gpl --enable-libx264) ;;
    # Readers decode and filter; they do not encode. The peers find NVDEC themselves.
    shared) use=use_gcc flags=("${common[@]}" --enable-shared --disable-static --disable-programs --disable-encoders --disable-muxers) ;;
    compilers) ;;
    *) die "unknown kind '$kind'; use: build_ffmpeg.sh lgpl, gpl, static, shared or compilers" ;;
    esac
    [[ $(uname -m) == x86_64 ]] || die 'only x86_64 is supported today'
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    log=$cache/ffmpeg.$$.log
    trap 'rm -f "$log"' EXIT
    # Messages go to stderr; stdout is for the script that called this one.
    exec 3>&1 1>&2
    local compiler meson runtime_licence=
    if [[ $kind == compilers ]]; then use_zig; return; fi
    install_packages
    "$use"
    ffmpeg_version=$(source_version libavcodec-dev)
    dav1d_version=$(source_version libdav1d6)
    x264_version=$(source_version libx264-dev)
    openh264_version=$(source_version libopenh264-dev)
    zlib_version=$(source_version zlib1g-dev)
    # FFmpeg of Debian depends on these.
    vpx_version=$(source_version libvpx7)
    svt_version=$(source_version libsvtav1enc1)
    opus_version=$(source_version libopus0)
    lame_version=$(source_version libmp3lame0)
    # Named by all that goes into it.
    local key prefix
    key=$(printf '%s\n' "$ffmpeg_version" "$dav1d_version" "$x264_version" "$openh264_version" "$zlib_version" "$vpx_version" "$svt_version" \
        "$opus_version" "$lame_version" "$compiler" "${flags[@]}" |
        sha256sum | cut -c 1-12)
    prefix=$cache/ffmpeg-$kind-${ffmpeg_version#*:}-$key
    work=$cache/work-$kind-$key
    # Two builds at once must not write the same folder; the second finds it complete.
    exec 8>"$cache/lock-ffmpeg"
    flock 8
    if [[ ! -e $prefix/complete ]]; then
        build_all "$prefix" "${flags[@]}"
        if [[ $kind == static ]]; then strip "$prefix/bin/ffmpeg" "$prefix/bin/ffprobe"; fi
        touch "$prefix/complete"
    fi
    echo "$prefix" >&3
}

main "$@"
