"""Which library's arrays readers hand out: ``set_bridge("torch")``, or ``with use_torch():``. Settings belong to a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ContextManager, List, Union

import numpy as np

from .ndarray import NDArray

if TYPE_CHECKING:
    import torch

    Array = Union[np.ndarray, torch.Tensor]

_BRIDGES = ("native", "torch", "mxnet", "tensorflow", "tvm")


class _Chosen(threading.local):
    def __init__(self) -> None:
        self.stack: List[str] = ["native"]


_chosen = _Chosen()


def current() -> str:
    """The bridge in use."""
    return _chosen.stack[-1]


def set_bridge(new_bridge: str) -> None:
    """Hands out arrays of "native" (NumPy with decord's methods), "torch", "mxnet", "tensorflow" or "tvm" from now on."""
    if new_bridge not in _BRIDGES:
        raise AssertionError(f"bridge {new_bridge!r}; valid bridges: {', '.join(_BRIDGES)}")
    _chosen.stack[-1] = new_bridge


def reset_bridge() -> None:
    """Hands out "native" arrays again."""
    _chosen.stack[-1] = "native"


@contextmanager
def _use(name: str) -> Iterator[None]:
    _chosen.stack.append(name)
    try:
        yield
    finally:
        _chosen.stack.pop()


def use_torch() -> ContextManager[None]:
    """Hands out PyTorch tensors within a ``with`` block."""
    return _use("torch")


def use_mxnet() -> ContextManager[None]:
    """Hands out MXNet arrays within a ``with`` block."""
    return _use("mxnet")


def use_tensorflow() -> ContextManager[None]:
    """Hands out TensorFlow tensors within a ``with`` block."""
    return _use("tensorflow")


def use_tvm() -> ContextManager[None]:
    """Hands out TVM arrays within a ``with`` block."""
    return _use("tvm")


def bridge_out(array: "Array") -> "Array":
    """An array of the library in use."""
    name = current()
    if name == "torch":
        import torch

        return array if isinstance(array, torch.Tensor) else torch.from_numpy(np.asarray(array))
    host = array if isinstance(array, np.ndarray) else array.cpu().numpy()
    if name == "native":
        return host.view(NDArray)
    if name == "tensorflow":
        import tensorflow  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return tensorflow.convert_to_tensor(host)  # type: ignore[no-any-return,unused-ignore]
    if name == "mxnet":
        import mxnet  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return mxnet.nd.array(host, dtype=host.dtype)  # type: ignore[no-any-return,unused-ignore]
    import tvm  # type: ignore[import-not-found,import-untyped,unused-ignore]

    return tvm.nd.array(host)  # type: ignore[no-any-return,unused-ignore]


def bridge_in(array: "Array") -> NDArray:
    """An array of any library as decord's."""
    given: Any = array
    host = given.cpu().numpy() if hasattr(given, "cpu") else getattr(array, "numpy", lambda: np.asarray(array))()
    return np.asarray(host).view(NDArray)
