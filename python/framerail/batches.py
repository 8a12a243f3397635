"""Batches that a reader makes ahead."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Optional, Tuple

from . import _framerail, arrays, frames, transforms
from .frames import FrameBatch, Planes
from .in_process import InProcess
from .types import Column, Frames


class BatchIterator(InProcess, Generic[Frames, Column]):
    """An iterator over batches that are made ahead. Made by ``VideoReader.batches``; also a context manager."""

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, compiled: _framerail.Batches, output: str, planes: Optional[Planes], called: Tuple[Any, ...] = ()) -> None:
        self._compiled = compiled
        self._output = output
        self._planes = planes
        self._called = called

    def __iter__(self) -> BatchIterator[Frames, Column]:
        return self

    def __next__(self) -> FrameBatch[Frames, Column]:
        made = self._compiled.next()
        if made is None:
            self._compiled.close()
            raise StopIteration
        tensor, columns = made
        data = arrays.handed_over(tensor, self._output)
        if self._planes is not None and self._output != "dlpack":
            data = data.reshape(data.shape[0], data.shape[-1])
        return frames.batch(transforms.apply(self._called, data), columns, self._planes)

    def __len__(self) -> int:
        """Number of remaining batches."""
        return self._compiled.remaining()

    def __repr__(self) -> str:
        return f"BatchIterator({len(self)} batches to come)"

    def close(self) -> None:
        """Stops decoding and releases the batches decoded ahead."""
        self._compiled.close()

    def __enter__(self) -> BatchIterator[Frames, Column]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
