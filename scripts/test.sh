#!/usr/bin/env bash
# Runs every test of the workspace and its documentation, and ends with one line of counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS

# Sums the number before a word in the lines that report results.
sum() { grep -aE "$1" "$log" | grep -aoE "[0-9]+ $2" | awk '{n += $1} END {print n + 0}'; }

fail() {
    printf 'test: FAILED: %s\n' "$1" >&2
    exit 1
}

if cargo nextest --version >/dev/null 2>&1; then
    runner=nextest
    cargo nextest run --workspace --no-fail-fast 2>&1 | tee "$log" || fail 'see above'
    results='Summary \['
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

printf 'test: %d passed, 0 failed, %d skipped (%s); %d documentation examples passed; %d s\n' \
    "$passed" "$skipped" "$runner" "$documented" $((SECONDS - began))
