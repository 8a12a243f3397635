#!/usr/bin/env bash
# Builds the documentation in site/: pages by MkDocs, every link checked, rustdoc under site/rust/ (RUSTDOC=0 leaves it out).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${FRAMERAIL_HOME:-$PWD/.framerail}
# Quiet would also silence the warnings that --strict counts.
if ! messages=$(NO_MKDOCS_2_WARNING=1 "$home/docs-venv/bin/mkdocs" build --strict --clean 2>&1); then
    printf '%s\n' "$messages" >&2
    exit 1
fi
if [[ ${RUSTDOC:-1} != 0 ]]; then
    # The compiled part of the Python package is described by docs/python-api.md.
    RUSTDOCFLAGS='-D rustdoc::broken-intra-doc-links' cargo doc --quiet --workspace --exclude framerail-python --no-deps --lib
    rm -rf site/rust
    cp -r "${CARGO_TARGET_DIR:-target}/doc" site/rust
    printf '<meta http-equiv="refresh" content="0; url=framerail/index.html">\n' >site/rust/index.html
fi
printf 'docs: site/index.html%s\n' "$([[ ${RUSTDOC:-1} == 0 ]] || printf ', site/rust/framerail/index.html')"
