"""framerail's memory as arrays of the caller's library."""

from __future__ import annotations

import array
import contextlib
import functools
import importlib.util
import math
import sys
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

from . import _framerail
from .lazy import has_numpy, np

if TYPE_CHECKING:
    import numpy.typing as npt


@functools.cache
def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    return importlib.util.find_spec("torch") is not None


def handed_over(tensor: _framerail.Tensor, output: str) -> Any:
    """Converts a tensor to the library that ``output`` names: without a copy, except for PyTorch on a GPU."""
    if output == "dlpack":
        return tensor
    if output == "torch" or (output == "auto" and has_torch()):
        return to_torch(tensor)
    if output == "auto" and not has_numpy():
        return tensor
    return to_numpy(tensor)


def to_torch(tensor: _framerail.Tensor) -> Any:
    try:
        import torch
        from torch.utils.dlpack import from_dlpack
    except ImportError as error:
        raise ImportError("output='torch' needs PyTorch: pip install 'framerail[torch]'") from error
    if not hasattr(torch, tensor.dtype):
        raise ValueError(f"option 'dtype': PyTorch {torch.__version__} has no {tensor.dtype}; use another, or output='numpy'")
    is_empty = 0 in tensor.shape
    # Some releases of PyTorch refuse empty tensors through DLPack.
    if tensor.device == "cpu" and not is_empty:
        return from_dlpack(tensor)
    made = _torch_memory(torch, tensor.shape, getattr(torch, tensor.dtype), torch.device(tensor.device))
    if not is_empty:
        with on_device_of(made):
            tensor.copy_to(made, current_stream(made))
    return made


def _torch_memory(torch: Any, shape: Sequence[int], dtype: Any, device: Any) -> Any:
    """New memory of PyTorch's allocator: ``record_stream`` does not protect memory of other libraries."""
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except torch.cuda.OutOfMemoryError:
        if device.type != "cuda":
            raise
        # PyTorch has released its cache before it raises this. framerail has a cache too.
        _framerail.release_cuda_memory(device.index)
        return torch.empty(shape, dtype=dtype, device=device)


class _Elements:
    """Two-byte elements as NumPy's integers, keeping their owner alive."""

    def __init__(self, tensor: _framerail.Tensor):
        self._owner = tensor
        self.__array_interface__ = {"version": 3, "typestr": "<u2", "shape": tensor.shape, "data": (tensor.address, False)}


def to_numpy(tensor: _framerail.Tensor) -> npt.NDArray[Any]:
    if tensor.device != "cpu":
        raise ValueError(f"option 'output': NumPy cannot hold frames on {tensor.device}; use 'torch', 'dlpack', or device='cpu'")
    if tensor.dtype != "bfloat16":
        return np.asarray(tensor)
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("option 'dtype': NumPy has no bfloat16; install ml_dtypes or PyTorch, or use 'float16'") from None
    elements: npt.NDArray[Any] = np.asarray(_Elements(tensor)).view(ml_dtypes.bfloat16)
    return elements


def current_stream(array: Any) -> int:
    """The CUDA stream of an array's owner, numbered as in the array API standard."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor) and array.is_cuda:
        return int(torch.cuda.current_stream(array.device).cuda_stream) or 1
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return int(cupy.cuda.get_current_stream().ptr) or 1
    return 1


def on_device_of(array: Any) -> Any:
    """A context in which the array's owner exports its memory: PyTorch refuses while another device is current."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor) and array.is_cuda:
        return torch.cuda.device(array.device)
    return contextlib.nullcontext()


def to_host(array: Any) -> npt.NDArray[Any]:
    """An array of any library as a NumPy array; copied from a GPU."""
    torch = sys.modules.get("torch")
    on_host = array
    if torch is not None and isinstance(array, torch.Tensor):
        array = array.detach()
        on_host = (array.float() if array.dtype == torch.bfloat16 else array).cpu()
    elif hasattr(array, "get") and hasattr(array, "__cuda_array_interface__"):
        on_host = array.get()
    return np.asarray(on_host)


def all_to_host(arrays: Sequence[Any]) -> List[npt.NDArray[Any]]:
    """Concatenates arrays with equal further axes; those on a GPU are copied at once."""
    torch = sys.modules.get("torch")
    if torch is None or len(arrays) < 2 or not all(isinstance(array, torch.Tensor) and array.is_cuda for array in arrays):
        return [to_host(array) for array in arrays]
    joined = to_host(torch.cat(list(arrays)))
    return np.split(joined, np.cumsum([len(array) for array in arrays])[:-1])


