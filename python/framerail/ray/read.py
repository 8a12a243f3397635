"""Clips and frames of many videos as a Ray data set.

Read tasks are made by size: small files share one, long files are divided at keyframes, so that one long file keeps many workers busy.
A task decodes straight into the memory of its blocks, whose bytes are bounded.
"""

from __future__ import annotations

import bisect
import copy
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.data.extensions import ArrowTensorArray

from ..clips import clip_numbers
from ..errors import DecodeError, UnsupportedError
from ..jobs.inputs import Input, list_inputs
from ..options import READER_DEFAULTS, bad, choice, known, whole
from ..reader import VideoReader
from ..remote import RemoteFile
from ..source import printable

_log = logging.getLogger("framerail.ray")

#: Errors of a source, as opposed to mistakes of the caller.
_SOURCE_ERRORS = (DecodeError, UnsupportedError, OSError)
#: Size of a file in bytes below which it is not divided.
_LEAST_BYTES = 16 << 20
#: Bytes of a block.
_BLOCK_BYTES = 64 << 20
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
    frames_per_clip: int = 16,
    stride: Optional[float] = None,
    step: Optional[float] = None,
    policy: str = "every",
    num_clips: Optional[int] = None,
    by: str = "frames",
    seed: int = 0,
    edge: str = "repeat",
    errors: str = "raise",
    block_bytes: int = _BLOCK_BYTES,
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
    frames_per_clip, stride, step, policy, num_clips, by, seed, edge
        As in ``framerail.sample_clips``. By default "every": clips that follow one another, ``step`` apart (a clip's length).
    errors : str
        "raise", or "skip": what cannot be read is logged and left out.
    block_bytes : int
        Bytes of frames in a block at most; a block holds at least one clip.
    override_num_blocks, concurrency, ray_remote_args
        As in ``ray.data.read_datasource``: number of read tasks, and how they run.
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
    if policy == "every" and step is None:
        step = frames_per_clip * (1 if stride is None else stride)
    sampling = {
        "frames_per_clip": whole("frames_per_clip", frames_per_clip, 1), "stride": stride, "step": step, "policy": policy,
        "num_clips": num_clips, "by": by, "seed": seed, "edge": edge,
    }  # fmt: skip
    source = ClipSource(list_inputs(inputs, storage_options), sampling, errors, block_bytes, storage_options, options)
    return source.dataset(override_num_blocks, concurrency, ray_remote_args)


def read_frames(
    inputs: Union[str, "os.PathLike[str]", Iterable[Any]],
    *,
    every: int = 1,
    errors: str = "raise",
    block_bytes: int = _BLOCK_BYTES,
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

    def __init__(
        self, inputs: List[Input], errors: str, block_bytes: int, storage_options: Optional[Dict[str, Any]], options: Dict[str, Any]
    ) -> None:
        super().__init__()
        known(options, READER_DEFAULTS)
        if options.get("output", "numpy") not in ("numpy", "auto"):
            raise bad("output", options["output"], "the default only: rows are Arrow tensors; iter_torch_batches makes them PyTorch's")
        self._inputs = inputs
        self._errors = choice("errors", errors, ("raise", "skip"))
        self._block_bytes = whole("block_bytes", block_bytes, 1)
        self._storage = storage_options or {}
        self._options = {"layout": "THWC", "threads": 1, **options, "output": "numpy"}
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
                firsts = self._first_frames(reader)
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
        """The blocks of a task."""
        for share in shares:
            try:
                with self._open(share.input) as reader:
                    yield from self._blocks_of(reader, share)
            except _SOURCE_ERRORS as error:
                if self._errors == "raise":
                    raise
                _log.warning("%s is skipped: %s", share.input.path, error)

    def _first_frames(self, reader: VideoReader[Any, Any]) -> List[int]:
        """The first frame of each item of a file."""
        raise NotImplementedError

    def _blocks_of(self, reader: VideoReader[Any, Any], share: Share) -> Iterator[pa.Table]:
        raise NotImplementedError


class _Reading:
    """A read task's function."""

    def __init__(self, source: _Source, shares: List[Share]) -> None:
        self._source, self._shares = copy.copy(source), shares
        # Each task is sent without the inputs of all others.
        self._source._inputs, self._source._tasks = [], []

    def __call__(self) -> Iterator[pa.Table]:
        return self._source.blocks(self._shares)


def _shape_of(reader: VideoReader[Any, Any]) -> Tuple[Tuple[int, ...], Any]:
    """Axes and type of one frame."""
    first = reader.read_frames([0])
    return tuple(first.shape[1:]), first.dtype


class ClipSource(_Source):
    """The data source of ``read_clips``."""

    def __init__(self, inputs: List[Input], sampling: Dict[str, Any], errors: str, block_bytes: int, storage: Any, options: Dict[str, Any]) -> None:
        super().__init__(inputs, errors, block_bytes, storage, options)
        self._sampling = sampling

    def get_name(self) -> str:
        return "FramerailClips"

    def _first_frames(self, reader: VideoReader[Any, Any]) -> List[int]:
        return [numbers[0] for numbers, _ in clip_numbers(reader, **self._sampling)]

    def _blocks_of(self, reader: VideoReader[Any, Any], share: Share) -> Iterator[pa.Table]:
        clips = clip_numbers(reader, **self._sampling)
        last = len(clips) if share.last is None else share.last
        axes, dtype = _shape_of(reader)
        length = self._sampling["frames_per_clip"]
        clip_bytes = int(np.prod(axes)) * length * dtype.itemsize
        count = max(self._block_bytes // max(clip_bytes, 1), 1)
        for start in range(share.first, last, count):
            some = clips[start : min(start + count, last)]
            frames = np.empty((len(some), length, *axes), dtype)
            batch = reader.read([number for numbers, _ in some for number in numbers], out=frames.reshape(-1, *axes))
            yield pa.table(
                {
                    "path": pa.array([printable(share.input.path)] * len(some)),
                    "clip": pa.array(range(start, start + len(some)), pa.int64()),
                    "seconds": ArrowTensorArray.from_numpy(np.asarray(batch.seconds).reshape(len(some), length)),
                    "frames": ArrowTensorArray.from_numpy(frames),
                }
            )


class FrameSource(_Source):
    """The data source of ``read_frames``."""

    def __init__(self, inputs: List[Input], every: int, errors: str, block_bytes: int, storage: Any, options: Dict[str, Any]) -> None:
        super().__init__(inputs, errors, block_bytes, storage, options)
        self._every = every

    def get_name(self) -> str:
        return "FramerailFrames"

    def _first_frames(self, reader: VideoReader[Any, Any]) -> List[int]:
        return list(range(0, len(reader), self._every))

    def _blocks_of(self, reader: VideoReader[Any, Any], share: Share) -> Iterator[pa.Table]:
        numbers = range(0, len(reader), self._every)[share.first : share.last]
        if not numbers:
            return
        axes, dtype = _shape_of(reader)
        count = max(self._block_bytes // max(int(np.prod(axes)) * dtype.itemsize, 1), 1)
        for start in range(0, len(numbers), count):
            some = numbers[start : start + count]
            images = np.empty((len(some), *axes), dtype)
            batch = reader.read(some, out=images)
            yield pa.table(
                {
                    "path": pa.array([printable(share.input.path)] * len(some)),
                    "frame": pa.array(some, pa.int64()),
                    "seconds": pa.array(np.asarray(batch.seconds, np.float64)),
                    "image": ArrowTensorArray.from_numpy(images),
                }
            )
