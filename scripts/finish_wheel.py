#!/usr/bin/env python3
"""Gives a wheel its name, its licence, and the files that maturin does not know.

    scripts/finish_wheel.py WHEEL --out DIR --name framerail-gpl --licence 'GPL-2.0-or-later AND ...' \
        [--licences DIR] [--add FILE=PATH/IN/WHEEL ...]

Timestamps inside are those of the input, so that the same input gives the same bytes.
"""

import argparse
import base64
import hashlib
import re
import zipfile
from pathlib import Path

#: Time of files that are added: the earliest that a ZIP archive holds.
EPOCH = (1980, 1, 1, 0, 0, 0)


def metadata(text: str, name: str, licence: str, licences: list[str]) -> str:
    head, blank, body = text.partition("\n\n")
    lines = [line for line in head.splitlines() if not re.match(r"License(-Expression)?:", line)]
    lines = [f"Name: {name}" if line.startswith("Name:") else line for line in lines]
    lines.append(f"License-Expression: {licence}")
    lines += [f"License-File: {file}" for file in licences]
    return "\n".join(lines) + blank + body


def record(entries: dict[str, tuple[bytes, zipfile.ZipInfo]], place: str) -> bytes:
    rows = []
    for path, (content, _) in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    return "\n".join([*rows, f"{place},,", ""]).encode()


def added(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, EPOCH)
    info.external_attr = 0o100644 << 16
    return info


def finish(wheel: Path, out: Path, name: str, licence: str, licences: list[Path], files: list[tuple[Path, str]]) -> Path:
    distribution, version, *tags = wheel.stem.split("-")
    to = name.replace("-", "_")
    old, new = f"{distribution}-{version}.dist-info/", f"{to}-{version}.dist-info/"
    entries: dict[str, tuple[bytes, zipfile.ZipInfo]] = {}
    with zipfile.ZipFile(wheel) as given:
        for info in given.infolist():
            path = info.filename.replace(old, new) if info.filename.startswith(old) else info.filename
            if path != new + "RECORD":
                entries[path] = given.read(info), info
    for file in licences:
        path = f"{new}licenses/linked/{file.name}"
        entries[path] = file.read_bytes(), added(path)
    for file, path in files:
        entries[path] = file.read_bytes(), added(path)
    text, info = entries[new + "METADATA"]
    changed = metadata(text.decode(), name, licence, [f"linked/{file.name}" for file in licences])
    entries[new + "METADATA"] = changed.encode(), info
    out.mkdir(parents=True, exist_ok=True)
    target = out / ("-".join([to, version, *tags]) + ".whl")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for path, (content, info) in entries.items():
            info.filename = path
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
        made.writestr(added(new + "RECORD"), record(entries, new + "RECORD"))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--licences", type=Path, help="a folder of licence texts")
    parser.add_argument("--add", action="append", default=[], metavar="FILE=PATH")
    arguments = parser.parse_args()
    licences = sorted(arguments.licences.iterdir()) if arguments.licences else []
    files = [(Path(file), path) for file, _, path in (one.rpartition("=") for one in arguments.add)]
    print(finish(arguments.wheel, arguments.out, arguments.name, arguments.licence, licences, files))


if __name__ == "__main__":
    main()
