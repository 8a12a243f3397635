"""Data sets of clips for PyTorch's DataLoader.

They are picklable and work in workers started by fork, forkserver and spawn: readers are opened where they are used.
Needs PyTorch; importing this module imports it.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Dict, List, Optional

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info

from .augment import Augment, mixed_seed
from .clips import _EDGES, clip_numbers
from .errors import DecodeError, UnsupportedError
from .options import READER_DEFAULTS, bad, choice, known, whole
from .reader import VideoReader

__all__ = ["ClipDataset", "ClipStream", "collate"]

_log = logging.getLogger("framerail.torch")

#: Errors of a source, as opposed to mistakes of the caller.
_SOURCE_ERRORS = (DecodeError, UnsupportedError, OSError)
#: Workers that count failures on their own.
_SLOTS = 256


class _Readers:
    """Open readers of this process, the longest unused closed first."""

    def __init__(self, limit: int, options: Dict[str, Any]):
        self._limit = limit
        self._options = options
        self._process = os.getpid()
        self._open: OrderedDict[int, VideoReader] = OrderedDict()

    def get(self, key: int, source: Any) -> VideoReader:
        if self._process != os.getpid():
            # Of the process that we were forked from.
            self._open.clear()
            self._process = os.getpid()
        reader = self._open.pop(key, None)
        if reader is None:
            options = dict(self._options)
            if get_worker_info() is not None:
                # Workers are the parallelism.
                options.setdefault("threads", 1)
            reader = VideoReader(source, **options)
        self._open[key] = reader
        while len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        return reader

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __reduce__(self) -> tuple:
        return _Readers, (self._limit, self._options)


class _Clips:
    """What both kinds of data set share: sources, sampling, seeds, failures."""

    def __init__(
        self,
        sources: Sequence[Any],
        labels: Optional[Sequence[Any]],
        sampling: Dict[str, Any],
        augment: Optional[Augment],
        transform: Optional[Callable[[Any], Any]],
        seed: int,
        errors: str,
        max_open: int,
        options: Dict[str, Any],
    ):
        known(options, READER_DEFAULTS)
        if options.get("output", "torch") not in ("torch", "auto"):
            raise bad("output", options["output"], "'torch': data sets give tensors")
        if labels is not None and len(labels) != len(sources):
            raise ValueError(f"there are {len(labels)} labels for {len(sources)} sources; give one for each")
        if augment is not None and not isinstance(augment, Augment):
            raise bad("augment", augment, "a framerail.Augment; for other functions use transform")
        choice("edge", sampling["edge"], _EDGES)
        self.sources = list(sources)
        self.labels = None if labels is None else list(labels)
        self.augment = augment
        self.transform = transform
        self.seed = whole("seed", seed, 0)
        self._sampling = sampling
        self._errors = choice("errors", errors, ("raise", "skip"))
        self._options = {**options, "output": "torch"}
        self._readers = _Readers(whole("max_open", max_open, 1), self._options)
        # Shared, so that workers that stay alive see a new epoch, and what they could not read is counted here.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._failed = torch.zeros(_SLOTS, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch, from 0: part of every seed."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch: random clips and augmentation are drawn anew. Call it before iterating over a loader."""
        self._epoch.fill_(whole("epoch", epoch, 0))

    @property
    def failed(self) -> int:
        """Clips that could not be read and were skipped so far, by all workers."""
        return int(self._failed.sum())

    def close(self) -> None:
        """Closes the readers that this process has open."""
        self._readers.close()

    def _reader(self, source: int) -> VideoReader:
        return self._readers.get(source, self.sources[source])

    def _numbers(self, reader: VideoReader, seed: int, num_clips: Optional[int]) -> List[tuple]:
        return clip_numbers(reader, num_clips=num_clips, seed=seed, **self._sampling)

    def _sample(self, source: int, clip: int, reader: VideoReader, numbers: List[int], filled: int, seed: int, out: Any = None) -> dict:
        batch = reader.read(numbers, out=out)
        clip_frames = batch.data
        if self.augment is not None:
            layout = reader._options["layout"]
            clip_frames = self.augment(clip_frames, seed=seed, layout={"NCHW": "TCHW", "NHWC": "THWC"}.get(layout, layout), threads=1)
        if self.transform is not None:
            clip_frames = self.transform(clip_frames)
        sample = {
            "frames": clip_frames,
            "numbers": batch.numbers,
            "seconds": batch.seconds,
            "source": source,
            "clip": clip,
            "filled": filled,
        }
        if self.labels is not None:
            sample["label"] = self.labels[source]
        return sample

    def _skip(self, source: int, error: Exception) -> None:
        if self._errors == "raise":
            raise error
        worker = get_worker_info()
        self._failed[(worker.id if worker else 0) % _SLOTS] += 1
        _log.warning("%s is skipped: %s", self.sources[source], error)


