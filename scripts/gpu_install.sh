#!/usr/bin/env bash
# Unpacks this part into a folder on the GPU host and prints the file to source.
#
#   install.sh FOLDER
#
# FOLDER/env.sh is the same after each part. Lines that begin with "install: MISSING" name what the host lacks.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $# == 1 ]] || { echo 'usage: install.sh FOLDER' >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)

for archive in "$here"/*.tar.xz; do
    xz -dc "$archive" | tar -C "$folder" -xf -
    echo "install: $(basename "$archive" .tar.xz) is in $folder"
done

cat >"$folder/env.sh" <<'ENV'
# Source this: framerail, its libraries and the programs that it is compared with.
FRAMERAIL_GPU=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export FRAMERAIL_GPU
# CUDA and cuDNN as PyTorch brings them, each in a folder of the namespace package `nvidia`.
framerail_cuda_libraries=$(python3 - <<'PY'
import glob, importlib.util
spec = importlib.util.find_spec("nvidia")
roots = list(spec.submodule_search_locations) if spec and spec.submodule_search_locations else []
print(":".join(sorted(folder for root in roots for folder in glob.glob(root + "/*/lib"))))
PY
)
export PATH=$FRAMERAIL_GPU/bin:$PATH
framerail_libraries=$FRAMERAIL_GPU/ort:$FRAMERAIL_GPU/ffmpeg${framerail_cuda_libraries:+:$framerail_cuda_libraries}
export LD_LIBRARY_PATH=$framerail_libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
unset framerail_cuda_libraries framerail_libraries
# Models and cards are in models/, clips in clips/.
export FRAMERAIL_HOME=$FRAMERAIL_GPU
export PYTHONPATH=$FRAMERAIL_GPU/python${PYTHONPATH:+:$PYTHONPATH}
export IMAGEIO_FFMPEG_EXE=$FRAMERAIL_GPU/bin/ffmpeg
for framerail_library in "$FRAMERAIL_GPU"/ort/libonnxruntime.so.*; do export ORT_DYLIB_PATH=$framerail_library; done
unset framerail_library
ENV

# The Python package searches for libraries in its own folder; framerail uses the same ones.
capi=$folder/python-deface/onnxruntime/capi
if [[ -d $capi ]]; then
    for library in libonnxruntime_providers_cuda.so libonnxruntime_providers_shared.so; do
        ln -sf "$folder/ort/$library" "$capi/$library"
    done
    # skimage asks SciPy for its version and, for an ellipse, for nothing else.
    if [[ ! -d $folder/python-deface/scipy ]] && ! python3 -c 'import scipy' 2>/dev/null; then
        mkdir -p "$folder/python-deface/scipy"
        echo '__version__ = "1.17.1"' >"$folder/python-deface/scipy/__init__.py"
        echo 'install: the host has no SciPy; a stand-in that knows its version alone is used for deface'
    fi
fi

# shellcheck disable=SC1091
source "$folder/env.sh"
# Until all parts are there a folder may be missing, and ldd ends with an error for what it cannot open.
lacking=$({ find "$folder"/{ort,ffmpeg,bin} -type f -exec ldd {} + 2>/dev/null || true; } |
    awk '/not found/ {print $1}' | sort -u)
for library in $lacking; do echo "install: MISSING: $library; look at the driver, PyTorch and LD_LIBRARY_PATH"; done
if ! ldconfig -p | grep -q libnvcuvid.so.1; then
    echo 'install: MISSING: libnvcuvid.so.1; the driver was installed without its video libraries'
fi
echo "install: source $folder/env.sh"
