#!/usr/bin/env bash
# Builds the compiled part of the Python package as the other tests are built, and runs python/tests with it.
#
#   scripts/test_python.sh                      with NumPy alone
#   scripts/test_python.sh readers-venv [ARG..] in another environment below .framerail/, with arguments of pytest; a file
#                                               among them is run in place of all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${FRAMERAIL_HOME:-$PWD/.framerail}
environment=${1:-python-venv}
shift || true
what=(python/tests)
for argument in "$@"; do [[ ! -f ${argument%%::*} ]] || what=(); done

cargo build -p framerail-python
library=${CARGO_TARGET_DIR:-target}/debug/lib_framerail.so
# Renamed into place: a process that has the old one open keeps it.
cp "$library" python/framerail/.compiled.partial
mv python/framerail/.compiled.partial python/framerail/_framerail.abi3.so

# pytest comes from the small environment; whatever else the chosen one has comes first.
pytest=$(echo "$home"/python-venv/lib/python3*/site-packages)
FRAMERAIL_HOME=$home FRAMERAIL_SOURCES=$PWD PYTHONPATH=$PWD/python "$home/$environment/bin/python" -c '
import sys
sys.path.append(sys.argv.pop(1))
import pytest
sys.exit(pytest.main(sys.argv[1:]))' "$pytest" -q -p no:cacheprovider "${what[@]}" "$@"
