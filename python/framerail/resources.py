"""Libraries and models in Python packages, passed to the compiled part through the environment."""

from __future__ import annotations

import glob
import importlib.util
import os

#: Models included in the wheel.
_MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")


def find() -> None:
    """Sets the path of ONNX Runtime's library in the package ``onnxruntime``, and of this package's models.

    ``ORT_DYLIB_PATH`` keeps its value where it is set; folders that ``FRAMERAIL_MODELS`` names come before this package's.
    """
    if not os.environ.get("ORT_DYLIB_PATH"):
        library = _onnxruntime()
        if library is not None:
            os.environ["ORT_DYLIB_PATH"] = library
    folders = [folder for folder in os.environ.get("FRAMERAIL_MODELS", "").split(os.pathsep) if folder]
    if _MODELS not in folders and os.path.isdir(_MODELS):
        os.environ["FRAMERAIL_MODELS"] = os.pathsep.join([*folders, _MODELS])


def _onnxruntime() -> str | None:
    spec = importlib.util.find_spec("onnxruntime")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        libraries = sorted(glob.glob(os.path.join(glob.escape(folder), "capi", "libonnxruntime.so*")))
        if libraries:
            return libraries[-1]
    return None
