"""What framerail needs, and what of it is here."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from typing import Any, Callable, Dict

from . import _framerail
from .errors import CudaError
from .pipeline import _find_onnxruntime


def doctor(*, quiet: bool = False) -> Dict[str, Dict[str, object]]:
    """Looks at what framerail needs: FFmpeg, ONNX Runtime, the face detector, cards, PyTorch; and prints it.

    Parameters
    ----------
    quiet : bool
        Print nothing.

    Returns
    -------
    dict
        The same as data. A part that is missing has an entry "error" that says what to do.
    """
    _find_onnxruntime()
    found: Dict[str, Dict[str, object]] = {
        "framerail": {"version": _framerail.version()},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "ffmpeg": json.loads(_framerail.ffmpeg()),
        "onnxruntime": _look(lambda: json.loads(_framerail.onnxruntime())),
        "centerface": _look(lambda: json.loads(_framerail.models("centerface"))),
        "cuda": _look(lambda: json.loads(_framerail.cuda_devices())),
        "numpy": _package("numpy"),
        "torch": _package("torch"),
    }
    if not quiet:
        for name, what in found.items():
            print(f"{name:<12} {_words(name, what)}")
    return found


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
        return f"{cards or 'no card'} (driver speaks CUDA {what['driver']})"
    if name == "centerface":
        return str(what["file"] or "no file beside its card; `make setup` of framerail brings it")
    return " ".join(str(value) for value in what.values())
