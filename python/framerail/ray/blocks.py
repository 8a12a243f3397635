"""Blocks of a data set: rows that are decoded into the memory of their tensor column."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np
import pyarrow as pa
from ray.data import DataContext
from ray.data.extensions import ArrowTensorArray

from ..reader import VideoReader

#: Bytes of a block where Ray has no target.
_BLOCK_BYTES = 128 << 20
#: Arrays that a process keeps: one is filled while the last one is still held by Ray.
_KEPT = 2


class BlockMemory:
    """Memory of blocks, used again when nothing refers to it any more. Pages of new memory cost a tenth of decoding and resizing a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: List[Tuple[Any, "weakref.ref[Any]"]] = []

    def take(self, size: int) -> Any:
        """Bytes that nothing else uses, with any content."""
        with self._lock:
            free = [memory for memory, user in self._kept if user() is None]
            memory: Any = next((one for one in free if size <= one.size <= 2 * size), None)
            if memory is None:
                memory = np.empty(size, np.uint8)
            # Views refer to this array, not to the one below: NumPy keeps the first one that is not a view of another array.
            array = np.frombuffer(memoryview(memory), np.uint8, size)
            others = [(one, user) for one, user in self._kept if one is not memory]
            self._kept = [(memory, weakref.ref(array)), *others][:_KEPT]
            return array


_MEMORY = BlockMemory()


class RowForm(NamedTuple):
    """What the rows of a block have in common: axes and type of a frame, and frames of a row; None where rows have one frame."""

    axes: Tuple[int, ...]
    dtype: Any
    frames: Optional[int]

    @property
    def shape(self) -> Tuple[int, ...]:
        """Axes of a row's tensor."""
        return self.axes if self.frames is None else (self.frames, *self.axes)

    @property
    def bytes(self) -> int:
        size: int = self.dtype.itemsize
        return max(math.prod(self.shape) * size, 1)

    def rows(self, block_bytes: Optional[int]) -> int:
        """Rows of a full block."""
        if block_bytes is not None:
            return max(block_bytes // self.bytes, 1)
        # Ray joins blocks until they exceed its target, which copies them, and passes on those that do. It cuts what is half as large again.
        return (DataContext.get_current().target_max_block_size or _BLOCK_BYTES) // self.bytes + 1


class Block:
    """A block in the making."""

    def __init__(self, form: RowForm, rows: int) -> None:
        self.form = form
        memory = _MEMORY.take(rows * form.bytes)
        self._frames = memory.view(form.dtype).reshape(rows, *form.shape)
        self._paths: List[str] = []
        self._numbers: List[int] = []
        self._seconds: List[Any] = []

    @property
    def room(self) -> int:
        """Rows that are still to come."""
        return len(self._frames) - len(self._paths)

    def read(self, reader: VideoReader[Any, Any], path: str, numbers: Sequence[int], frames: List[int]) -> None:
        """Adds rows of a video: their numbers, and those of their frames."""
        first = len(self._paths)
        part = self._frames[first : first + len(numbers)]
        batch = reader.read(frames, out=part.reshape(-1, *self.form.axes))
        self._paths += [path] * len(numbers)
        self._numbers += numbers
        self._seconds.append(np.asarray(batch.seconds, np.float64))

    def table(self, number: str, frames: str) -> pa.Table:
        """The rows so far, with the names of two columns."""
        count, seconds = len(self._paths), np.concatenate(self._seconds)
        is_clip = self.form.frames is not None
        return pa.table(
            {
                "path": pa.array(self._paths, pa.string()),
                number: pa.array(self._numbers, pa.int64()),
                "seconds": ArrowTensorArray.from_numpy(seconds.reshape(count, -1)) if is_clip else pa.array(seconds),
                frames: ArrowTensorArray.from_numpy(self._frames[:count]),
            }
        )
