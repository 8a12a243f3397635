#!/usr/bin/env bash
# Runs every test of the workspace and its documentation, and ends with one line of counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS

# Sums the number before a word ($2) in the lines that report results ($1); colours may stand between.
sum() {
    sed $'s/\e\\[[0-9;]*m//g' "$log" |
        awk -v line="$1" -v word="$2" '$0 ~ line && match($0, "[0-9]+ " word) {n += substr($0, RSTART)} END {print n + 0}'
}

fail() {
    printf 'test: FAILED: %s\n' "$1" >&2
    exit 1
}

if cargo nextest --version >/dev/null 2>&1; then
    runner=nextest
    cargo nextest run --workspace --no-fail-fast 2>&1 | tee "$log" || fail 'see above'
    results='Summary [[]'
else
    runner='cargo test'
    cargo test --workspace --no-fail-fast --all-targets 2>&1 | tee "$log" || fail 'see above'
    results='^test result:'
fi
passed=$(sum "$results" passed)
skipped=$(($(sum "$results" skipped) + $(sum "$results" ignored)))
((passed)) || fail 'not a single test ran'

cargo test --workspace --doc 2>&1 | tee "$log" || fail 'documentation examples, see above'
documented=$(sum '^test result:' passed)

scripts/test_python.sh 2>&1 | tee "$log" || fail 'Python package, see above'
python_passed=$(sum '(passed|skipped).* in [0-9.]+s' passed)
python_skipped=$(sum '(passed|skipped).* in [0-9.]+s' skipped)

home=${FRAMERAIL_HOME:-$PWD/.framerail}
if [[ -x $home/litert-venv/bin/python ]]; then
    FRAMERAIL_HOME=$home "$home/litert-venv/bin/python" -m pytest -q -p no:cacheprovider scripts/test_tflite_to_onnx.py 2>&1 |
        tee "$log" || fail 'conversion of models, see above'
    python_passed=$((python_passed + $(sum '(passed|skipped).* in [0-9.]+s' passed)))
fi

printf 'test: %d passed, 0 failed, %d skipped (%s); %d documentation examples passed; Python: %d passed, %d skipped; %d s\n' \
    "$passed" "$skipped" "$runner" "$documented" "$python_passed" "$python_skipped" $((SECONDS - began))