def coverage_bytes(coverage: Any) -> Tuple[bytes, int, int]:
    """A mask's cells as bytes of 0 to 255 in row order, with rows and columns."""
    if not has_numpy():
        return _plain_coverage(coverage)
    cells = to_host(coverage)
    if cells.ndim != 2:
        raise ValueError(f"option 'coverage': has {cells.ndim} axes; give rows by columns")
    if cells.dtype == np.bool_:
        cells = cells * np.uint8(255)
    elif cells.dtype.kind == "f":
        cells = np.rint(np.clip(cells, 0.0, 1.0) * 255.0)
    return np.ascontiguousarray(cells, np.uint8).tobytes(), *cells.shape


def _plain_coverage(coverage: Any) -> Tuple[bytes, int, int]:
    """The same without NumPy: from lists, memory views and tensors."""
    rows = coverage.tolist() if hasattr(coverage, "tolist") else [list(row) for row in coverage]
    columns = len(rows[0]) if rows else 0
    if any(not isinstance(row, list) or len(row) != columns for row in rows):
        raise ValueError("option 'coverage': has rows of several lengths, or other axes; give rows by columns")
    cells = [cell for row in rows for cell in row]
    is_share = any(isinstance(cell, (bool, float)) for cell in cells)
    return bytes(round(min(max(cell, 0), 1) * 255) if is_share else cell for cell in cells), len(rows), columns


def coverage_array(cells: bytes, rows: int, columns: int) -> Any:
    if not has_numpy():
        return memoryview(cells).cast("B", (rows, columns))
    return np.frombuffer(cells, np.uint8).reshape(rows, columns)


def remade_mask(box: Tuple[float, float, float, float], cells: bytes, rows: int, columns: int) -> _framerail.InstanceMask:
    return _framerail.InstanceMask(box, coverage_array(cells, rows, columns))


def map_bytes(values: Any) -> Tuple[bytes, int, int, int]:
    """Values of a dense map as float32 in row order, with rows, columns and values per cell."""
    if not has_numpy():
        rows = values.tolist() if hasattr(values, "tolist") else [list(row) for row in values]
        columns = len(rows[0]) if rows else 0
        cells = [cell for row in rows for cell in row]
        is_flow = any(isinstance(cell, (list, tuple)) for cell in cells)
        plain = [value for cell in cells for value in cell] if is_flow else cells
        channels = 2 if is_flow else 1
        if len(plain) != len(rows) * columns * channels or not all(math.isfinite(value) for value in plain):
            raise ValueError("option 'values': give rows by columns of finite numbers, or of pairs of them")
        return array.array("f", plain).tobytes(), len(rows), columns, channels
    found = to_host(values)
    if found.ndim not in (2, 3) or found.shape[2:] not in ((), (2,)) or not np.isfinite(found).all():
        raise ValueError(f"option 'values': has shape {found.shape}; give rows by columns of finite numbers, or of pairs of them")
    return np.ascontiguousarray(found, np.float32).tobytes(), found.shape[0], found.shape[1], found.ndim - 1


def map_array(values: bytes, rows: int, columns: int, channels: int) -> Any:
    shape = (rows, columns) if channels == 1 else (rows, columns, channels)
    if not has_numpy():
        return memoryview(values).cast("f", shape)
    return np.frombuffer(values, np.float32).reshape(shape)


def remade_map(
    box: Tuple[float, float, float, float], values: bytes, rows: int, columns: int, channels: int, unit: str
) -> _framerail.DenseMap:
    return _framerail.DenseMap(box, map_array(values, rows, columns, channels), unit)


def embedding_bytes(values: Any) -> bytes:
    if not has_numpy():
        plain = values.tolist() if hasattr(values, "tolist") else list(values)
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in plain):
            raise ValueError("option 'embedding': give one axis of finite numbers")
        return array.array("f", plain).tobytes()
    vector = to_host(values)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError(f"option 'embedding': has shape {vector.shape}; give one axis of finite numbers")
    return np.ascontiguousarray(vector, np.float32).tobytes()


def embedding_array(values: bytes) -> Any:
    return np.frombuffer(values, np.float32) if has_numpy() else memoryview(values).cast("f")
