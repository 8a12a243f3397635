#!/usr/bin/env bash
# Blurs the faces of a clip, puts before and after side by side, and reports the time: scripts/demo.sh [CLIP]
#
# Runs deface on the same clip for comparison where it is installed (`make bench-setup`, or `deface` in PATH).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
program=${FRAMERAIL:-${CARGO_TARGET_DIR:-target}/release/framerail}
clip=${1:-$FRAMERAIL_HOME/clips/bigbuckbunny.mp4}
name=$(basename "${clip%.*}")
video=demo/$name-blurred.mp4
pair=demo/$name-side-by-side.mp4
sheet=demo/$name-before-after.png
log=demo/$name.log

fail() {
    printf 'demo: error: %s\n' "$1" >&2
    exit 1
}

[[ -f $clip ]] || fail "no such file: $clip"
[[ -x $program ]] || fail "$program is not built; run: make build"
mkdir -p demo
rm -f "$sheet" "$pair"

# timed COMMAND...: runs it, its output to the log; sets $seconds.
timed() {
    local began=$EPOCHREALTIME
    "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "this command failed (its output is above): $*"; }
    seconds=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN {print to - from}')
    if [[ ${V:-0} == 1 ]]; then cat "$log"; fi
}

probe() {
    ffprobe -v error -select_streams v:0 -count_packets -show_entries "stream=$2" -of default=nw=1:nk=1 "$1"
}

timed "$program" blur-faces "$clip" -o "$video" --contact-sheet "$sheet" --overwrite
frames=$(probe "$video" nb_read_packets)
ours=$seconds
# Each half 960 pixels wide, so that the pair fits a screen.
ffmpeg -v error -y -i "$clip" -i "$video" -filter_complex "
    [0:v]scale=960:-2,setsar=1[before]; [1:v]scale=960:-2,setsar=1[after]; [before][after]hstack" \
    -map 0:a? -c:a copy -c:v libx264 -crf 20 -preset veryfast -pix_fmt yuv420p "$pair" ||
    fail "ffmpeg could not write $pair"

deface=$FRAMERAIL_HOME/bench-venv/bin/deface
[[ -x $deface ]] || deface=$(command -v deface || true)
theirs=0
if [[ -n $deface ]]; then
    echo "Running deface on the same clip ..."
    timed "$deface" "$clip" -o "demo/$name-deface.mp4" --keep-audio
    theirs=$seconds
fi

# Without a face there is no contact sheet.
[[ -f $sheet ]] || sheet="none: no face was found"

awk -v ours="$ours" -v theirs="$theirs" -v frames="$frames" -v size="$(probe "$video" width)x$(probe "$video" height)" \
    -v clip="$clip" -v video="$video" -v pair="$pair" -v sheet="$sheet" -v program="$program" 'BEGIN {
    printf "Blurred the faces found in %s (%d frames, %s).\n", clip, frames, size
    printf "  framerail  %6.1f s  %6.1f frames/s\n", ours, frames / ours
    if (theirs > 0) printf "  deface     %6.1f s  %6.1f frames/s  (framerail is %.1f times as fast)\n", theirs, frames / theirs, theirs / ours
    else print "  deface     not installed; `make bench-setup demo` runs it too"
    printf "Side by side:  %s\n", pair
    printf "Contact sheet: %s\n", sheet
    printf "Result:        %s\n", video
    printf "Next:          make demo CLIP=your.mp4, or %s blur-faces --help\n", program
}'
