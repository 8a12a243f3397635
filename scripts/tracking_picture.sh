#!/usr/bin/env bash
# Makes docs/images/tracking.jpg: three frames of a clip with the identities of `track`; the model ran on every third frame.
#
#   scripts/tracking_picture.sh CLIP FRAME FRAME FRAME [OUT.jpg]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRAMERAIL_HOME=${FRAMERAIL_HOME:-$PWD/.framerail}
program=${FRAMERAIL:-${CARGO_TARGET_DIR:-target}/release/framerail}
(($# >= 4)) || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=${5:-docs/images/tracking.jpg}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" run "read '$1' ! infer centerface every=3 ! track ! draw tracks=yes colors=track landmarks=no !
    frames '$work/{index}.png'" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
ffmpeg -v error -y -i "$work/$2.png" -i "$work/$3.png" -i "$work/$4.png" -filter_complex hstack=3 -frames:v 1 -q:v 3 "$out"
ls -l "$out"
