#!/usr/bin/env bash
# Runs every fuzz target of fuzz/ for its share of a time (default: ten minutes in all), from a corpus that starts with small
# generated files and grows in fuzz/corpus/. A crash leaves its input in fuzz/artifacts/ and fails the run.
#
#   scripts/fuzz.sh [SECONDS] [TARGET ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-600}
shift $(($# > 0 ? 1 : 0))
version=0.13.1
tools=${FRAMERAIL_HOME:-$PWD/.framerail}/cargo
export PATH=$tools/bin:$PATH
cargo fuzz --version 2>/dev/null | grep -qF "$version" ||
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" cargo-fuzz --version "$version"

mapfile -t known < <(sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' fuzz/Cargo.toml)
targets=("$@")
((${#targets[@]})) || targets=("${known[@]}")

clips=$(mktemp -d)
trap 'rm -rf "$clips"' EXIT

# seed TARGET NAME: standard input becomes a file of the target's corpus.
seed() {
    mkdir -p "fuzz/corpus/$1"
    cat >"fuzz/corpus/$1/seed-$2"
}

clip() { ffmpeg -v error -y -f lavfi -i testsrc2=size=64x48:rate=5:duration=1 "$@"; }

# packets NUMBER NAME ENCODER FORMAT OPTIONS...: a raw stream as one packet, without global headers.
packets() {
    local number=$1 name=$2 encoder=$3 format=$4
    shift 4
    if clip -c:v "$encoder" "$@" -f "$format" "$clips/$name" 2>/dev/null; then
        { printf '%b' "\\x0$number\\x00"; head -c 3000 "$clips/$name"; } | seed packet_facts "$name"
    else
        echo "fuzz: FFmpeg has no encoder $encoder: no seed of $name" >&2
    fi
}

make_seeds() {
    local card name index=0
    for card in models/*.toml; do seed model_card "$(basename "$card")" <"$card"; done
    grep -rhoE "framerail run '[^']+'" README.md docs | sed "s/^framerail run '//; s/'$//" | sort -u | while IFS= read -r text; do
        index=$((index + 1))
        printf '%s' "$text" | seed pipeline_text "$index"
    done
    for name in examples/*.toml examples/*/*.toml docs/*.toml; do
        if grep -q '^\[\[stage\]\]' "$name" 2>/dev/null; then seed pipeline_file "$(basename "$name")" <"$name"; fi
    done
    printf '[[stage]]\nuse = "read"\nargs = ["in.mp4"]\n[[stage]]\nuse = "null"\n' | seed pipeline_file minimal
    for name in models/*.onnx; do [[ $(stat -c %s "$name") -gt 65536 ]] || seed onnx_rewriting "$(basename "$name")" <"$name"; done
    packets 0 h264 libx264 h264 -preset ultrafast -bf 2
    packets 1 hevc libx265 hevc -preset ultrafast -x265-params log-level=none
    packets 2 mpeg2 mpeg2video mpeg2video -bf 2
    packets 3 mpeg4 mpeg4 m4v -bf 2
    packets 4 vp8 libvpx ivf -deadline realtime
    packets 5 vp9 libvpx-vp9 ivf -deadline realtime
    packets 6 av1 libaom-av1 obu -cpu-used 8 -usage realtime
    clip -c:v mpeg4 -movflags frag_keyframe+empty_moov+default_base_moof "$clips/fragments.mp4"
    clip -c:v mpeg4 "$clips/whole.mp4"
    {
        printf '%b' "$(printf '\\x%02x\\x%02x' $(($(stat -c %s "$clips/whole.mp4") / 256 % 256)) $(($(stat -c %s "$clips/whole.mp4") % 256)))"
        cat "$clips/whole.mp4" "$clips/fragments.mp4"
    } | seed fragmented_mp4 movie
    head -c 64 /dev/zero | seed index_cache zeros
}

make_seeds
status=0
share=$((seconds / ${#targets[@]}))
for target in "${targets[@]}"; do
    printf 'fuzz: %s for %d s\n' "$target" "$share"
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$share" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        >"$clips/log" 2>&1 || { status=1; tail -n 40 "$clips/log"; }
    grep -E 'number_of_executed_units|DONE' "$clips/log" || true
done
exit "$status"
