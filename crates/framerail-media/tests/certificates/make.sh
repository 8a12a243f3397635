#!/usr/bin/env bash
# Makes the certificates beside this script anew; the authority's own key is not kept.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36000 -subj '/CN=framerail tests' \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign' -keyout "$work/ca.key" -out authority.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=localhost' -keyout server.key -out "$work/server.csr"
printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >"$work/extensions"
openssl x509 -req -in "$work/server.csr" -CA authority.pem -CAkey "$work/ca.key" -CAcreateserial -CAserial "$work/serial" \
    -days 36000 -extfile "$work/extensions" -out server.pem
