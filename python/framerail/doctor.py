"""Checks framerail's dependencies on this machine."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from typing import Any, Callable, Dict, List

from . import _framerail, resources
from .errors import CudaError


def doctor(*, quiet: bool = False) -> Dict[str, Dict[str, object]]:
    """Checks what framerail uses: FFmpeg, ONNX Runtime, the face detector, GPUs, NumPy, PyTorch; and prints it.

    Parameters
    ----------
    quiet : bool
        Print nothing.

    Returns
    -------
    dict
        The same as data. A missing part has an entry "error" that says what to do.
    """
    resources.find()
    found: Dict[str, Dict[str, object]] = {
        "framerail": {"version": _framerail.version()},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "ffmpeg": json.loads(_framerail.ffmpeg()),
        "onnxruntime": _look(lambda: json.loads(_framerail.onnxruntime())),
        "centerface": _look(lambda: json.loads(_framerail.models("centerface"))),
        "cuda": _look(lambda: json.loads(_framerail.cuda_devices())),
        **_packages(),
    }
    if not quiet:
        for name, what in found.items():
            print(f"{name:<12} {_words(name, what)}")
    return found


def _packages() -> Dict[str, Dict[str, object]]:
    return {"numpy": _package("numpy"), "torch": _package("torch")}


def python_lines() -> List[str]:
    """The optional Python packages, one per line."""
    return [f"{name:<12} {_words(name, what)}" for name, what in _packages().items()]


def _look(at: Callable[[], Dict[str, object]]) -> Dict[str, object]:
    try:
        return at()
    except (ValueError, CudaError) as error:
        return {"error": str(error)}


def _package(name: str) -> Dict[str, object]:
    if importlib.util.find_spec(name) is None:
        return {"error": f"not installed: pip install {name}"}
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"version": version(name)}
    except PackageNotFoundError:
        return {"version": "unknown"}


def _words(name: str, what: Dict[str, Any]) -> str:
    if "error" in what:
        return f"no: {what['error']}"
    if name == "ffmpeg":
        return f"{what['version']} ({what['license']}), {len(what['decoders'])} decoders for video"
    if name == "cuda":
        cards = ", ".join(f"cuda:{card['ordinal']} {card['name']}" for card in what["devices"])
        return f"{cards or 'no GPU'} (driver supports CUDA {what['driver']})"
    if name == "centerface":
        return str(what["file"] or "no model file; `make setup` in a checkout of framerail installs it")
    return " ".join(str(value) for value in what.values())
