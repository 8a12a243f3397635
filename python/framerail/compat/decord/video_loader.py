"""``decord.video_loader``: batches over several files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, List, Tuple, Union

import numpy as np

from . import bridge
from ._readers import VideoReader
from .ndarray import Context

if TYPE_CHECKING:
    from .bridge import Array


class VideoLoader:
    """Batches of frames of several files, each of one file; decord's ``VideoLoader``. ``framerail.torch.ClipLoader`` does more.

    Parameters
    ----------
    uris : list of str
        The files.
    ctx : Context or list of Context
        Where they are decoded; files are spread over several.
    shape : tuple
        Frames of a batch, height, width, 3.
    interval : int
        Frames that are left out between two of a batch.
    skip : int
        Frames that are left out between two batches.
    shuffle : int
        0 and -1 keep the order, 1 shuffles files, 2 batches, 3 the batches of each file.
    prefetch : int
        Ignored.
    """

    def __init__(
        self,
        uris: Sequence[str],
        ctx: Union[Context, Sequence[Context]],
        shape: Tuple[int, int, int, int],
        interval: int,
        skip: int,
        shuffle: int,
        prefetch: int = 0,
    ) -> None:
        assert isinstance(uris, (list, tuple)) and uris, "uris: give a list of files"
        assert len(shape) == 4, f"expected shape: [bs, height, width, 3], given {shape}"
        if shuffle not in (-1, 0, 1, 2, 3):
            raise ValueError(f"shuffle: {shuffle}; use -1, 0, 1, 2 or 3")
        places = [ctx] if isinstance(ctx, Context) else list(ctx)
        size, height, width, _ = shape
        self._readers = [VideoReader(uri.strip(), places[at % len(places)], width, height) for at, uri in enumerate(uris)]
        step = max(interval, 0) + 1
        stride = (size - 1) * step + 1 + max(skip, 0)
        #: Batches of each file: the file's number, and the frames.
        self._of_files: List[List[Tuple[int, range]]] = [
            [(at, range(first, first + size * step, step)) for first in range(0, len(reader) - size * step + 1, stride)]
            for at, reader in enumerate(self._readers)
        ]
        self._shuffle = shuffle
        self.reset()

    def __len__(self) -> int:
        return sum(len(batches) for batches in self._of_files)

    def reset(self) -> None:
        """Starts again, shuffled again."""
        files = [list(batches) for batches in self._of_files]
        if self._shuffle == 1:
            random.shuffle(files)
        if self._shuffle == 3:
            for batches in files:
                random.shuffle(batches)
        self._order = [batch for batches in files for batch in batches]
        if self._shuffle == 2:
            random.shuffle(self._order)
        self._next = 0

    def __iter__(self) -> Iterator[Tuple["Array", "Array"]]:
        return self

    def __next__(self) -> Tuple["Array", "Array"]:
        if self._next >= len(self._order):
            raise StopIteration
        file, numbers = self._order[self._next]
        self._next += 1
        places = np.array([(file, number) for number in numbers], np.int64)
        return self._readers[file].get_batch(numbers), bridge.bridge_out(places)

    def next(self) -> Tuple["Array", "Array"]:
        """The next batch: frames, and the number of the file and of the frame of each."""
        return next(self)
