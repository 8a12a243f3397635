"""Clips and frames of many videos as a Ray data set.

Read tasks are made by size: small files share one, long files are divided at keyframes, so that one long file keeps many workers busy.
A task decodes straight into the memory of its blocks, whose bytes are bounded.
"""

from __future__ import annotations

import bisect
import copy
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from ..clips import SAMPLING_DEFAULTS, clip_numbers, one_after_another
from ..errors import DecodeError, UnsupportedError
from ..jobs.inputs import Input, list_inputs
from ..options import choice, reader_options, whole
from ..reader import VideoReader
from ..remote import RemoteFile
from ..source import printable
from .blocks import Block, RowForm

_log = logging.getLogger("framerail.ray")

#: Errors of a source, as opposed to mistakes of the caller.
_SOURCE_ERRORS = (DecodeError, UnsupportedError, OSError)
#: Size of a file in bytes below which it is not divided.
_LEAST_BYTES = 16 << 20
#: Assumed bytes of decoded frames per byte of a file, before anything is known.
_EXPANSION = 60


class Share(NamedTuple):
    """Items ``first`` to before ``last`` of a file; all by default."""

    input: Input
    first: int = 0
    last: Optional[int] = None


def read_clips(
    inputs: Union[str, "os.PathLike[str]", Iterable[Any]],
    *,
    errors: str = "raise",
    block_bytes: Optional[int] = None,
    override_num_blocks: Optional[int] = None,
    concurrency: Optional[int] = None,
    ray_remote_args: Optional[Dict[str, Any]] = None,
    storage_options: Optional[Dict[str, Any]] = None,
    **options: Any,
) -> Dataset:
    """Clips of many videos as a Ray data set.

    Parameters
    ----------
    inputs : path, address, or iterable of them
        Files, folders (with those below), patterns and addresses such as "s3://bucket/videos/*.mp4".
    frames_per_clip, stride, step, policy, num_clips, by, seed, start, end, edge
        As in ``framerail.sample_clips``, but the default policy is "every": clips that follow one another, ``step`` apart (by default
        the length of a clip).
    errors : str
        "raise", or "skip": what cannot be read is logged and left out.
    block_bytes : int, optional
        Maximum bytes of frames in a block; a block holds at least one clip. By default blocks are as large as Ray wants them
        (``DataContext.target_max_block_size``); smaller ones are joined by Ray, which copies their frames.
    override_num_blocks, concurrency, ray_remote_args
        As in ``ray.data.read_datasource``: number of read tasks, and how they run. With ``concurrency`` or other resources than the
        step that follows, reading is a separate step of Ray: frames pass through the object store, and CPUs are divided between both.
    storage_options : dict, optional
        Options of fsspec's file system for addresses.
    **options
        Of ``VideoReader``, such as ``size=(224, 224)``; ``threads`` is 1 unless given, as tasks are the parallelism.

    Returns
    -------
    ray.data.Dataset
        Columns: "path"; "clip", its number in the video; "seconds" [T]; "frames" [T, H, W, C], or as ``layout`` says. Frames and times
        are Arrow tensors, which ``iter_torch_batches`` takes as they are.

    Raises
    ------
    FileNotFoundError, ValueError

    Examples
    --------
    >>> import framerail.ray as fr_ray  # doctest: +SKIP
    >>> ds = fr_ray.read_clips("videos/", frames_per_clip=16, stride=2, size=(224, 224))  # doctest: +SKIP
    """
    sampling = {name: options.pop(name) for name in SAMPLING_DEFAULTS if name in options}
    source = ClipSource(list_inputs(inputs, storage_options), sampling, errors, block_bytes, storage_options, options)
    return source.dataset(override_num_blocks, concurrency, ray_remote_args)


def read_frames(
    inputs: Union[str, "os.PathLike[str]", Iterable[Any]],
    *,
    every: int = 1,
    errors: str = "raise",
    block_bytes: Optional[int] = None,
    override_num_blocks: Optional[int] = None,
    concurrency: Optional[int] = None,
    ray_remote_args: Optional[Dict[str, Any]] = None,
    storage_options: Optional[Dict[str, Any]] = None,
    **options: Any,
) -> Dataset:
    """Frames of many videos as a Ray data set.

    Parameters
    ----------
    every : int
        Every Nth frame only.
    inputs, errors, block_bytes, override_num_blocks, concurrency, ray_remote_args, storage_options, **options
        As in ``read_clips``.

    Returns
    -------
    ray.data.Dataset
        Columns: "path"; "frame", its number in the video; "seconds"; "image" [H, W, C], or as ``layout`` says.
    """
    source = FrameSource(list_inputs(inputs, storage_options), whole("every", every, 1), errors, block_bytes, storage_options, options)
    return source.dataset(override_num_blocks, concurrency, ray_remote_args)


