#!/usr/bin/env bash
# Makes docs/images/contour.jpg: part of a frame as it is, with its contour, covered by an ellipse, and by a contour.
#
#   scripts/contour_picture.sh CLIP FRAME SIZE PART [OUT.jpg]
#
# SIZE is the size of the scaled frame (WxH), so that lines are thin, PART the region of it that is shown (W:H:X:Y).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
program=${FRAMERAIL:-${CARGO_TARGET_DIR:-target}/release/framerail}
(($# >= 4)) || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
clip=$1
frame="select=eq(n\\,$2),scale=$3:flags=lanczos"
part=crop=$4
out=${5:-docs/images/contour.jpg}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ffmpeg -v error -i "$clip" -vf "$frame" -frames:v 1 "$work/before.png"

"$program" run "read '$work/before.png' ! infer centerface ! crop margin=0.25 square=yes ! infer face-mesh !
    tee ( draw labels=no scores=no landmarks=no line_width=2 ! frames '$work/mask.png' count=1 ) ( blur ! frames '$work/ellipse.png' count=1 ) !
    blur shape=contour ! frames '$work/contour.png' count=1" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

label() { echo "$part,drawtext=text='$1':x=8:y=h-28:fontsize=18:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=5"; }
ffmpeg -v error -y -i "$work/before.png" -i "$work/mask.png" -i "$work/ellipse.png" -i "$work/contour.png" \
    -filter_complex "[0]$(label before)[a]; [1]$(label 'box and contour')[b]; [2]$(label shape=ellipse)[c]; [3]$(label shape=contour)[d];
        [a][b][c][d]hstack=4" -frames:v 1 -q:v 3 "$out"
ls -l "$out"
