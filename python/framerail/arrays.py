"""Memory of framerail as arrays of the caller's library."""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any

import numpy as np

from . import _framerail

_NUMPY_TYPES = {"uint8": np.uint8, "float16": np.float16, "float32": np.float32}


@functools.cache
def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    return importlib.util.find_spec("torch") is not None


def handed_over(tensor: _framerail.Tensor, output: str) -> Any:
    """The tensor without a copy, in the library that ``output`` names."""
    if output == "dlpack":
        return tensor
    if output == "torch" or (output == "auto" and has_torch()):
        return to_torch(tensor)
    return to_numpy(tensor)


def to_torch(tensor: _framerail.Tensor) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("output='torch' needs PyTorch: pip install 'framerail[torch]'") from error
    # PyTorch refuses what has no elements on its way through DLPack in some releases.
    if 0 in tensor.shape:
        return torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype), device=tensor.device)
    return torch.from_dlpack(tensor)


class _Elements:
    """Two-byte elements under NumPy's name for whole numbers, keeping their owner."""

    def __init__(self, tensor: _framerail.Tensor):
        self._owner = tensor
        self.__array_interface__ = {"version": 3, "typestr": "<u2", "shape": tensor.shape, "data": (tensor.address, False)}


def to_numpy(tensor: _framerail.Tensor) -> np.ndarray:
    if tensor.device != "cpu":
        raise ValueError(f"option 'output': NumPy cannot hold frames on {tensor.device}; use 'torch', 'dlpack', or device='cpu'")
    if tensor.dtype != "bfloat16":
        return np.asarray(tensor)
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("option 'dtype': NumPy has no bfloat16; install ml_dtypes or PyTorch, or use 'float16'") from None
    return np.asarray(_Elements(tensor)).view(ml_dtypes.bfloat16)


def current_stream(array: Any) -> int:
    """The CUDA stream that the owner of an array works on, as the array API standard numbers streams."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor) and array.is_cuda:
        return torch.cuda.current_stream(array.device).cuda_stream or 1
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy.cuda.get_current_stream().ptr or 1
    return 1


def empty(shape: tuple, dtype: str, output: str) -> Any:
    """New host memory in the library that ``output`` names."""
    if output == "torch" or (output == "auto" and has_torch()):
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype))
    if dtype == "bfloat16":
        import ml_dtypes

        return np.empty(shape, dtype=ml_dtypes.bfloat16)
    return np.empty(shape, dtype=_NUMPY_TYPES[dtype])
