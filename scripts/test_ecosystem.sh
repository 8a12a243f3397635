#!/usr/bin/env bash
# Tests framerail with the programs that it serves: qwen-vl-utils, transformers and datasets are installed into an environment of their
# own, beside PyTorch and TorchCodec from that of the readers. vLLM and LeRobot are too large; their interfaces are stood in for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${FRAMERAIL_HOME:-$PWD/.framerail}
readers=$home/readers-venv
environment=$home/ecosystem-venv
if [ ! -x "$environment/bin/python" ]; then
    "$readers/bin/python" -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check 'pytest<9' qwen-vl-utils transformers datasets
    # PyTorch, torchvision and TorchCodec come from the other environment.
    echo "$readers"/lib/python3*/site-packages > "$(echo "$environment"/lib/python3*/site-packages)/readers.pth"
fi

cargo build -p framerail-python
cp "${CARGO_TARGET_DIR:-target}/debug/lib_framerail.so" python/framerail/.compiled.partial
mv python/framerail/.compiled.partial python/framerail/_framerail.abi3.so
FRAMERAIL_SOURCES=$PWD PYTHONPATH=$PWD/python "$environment/bin/python" -m pytest -q -p no:cacheprovider python/tests/test_compat.py "$@"
