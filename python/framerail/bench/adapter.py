"""The common interface of all readers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

SEEK = "seek"
STREAM = "stream"
MODES = (SEEK, STREAM)
LAYOUTS = ("THWC", "TCHW")
#: Frames per call of readers with batches.
BATCH = 16


class Unavailable(Exception):
    """A reader that cannot be used here; the message gives the reason."""


class Adapter:
    """A reader for the benchmark. Everything is RGB, 8 bit.

    What :meth:`open` gives is passed to the other methods. ``pictures`` is whatever the reader returns for one or more frames,
    on the device and in the layout asked for; :meth:`images` takes them apart for the check.
    """

    name: str
    #: The distribution that has its version.
    package: str
    devices: tuple[str, ...] = ("cpu",)
    modes: tuple[str, ...] = MODES

    def __init__(self, device: str, layout: str) -> None:
        """Imports the reader. Raises ``ImportError`` or :class:`Unavailable`."""
        self.device = device
        self.layout = layout

    def version(self) -> str:
        return importlib.metadata.version(self.package)

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        """Opens a clip for reading in a mode; with ``size``, frames are returned as (width, height)."""
        raise NotImplementedError

    def sequence(self, opened: Any) -> Iterator[Any]:
        """Every frame in order."""
        raise NotImplementedError

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        """Frames by ascending numbers from 0, in presentation order."""
        raise NotImplementedError

    def close(self, opened: Any) -> None:
        """Closes the result of :meth:`open`."""

    def synchronize(self) -> None:
        """Waits for work that is still queued on the device."""

    def count(self, pictures: Any) -> int:
        """Number of frames in a result."""
        if isinstance(pictures, list):
            return len(pictures)
        shape: tuple[int, ...] = getattr(pictures, "shape", ())
        return int(shape[0]) if len(shape) == 4 else 1

    def images(self, pictures: Any) -> Iterator[np.ndarray]:
        """The frames of a result, each (height, width, 3) uint8 on the host."""
        array = host_array(pictures)
        for image in array if array.ndim == 4 else array[None]:
            yield image.transpose(1, 2, 0) if self.layout == "TCHW" else image

    def laid_out(self, image: np.ndarray) -> np.ndarray:
        """An image (height, width, 3) in the requested layout, contiguous."""
        return np.ascontiguousarray(image.transpose(2, 0, 1) if self.layout == "TCHW" else image)


def host_array(pictures: Any) -> np.ndarray:
    """A NumPy view or copy of an array of any library."""
    if hasattr(pictures, "detach"):
        pictures = pictures.detach().cpu().numpy()
    elif hasattr(pictures, "asnumpy"):
        pictures = pictures.asnumpy()
    elif not hasattr(pictures, "__array__") and hasattr(pictures, "__dlpack__"):
        pictures = np.from_dlpack(pictures)
    return np.asarray(pictures)


def batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Numbers in groups of :data:`BATCH`."""
    for first in range(0, len(numbers), BATCH):
        yield numbers[first : first + BATCH]
