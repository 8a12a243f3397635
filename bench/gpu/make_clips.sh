#!/usr/bin/env bash
# Makes the clips of the GPU benchmark from the footage that scripts/setup.sh installs.
#
#   make_clips.sh FOLDER            the clips of 960 frames (run where FFmpeg has libx264 and libx265)
#   make_clips.sh --lengthen FOLDER the clips of 5,520 and 9,300 frames, by repeating the packets of those of 960:
#                                   nothing is encoded, so a host with a bare ffmpeg does it in seconds
#
#   FFMPEG   the ffmpeg to use
#
# All are 1920x1080, 30 frames/s, 4:2:0, 8 bit, a closed GOP every 60 frames, BT.709 limited range:
#   h264-960.mp4, hevc-960.mp4    bigbuckbunny repeated, 5 Mbit/s
#   faces-960.mp4                 carphone (one face, in a moving car) scaled up, 2 Mbit/s
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ffmpeg=${FFMPEG:-ffmpeg}
frames=960
lengths=(5520 9300)

die() { printf 'make_clips: error: %s\n' "$*" >&2; exit 1; }

# make CLIP FILTER OUT CODEC...: 960 frames of a repeated clip. A file has its name only when it is complete.
make() {
    local clip=$1 filter=$2 out=$3
    shift 3
    [[ ! -e $out ]] || return 0
    [[ -e $clip ]] || die "$clip is missing; run scripts/setup.sh first"
    "$ffmpeg" -v error -nostdin -y -stream_loop -1 -i "$clip" -map 0:v:0 -an -frames:v "$frames" \
        -vf "$filter,setsar=1,fps=30,format=yuv420p,setparams=range=limited:colorspace=bt709:color_trc=bt709:color_primaries=bt709" \
        -map_metadata -1 "$@" -g 60 -movflags +faststart -f mp4 "$out.$$.partial" || die "$out could not be encoded"
    mv "$out.$$.partial" "$out"
}

make_short() {
    local clips=${FRAMERAIL_HOME:-$root/.framerail}/clips fill='scale=1920:1080:flags=bicubic'
    local face='scale=1320:1080:flags=bicubic,pad=1920:1080:300:0'
    make "$clips/bigbuckbunny.mp4" "$fill" "$1/h264-$frames.mp4" \
        -c:v libx264 -preset veryfast -profile:v high -b:v 5M -x264-params keyint=60:min-keyint=60:scenecut=0
    make "$clips/bigbuckbunny.mp4" "$fill" "$1/hevc-$frames.mp4" \
        -c:v libx265 -preset veryfast -b:v 5M -tag:v hvc1 -x265-params keyint=60:min-keyint=60:scenecut=0:open-gop=0:log-level=error
    make "$clips/carphone_pristine.mp4" "$face" "$1/faces-$frames.mp4" \
        -c:v libx264 -preset veryfast -profile:v high -b:v 2M -x264-params keyint=60:min-keyint=60:scenecut=0
}

# A whole number of repeats, cut at the wanted frame: every piece begins with a keyframe.
make_long() {
    local kind length out
    for kind in h264 hevc; do
        for length in "${lengths[@]}"; do
            out=$1/$kind-$length.mp4
            [[ ! -e $out ]] || continue
            [[ -e $1/$kind-$frames.mp4 ]] || die "$1/$kind-$frames.mp4 is missing; make the short clips first"
            "$ffmpeg" -v error -nostdin -y -stream_loop $(((length - 1) / frames)) -i "$1/$kind-$frames.mp4" \
                -c copy -frames:v "$length" -movflags +faststart -f mp4 "$out.$$.partial" || die "$out could not be written"
            mv "$out.$$.partial" "$out"
        done
    done
}

case ${1:-} in
--lengthen) step=make_long folder=${2:-} ;;
*) step=make_short folder=${1:-} ;;
esac
[[ -n $folder ]] || die 'name the folder: make_clips.sh [--lengthen] FOLDER'
mkdir -p "$folder"
"$step" "$folder"
ls -l --block-size=K "$folder"
