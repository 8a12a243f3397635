#!/usr/bin/env bash
# Checks the types of the Python package and of its examples: mypy --strict and pyright, as pyproject.toml sets them.
#
#   scripts/check_types.sh                 without PyTorch: the stubs in python/typings stand for it
#   scripts/check_types.sh readers-venv    with the packages of another environment below .framerail/, PyTorch among them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${FRAMERAIL_HOME:-$PWD/.framerail}
tools=$home/types-venv/bin
python=$home/${1:-types-venv}/bin/python
stubs=python/typings
if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; then stubs=''; fi

MYPYPATH=$stubs "$tools/mypy" --python-executable "$python" --cache-dir "$home/types-cache/${1:-stubs}"
"$tools/pyright" --pythonpath "$python" ${stubs:+--project python/typings}
