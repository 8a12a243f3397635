#!/usr/bin/env bash
# Makes docs/images/contour.jpg: a frame of the demo's clip, as it is, with its mask, covered by an ellipse, and by a contour.
# scripts/contour_picture.sh [OUT.jpg]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
program=${FRAMERAIL:-${CARGO_TARGET_DIR:-target}/release/framerail}
clip=$FRAMERAIL_HOME/clips/carphone_pristine.mp4
out=${1:-docs/images/contour.jpg}
# The frame, three times as large, so that lines are thin in it; and what is shown of it.
frame='select=eq(n\,4),scale=528:432:flags=lanczos'
part=crop=360:400:80:0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ffmpeg -v error -i "$clip" -vf "$frame" -frames:v 1 "$work/before.png"

"$program" run "read '$work/before.png' ! infer centerface ! crop margin=0.08 ! infer models/skin.toml !
    tee ( draw labels=no scores=no landmarks=no line_width=2 ! frames '$work/mask.png' count=1 ) ( blur ! frames '$work/ellipse.png' count=1 ) !
    blur shape=contour mask_scale=1.05 ! frames '$work/contour.png' count=1" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

label() { echo "$part,drawtext=text='$1':x=8:y=h-28:fontsize=18:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=5"; }
ffmpeg -v error -y -i "$work/before.png" -i "$work/mask.png" -i "$work/ellipse.png" -i "$work/contour.png" \
    -filter_complex "[0]$(label before)[a]; [1]$(label 'box and mask')[b]; [2]$(label shape=ellipse)[c]; [3]$(label shape=contour)[d];
        [a][b][c][d]hstack=4" -frames:v 1 -q:v 3 "$out"
ls -l "$out"
