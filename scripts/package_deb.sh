#!/usr/bin/env bash
# Makes a Debian package of a built program and checks it: scripts/package_deb.sh PROGRAM FOLDER
#
# Dependencies are those of the libraries that the program is linked with. Needs dpkg-deb and dpkg-shlibdeps (dpkg-dev).
set -euo pipefail
(($# == 2)) || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
program=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$("$program" --version | cut -d ' ' -f 2)
architecture=$(dpkg --print-architecture)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
top=$scratch/package

install -D -m 755 --strip "$program" "$top/usr/bin/framerail"
"$program" man "$top/usr/share/man/man1"
gzip -9n "$top"/usr/share/man/man1/*
mkdir -p "$top"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,framerail/models}
"$program" completions bash >"$top/usr/share/bash-completion/completions/framerail"
"$program" completions zsh >"$top/usr/share/zsh/vendor-completions/_framerail"
"$program" completions fish >"$top/usr/share/fish/vendor_completions.d/framerail.fish"
cp models/*.toml "$top/usr/share/framerail/models/"
install -D -m 644 -t "$top/usr/share/doc/framerail" README.md LICENSE-MIT
{ printf 'framerail is licensed under MIT (LICENSE-MIT) or Apache-2.0 (/usr/share/common-licenses/Apache-2.0), at your option.\n'; } \
    >"$top/usr/share/doc/framerail/copyright"

# dpkg-shlibdeps wants a source package around it.
mkdir -p "$scratch/debian" "$top/DEBIAN"
printf 'Source: framerail\n\nPackage: framerail\nArchitecture: any\n' >"$scratch/debian/control"
depends=$(cd "$scratch" && dpkg-shlibdeps -O package/usr/bin/framerail 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/${depends:?no dependencies were found}/" \
    -e "s/@SIZE@/$(du -sk "$top/usr" | cut -f 1)/" packaging/debian/control.in >"$top/DEBIAN/control"
package=$folder/framerail_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$top" "$package" >/dev/null

# What was packed works where it is unpacked, and its dependencies are names that this system knows.
dpkg-deb --extract "$package" "$scratch/check"
"$scratch/check/usr/bin/framerail" --version >/dev/null
"$scratch/check/usr/bin/framerail" run --check 'read - format=h264 ! null' </dev/null >/dev/null 2>&1 || [[ $? == 3 ]]
dpkg-deb --field "$package" Depends | tr ',|' '\n\n' | sed 's/(.*//' | while read -r name; do dpkg-query --show "$name" >/dev/null; done
echo "package: $package"
