#!/usr/bin/env bash
# Blurs the faces of a clip and says what came of it: scripts/demo.sh [CLIP]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
program=${CARGO_TARGET_DIR:-target}/release/framerail
clip=${1:-$FRAMERAIL_HOME/clips/carphone_pristine.mp4}
name=$(basename "${clip%.*}")
video=demo/$name-blurred.mp4
sheet=demo/$name-before-after.png
log=demo/$name.log

fail() {
    printf 'demo: error: %s\n' "$1" >&2
    exit 1
}

[[ -f $clip ]] || fail "there is no file $clip"
[[ -x $program ]] || fail "$program is not built; run: make build"
mkdir -p demo
rm -f "$sheet"

began=$EPOCHREALTIME
"$program" blur-faces "$clip" -o "$video" --contact-sheet "$sheet" --overwrite >"$log" 2>&1 ||
    { cat "$log" >&2; fail "framerail could not blur $clip (its words are above)"; }
ended=$EPOCHREALTIME
[[ ${V:-0} == 1 ]] && cat "$log"
# Without a face there is nothing to show side by side.
[[ -f $sheet ]] || sheet="none: no face was found"

probe() {
    ffprobe -v error -select_streams v:0 -count_packets -show_entries "stream=$2" -of default=nw=1:nk=1 "$1"
}
frames=$(probe "$video" nb_read_packets)
size="$(probe "$video" width)x$(probe "$video" height)"

awk -v began="$began" -v ended="$ended" -v frames="$frames" -v size="$size" \
    -v clip="$clip" -v video="$video" -v sheet="$sheet" -v program="$program" 'BEGIN {
    secs = ended - began
    printf "Blurred the faces found in %s: %d frames of %s.\n", clip, frames, size
    printf "Took %.1f s, %.0f frames/s, start-up included.\n", secs, frames / secs
    printf "Video:        %s\n", video
    printf "Before/after: %s\n", sheet
    printf "Try next:     make demo CLIP=your.mp4    %s blur-faces --help\n", program
}'