class ClipDataset(_Clips, Dataset):
    """Clips of many videos by index, for samplers that shuffle: a map-style data set.

    Parameters
    ----------
    sources : sequence
        What ``VideoReader`` takes: paths, addresses, bytes.
    labels : sequence, optional
        One for each source; comes with each of its clips.
    num_clips : int
        Clips of each source in an epoch; item ``i`` is clip ``i % num_clips`` of source ``i // num_clips``.
    frames_per_clip, stride, policy, by, start, end, edge
        As in ``framerail.sample_clips``; the policy is "random" or "regular".
    augment : Augment, optional
        Applied with a seed of its own for each item and epoch.
    transform : callable, optional
        Called with the clip's frames at last; must be picklable for workers that are spawned.
    seed : int
        With epoch and item it decides everything that is random.
    rank, world_size : int, optional
        Only this part of the sources, every ``world_size``-th; all parts are equally long, for which some sources are
        left out of an epoch. Not needed with a ``DistributedSampler``.
    errors : str
        "raise", or "skip": an item whose source cannot be read is None, which ``collate`` leaves out; it is logged and
        counted in ``failed``.
    max_open : int
        Readers that each process keeps open.
    **options
        Of ``VideoReader``. In workers, ``threads`` is 1 by default.

    Notes
    -----
    An item is a dict: "frames" [T, C, H, W], "numbers" and "seconds" [T], "source", "clip", "filled" (last frames that
    stand for frames beyond the end), and "label" where labels were given.

    Examples
    --------
    >>> import framerail as fr
    >>> data = fr.torch.ClipDataset(paths, frames_per_clip=16, stride=2, size=(112, 112))  # doctest: +SKIP
    >>> loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=4,
    ...                     collate_fn=fr.torch.collate)  # doctest: +SKIP
    """

    def __init__(
        self,
        sources: Sequence[Any],
        *,
        labels: Optional[Sequence[Any]] = None,
        num_clips: int = 1,
        frames_per_clip: int = 16,
        stride: Optional[float] = None,
        policy: str = "random",
        by: str = "frames",
        start: Optional[float] = None,
        end: Optional[float] = None,
        edge: str = "repeat",
        augment: Optional[Augment] = None,
        transform: Optional[Callable[[Any], Any]] = None,
        seed: int = 0,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        errors: str = "raise",
        max_open: int = 4,
        **options: Any,
    ):
        choice("policy", policy, ("random", "regular"))
        if (rank is None) != (world_size is None):
            raise ValueError("options 'rank' and 'world_size' go together")
        if rank is not None and world_size is not None:
            world_size = whole("world_size", world_size, 1)
            if whole("rank", rank, 0) >= world_size:
                raise bad("rank", rank, f"a number below world_size, {world_size}")
            count = len(sources) // world_size
            sources = list(sources)[rank::world_size][:count]
            labels = None if labels is None else list(labels)[rank::world_size][:count]
        sampling = {
            "frames_per_clip": whole("frames_per_clip", frames_per_clip, 1), "stride": stride, "policy": policy, "by": by,
            "start": start, "end": end, "edge": edge,
        }  # fmt: skip
        _Clips.__init__(self, sources, labels, sampling, augment, transform, seed, errors, max_open, options)
        self.num_clips = whole("num_clips", num_clips, 1)

    def __len__(self) -> int:
        return len(self.sources) * self.num_clips

    def _plan(self, index: int) -> tuple:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)} does not exist")
        source, clip = divmod(index, self.num_clips)
        reader = self._reader(source)
        is_random = self._sampling["policy"] == "random"
        seed = mixed_seed(self.seed, self.epoch, index)
        clips = self._numbers(reader, seed, 1 if is_random else self.num_clips)
        numbers, filled = clips[0 if is_random else clip]
        return source, clip, reader, numbers, filled, seed

    def _item(self, index: int, out: Any = None) -> Optional[dict]:
        try:
            return self._sample(*self._plan(index), out=out)
        except _SOURCE_ERRORS as error:
            self._skip(index // self.num_clips, error)
            return None

    def __getitem__(self, index: int) -> Optional[dict]:
        return self._item(index)

    def __getitems__(self, indices: List[int]) -> List[Optional[dict]]:
        """The items of a batch; where nothing is done to their frames, these are made right in the batch's memory."""
        if self.augment is not None or self.transform is not None or self._options.get("device", "cpu") != "cpu":
            return [self._item(index) for index in indices]
        made: List[Optional[dict]] = []
        whole_batch: Optional[torch.Tensor] = None
        for place, index in enumerate(indices):
            out = None
            try:
                picture = json.loads(self._reader(index // self.num_clips)._reader.picture())
                shape = (self._sampling["frames_per_clip"], *picture["shape"])
                if whole_batch is None:
                    whole_batch = _batch_memory((len(indices), *shape), getattr(torch, picture["dtype"]))
                out = whole_batch[place] if whole_batch.shape[1:] == shape else None
            except _SOURCE_ERRORS:
                pass  # The item itself meets the same error and reports it.
            made.append(self._item(index, out))
        return made


def _batch_memory(shape: tuple, dtype: Any) -> Any:
    """Memory for a batch; in a worker it is shared with the process that takes the batch, and so not copied again."""
    batch = torch.empty(shape, dtype=dtype)
    return batch.share_memory_() if get_worker_info() is not None else batch


class ClipStream(_Clips, IterableDataset):
    """Clips of many videos one after another: an iterable data set, which reads each file from front to back.

    Sources are divided among ranks and workers, so that each is read once in an epoch.

    Parameters
    ----------
    sources, labels, augment, transform, seed, errors, max_open, **options
        As in ``ClipDataset``; what is skipped does not come at all.
    num_clips, frames_per_clip, stride, policy, step, by, start, end, edge
        As in ``framerail.sample_clips``; "every" is the default policy, with clips that follow one another.
    shuffle : bool
        Take sources in an order drawn from seed and epoch.
    rank, world_size : int, optional
        This process among those that train together; by default what ``torch.distributed`` says.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        *,
        labels: Optional[Sequence[Any]] = None,
        num_clips: Optional[int] = None,
        frames_per_clip: int = 16,
        stride: Optional[float] = None,
        policy: str = "every",
        step: Optional[float] = None,
        by: str = "frames",
        start: Optional[float] = None,
        end: Optional[float] = None,
        edge: str = "repeat",
        shuffle: bool = False,
        augment: Optional[Augment] = None,
        transform: Optional[Callable[[Any], Any]] = None,
        seed: int = 0,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        errors: str = "raise",
        max_open: int = 1,
        **options: Any,
    ):
        if policy == "every" and step is None:
            step = frames_per_clip * (1 if stride is None else stride)
        sampling = {
            "frames_per_clip": whole("frames_per_clip", frames_per_clip, 1), "stride": stride, "policy": policy, "by": by,
            "step": step, "start": start, "end": end, "edge": edge,
        }  # fmt: skip
        _Clips.__init__(self, sources, labels, sampling, augment, transform, seed, errors, max_open, options)
        if (rank is None) != (world_size is None):
            raise ValueError("options 'rank' and 'world_size' go together")
        self._num_clips = None if num_clips is None else whole("num_clips", num_clips, 1)
        self._shuffle = bool(shuffle)
        self._place = (rank, world_size)

    def _share(self) -> List[int]:
        """The sources of this rank and worker, in order."""
        rank, world_size = self._place
        if rank is None or world_size is None:
            distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if distributed else 0
            world_size = torch.distributed.get_world_size() if distributed else 1
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        order = list(range(len(self.sources)))
        if self._shuffle:
            order = [order[at] for at in torch.randperm(len(order), generator=_generator(self.seed, self.epoch)).tolist()]
        return order[rank * workers + number :: world_size * workers]

    def __iter__(self) -> Iterator[dict]:
        epoch = self.epoch
        for source in self._share():
            seed = mixed_seed(self.seed, epoch, source)
            try:
                reader = self._reader(source)
                clips = self._numbers(reader, seed, self._num_clips)
            except _SOURCE_ERRORS as error:
                self._skip(source, error)
                continue
            for clip, (numbers, filled) in enumerate(clips):
                try:
                    sample = self._sample(source, clip, reader, numbers, filled, mixed_seed(seed, clip))
                except _SOURCE_ERRORS as error:
                    self._skip(source, error)
                    break
                yield sample


def _generator(seed: int, epoch: int) -> Any:
    return torch.Generator().manual_seed(mixed_seed(seed, epoch) % 2**63)


def collate(items: List[Optional[dict]]) -> Optional[dict]:
    """Stacks items of a data set to a batch: "frames" becomes [B, T, C, H, W].

    Items that are None, which ``errors="skip"`` gives, are left out; a batch of nothing but them is None. Frames that lie
    in one block already, as ``ClipDataset`` makes them, are not copied.
    """
    present = [item for item in items if item is not None]
    if not present:
        return None
    whole_batch = _common_block([item["frames"] for item in present])
    if whole_batch is None:
        return default_collate(present)
    rest = default_collate([{name: value for name, value in item.items() if name != "frames"} for item in present])
    return {"frames": whole_batch, **rest}


def _common_block(frames: List[Any]) -> Any:
    """The tensor whose entries these are, in order and complete; None otherwise."""
    base = getattr(frames[0], "_base", None)
    if base is None or base.dim() != frames[0].dim() + 1 or base.shape[0] != len(frames) or not base.is_contiguous():
        return None
    for place, clip in enumerate(frames):
        if clip._base is not base or clip.data_ptr() != base[place].data_ptr() or clip.shape != base.shape[1:]:
            return None
    return base
