"""Arrays and devices under decord's names."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Union

import numpy as np


class Context(NamedTuple):
    """A device: "cpu" or "gpu", and its number."""

    device: str
    device_id: int = 0

    @property
    def device_type(self) -> int:
        """1 for the CPU, 2 for a GPU."""
        return 1 if self.device == "cpu" else 2

    def __str__(self) -> str:
        return f"{self.device}({self.device_id})"


DECORDContext = Context


def cpu(dev_id: int = 0) -> Context:
    """The CPU."""
    return Context("cpu", dev_id)


def gpu(dev_id: int = 0) -> Context:
    """A GPU."""
    return Context("gpu", dev_id)


class NDArray(np.ndarray):
    """A NumPy array that has decord's methods; frames of a GPU are copied to the host for it."""

    def asnumpy(self) -> np.ndarray:
        """The same memory as a plain NumPy array."""
        return self.view(np.ndarray)


def array(values: Union[np.ndarray, Sequence[float]]) -> NDArray:
    """An array of these values."""
    return np.asarray(values).view(NDArray)