class _Source(Datasource):
    """Common parts of both kinds: inputs, their division, and conversion to blocks."""

    #: Names of the columns of rows' numbers and frames.
    _columns: Tuple[str, str]
    #: Frames of a row; None where each has one.
    _clip_frames: Optional[int] = None

    def __init__(
        self, inputs: List[Input], errors: str, block_bytes: Optional[int], storage_options: Optional[Dict[str, Any]], options: Dict[str, Any]
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._errors = choice("errors", errors, ("raise", "skip"))
        self._block_bytes = None if block_bytes is None else whole("block_bytes", block_bytes, 1)
        self._storage = storage_options or {}
        self._options = reader_options(options, SAMPLING_DEFAULTS)
        #: The shares of read tasks, where their number is not given.
        self._tasks: List[List[Share]] = []

    def dataset(self, blocks: Optional[int], concurrency: Optional[int], ray_remote_args: Optional[Dict[str, Any]]) -> Dataset:
        """The data set of all inputs."""
        if blocks is None:
            # Ray would cut the blocks of fewer tasks than it wants to have, which copies the frames of each twice.
            self._tasks = self._divided(ray.data.DataContext.get_current().read_op_min_num_blocks)
            blocks = len(self._tasks)
        return ray.data.read_datasource(self, override_num_blocks=blocks, concurrency=concurrency, ray_remote_args=ray_remote_args)

    def estimate_inmemory_data_size(self) -> Optional[int]:
        return sum(found.size for found in self._inputs) * _EXPANSION or None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: Optional[int] = None, data_context: Any = None) -> List[ReadTask]:
        tasks = []
        for shares in self._tasks or self._divided(max(parallelism, 1)):
            size = sum(share.input.size for share in shares)
            metadata = BlockMetadata(num_rows=None, size_bytes=size * _EXPANSION, input_files=[share.input.path for share in shares], exec_stats=None)
            tasks.append(ReadTask(_Reading(self, shares), metadata, per_task_row_limit=per_task_row_limit))
        return tasks

    def _divided(self, parallelism: int) -> List[List[Share]]:
        """Shares of the inputs for tasks of similar size, in the inputs' order."""
        whole_size = sum(found.size for found in self._inputs)
        target = max(whole_size // parallelism, 1)
        tasks: List[List[Share]] = []
        waiting: List[Share] = []
        waiting_bytes = 0
        for found in self._inputs:
            parts = round(found.size / max(target, _LEAST_BYTES))
            shares = self._parts(found, parts) if parts >= 2 else [Share(found)]
            if len(shares) > 1:
                tasks += [[share] for share in shares]
                continue
            if waiting and waiting_bytes + found.size > target:
                tasks.append(waiting)
                waiting, waiting_bytes = [], 0
            waiting.append(shares[0])
            waiting_bytes += found.size
        return tasks + [waiting] * bool(waiting)

    def _parts(self, found: Input, parts: int) -> List[Share]:
        """Divides a file into about this many shares, each of which begins at a keyframe."""
        try:
            with self._open(found) as reader:
                firsts = [self._numbers([item], 0)[1][0] for item in self._items(reader)]
                times = reader.times
                keyframes = np.flatnonzero(np.asarray(times.is_keyframe)).tolist()
        except _SOURCE_ERRORS as error:
            # The task that reads it reports this.
            _log.debug("%s is not divided: %s", found.path, error)
            return [Share(found)]
        if any(later < earlier for earlier, later in zip(firsts, firsts[1:])) or len(firsts) < 2:
            return [Share(found)]
        cuts = {0, len(firsts)}
        for part in range(1, parts):
            wanted = firsts[len(firsts) * part // parts]
            place = bisect.bisect_left(keyframes, wanted)
            near = [keyframes[at] for at in (place - 1, place) if 0 <= at < len(keyframes)]
            cuts.add(bisect.bisect_left(firsts, min(near, key=lambda at: abs(at - wanted))) if near else 0)
        edges = sorted(cuts)
        return [Share(found, first, last) for first, last in zip(edges, edges[1:])]

    def _open(self, found: Input) -> VideoReader[Any, Any]:
        source: Any = found.path
        if self._storage and "://" in found.path:
            source = RemoteFile(found.path, **self._storage)
        return VideoReader(source, **self._options)

    def blocks(self, shares: List[Share]) -> Iterator[pa.Table]:
        """The blocks of a task, which hold rows of several files where these have frames of one size."""
        block: Optional[Block] = None
        for share in shares:
            path = printable(share.input.path)
            try:
                with self._open(share.input) as reader:
                    items = self._items(reader)[share.first : share.last]
                    form = self._form(reader, items[0]) if items else None
                    if block is not None and form is not None and block.form != form:
                        yield self._table(block)
                        block = None
                    at = 0
                    while form is not None and at < len(items):
                        block = block or Block(form, form.rows(self._block_bytes))
                        some = items[at : at + block.room]
                        numbers, frames = self._numbers(some, share.first + at)
                        block.read(reader, path, numbers, frames)
                        at += len(some)
                        if not block.room:
                            yield self._table(block)
                            block = None
            except _SOURCE_ERRORS as error:
                if self._errors == "raise":
                    raise
                _log.warning("%s is skipped: %s", share.input.path, error)
        if block is not None:
            yield self._table(block)

    def _form(self, reader: VideoReader[Any, Any], item: Any) -> RowForm:
        """The form of a file's rows, by its first frame."""
        _, frames = self._numbers([item], 0)
        first = reader.read_frames(frames[:1])
        return RowForm(tuple(first.shape[1:]), first.dtype, self._clip_frames)

    def _table(self, block: Block) -> pa.Table:
        return block.table(*self._columns)

    def _items(self, reader: VideoReader[Any, Any]) -> Sequence[Any]:
        """The rows of a file, by their frames."""
        raise NotImplementedError

    def _numbers(self, items: Sequence[Any], first: int) -> Tuple[List[int], List[int]]:
        """Numbers of rows from the ``first`` on, and of all their frames."""
        raise NotImplementedError


class _Reading:
    """A read task's function."""

    def __init__(self, source: _Source, shares: List[Share]) -> None:
        self._source, self._shares = copy.copy(source), shares
        # Each task is sent without the inputs of all others.
        self._source._inputs, self._source._tasks = [], []

    def __call__(self) -> Iterator[pa.Table]:
        return self._source.blocks(self._shares)


class ClipSource(_Source):
    """The data source of ``read_clips``."""

    _columns = ("clip", "frames")

    def __init__(
        self, inputs: List[Input], sampling: Dict[str, Any], errors: str, block_bytes: Optional[int], storage: Any, options: Dict[str, Any]
    ) -> None:
        super().__init__(inputs, errors, block_bytes, storage, options)
        self._sampling = one_after_another(sampling)
        self._clip_frames = self._sampling["frames_per_clip"]

    def get_name(self) -> str:
        return "FramerailClips"

    def _items(self, reader: VideoReader[Any, Any]) -> Sequence[Any]:
        return [numbers for numbers, _ in clip_numbers(reader, **self._sampling)]

    def _numbers(self, items: Sequence[Any], first: int) -> Tuple[List[int], List[int]]:
        return list(range(first, first + len(items))), [frame for clip in items for frame in clip]


class FrameSource(_Source):
    """The data source of ``read_frames``."""

    _columns = ("frame", "image")

    def __init__(
        self, inputs: List[Input], every: int, errors: str, block_bytes: Optional[int], storage: Any, options: Dict[str, Any]
    ) -> None:
        super().__init__(inputs, errors, block_bytes, storage, options)
        self._every = every

    def get_name(self) -> str:
        return "FramerailFrames"

    def _items(self, reader: VideoReader[Any, Any]) -> Sequence[Any]:
        return range(0, len(reader), self._every)

    def _numbers(self, items: Sequence[Any], first: int) -> Tuple[List[int], List[int]]:
        return list(items), list(items)
