"""What PyTorch's two kinds of data sets of clips share: sources, readers, sampling, seeds and failures."""

from __future__ import annotations

import inspect
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, TypedDict

import torch
from torch.utils.data import get_worker_info

from .augment import Augment
from .clips import _EDGES, clip_numbers
from .loader import POLICIES, shared
from .options import READER_DEFAULTS, bad, choice, known, whole
from .reader import VideoReader
from .types import Source, SourceOptions

if TYPE_CHECKING:
    from .clip_audio import ClipAudio

_log = logging.getLogger("framerail.torch")

#: Workers that count failures separately.
_SLOTS = 256
#: Keys of an item.
_ITEM_NAMES = ("frames", "numbers", "seconds", "source", "clip", "filled", "label", "audio", "has_audio")


class ClipItem(TypedDict):
    """An item of a data set: "label", "audio" and "has_audio" where the data set has them. ``columns`` come by their own names."""

    frames: torch.Tensor
    numbers: torch.Tensor
    seconds: torch.Tensor
    source: int
    clip: int
    filled: int
    label: object
    audio: torch.Tensor
    has_audio: bool


class DatasetOptions(SourceOptions, total=False):
    """Options of ``VideoReader`` for data sets."""

    output: str


class ClipOptions(DatasetOptions, total=False):
    """Options of ``ClipDataset`` but for ``sources`` and ``labels``."""

    columns: Mapping[str, Sequence[object]]
    audio: Optional[ClipAudio]
    num_clips: int
    frames_per_clip: int
    stride: Optional[float]
    policy: str
    by: str
    start: Optional[float]
    end: Optional[float]
    edge: str
    snap: int
    augment: Optional[Augment]
    views: int
    short_side: Optional[int]
    crops: int
    transform: Optional[Callable[[torch.Tensor], object]]
    seed: int
    rank: Optional[int]
    world_size: Optional[int]
    errors: str
    max_open: int


class Readers:
    """Open readers of this process; the least recently used one is closed first."""

    def __init__(self, limit: int, options: Dict[str, Any]):
        self._limit = limit
        self._options = options
        self._process = os.getpid()
        self._open: OrderedDict[int, VideoReader[torch.Tensor, torch.Tensor]] = OrderedDict()

    def get(self, key: int, source: Source) -> VideoReader[torch.Tensor, torch.Tensor]:
        if self._process != os.getpid():
            # Inherited from the parent process of a fork.
            self._open.clear()
            self._process = os.getpid()
        reader = self._open.pop(key, None)
        if reader is None:
            options = dict(self._options)
            if get_worker_info() is not None:
                # The parallelism comes from the workers.
                options.setdefault("threads", 1)
            made: Any = VideoReader(source, **options)
            reader = made
        self._open[key] = reader
        while len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        return reader

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __reduce__(self) -> Tuple[Any, ...]:
        return Readers, (self._limit, self._options)


class ClipData:
    """Common parts of both data sets: sources, sampling, seeds and failures."""

    def __init__(
        self,
        sources: Sequence[Source],
        labels: Optional[Sequence[object]],
        columns: Optional[Mapping[str, Sequence[object]]],
        sampling: Dict[str, Any],
        augment: Optional[Augment],
        transform: Optional[Callable[[torch.Tensor], object]],
        seed: int,
        errors: str,
        max_open: int,
        options: Dict[str, Any],
    ):
        # Options of the class are passed by name; they are listed for the hint at a misspelt one.
        known(options, READER_DEFAULTS, inspect.signature(type(self)).parameters)
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise TypeError(f"sources: {sources!r}; give a list of sources")
        self._channels_first = options.get("layout") == "CTHW"
        if self._channels_first:
            options = {**options, "layout": "TCHW"}
        if options.get("output", "torch") not in ("torch", "auto"):
            raise bad("output", options["output"], "'torch': data sets return tensors")
        if labels is not None and len(labels) != len(sources):
            raise ValueError(f"there are {len(labels)} labels for {len(sources)} sources; give one for each")
        columns = dict(columns or {})
        for name, values in columns.items():
            if name in _ITEM_NAMES:
                raise bad("columns", name, f"other names than {', '.join(_ITEM_NAMES)}")
            if len(values) != len(sources):
                raise ValueError(f"column {name!r} has {len(values)} values for {len(sources)} sources; give one for each")
        if augment is not None and not isinstance(augment, Augment):
            raise bad("augment", augment, "a framerail.Augment; for other functions use transform")
        choice("edge", sampling["edge"], _EDGES)
        self.sources = list(sources)
        self.labels: Optional[List[Any]] = None if labels is None else list(labels)
        self.columns = columns
        self.augment = augment
        self.transform = transform
        self.seed = whole("seed", seed, 0)
        self._sampling = sampling
        self._errors = choice("errors", errors, POLICIES)
        self._options = {**options, "output": "torch"}
        self._max_open = whole("max_open", max_open, 1)
        self._readers = Readers(self._max_open, self._options)
        # Shared, so that persistent workers see a new epoch, and their failures are counted here.
        self._epoch = shared(torch.zeros((), dtype=torch.int64))
        self._failed = shared(torch.zeros(_SLOTS, dtype=torch.int64))

    @property
    def epoch(self) -> int:
        """The epoch, from 0: part of every seed."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Starts an epoch with new random clips and augmentation. Call it before iterating over a loader."""
        self._epoch.fill_(whole("epoch", epoch, 0))

    @property
    def failed(self) -> int:
        """Clips that could not be read and were skipped so far, by all workers."""
        return int(self._failed.sum())

    def close(self) -> None:
        """Closes the readers that this process has open."""
        self._readers.close()

    def __repr__(self) -> str:
        failed = f", {self.failed} clips failed" if self.failed else ""
        frames, policy = self._sampling["frames_per_clip"], self._sampling["policy"]
        return f"{type(self).__name__}({len(self.sources)} sources, {policy} clips of {frames} frames, epoch={self.epoch}{failed})"

    def _reader(self, source: int) -> VideoReader[torch.Tensor, torch.Tensor]:
        return self._readers.get(source, self.sources[source])

    def _numbers(self, reader: VideoReader[torch.Tensor, torch.Tensor], seed: int, num_clips: Optional[int]) -> List[Tuple[List[int], int]]:
        return clip_numbers(reader, num_clips=num_clips, seed=seed, **self._sampling)

    def _sample(
        self, source: int, clip: int, reader: VideoReader[torch.Tensor, torch.Tensor], numbers: List[int], filled: int, seed: int
    ) -> ClipItem:
        batch = reader.read(numbers)
        clip_frames: Any = batch.data
        if self.augment is not None:
            layout: str = reader._options["layout"]
            layout = {"NCHW": "TCHW", "NHWC": "THWC"}.get(layout, layout)
            clip_frames = self.augment(clip_frames, seed=seed, layout=layout, threads=1)
        if self._channels_first:
            clip_frames = clip_frames.transpose(0, 1).contiguous()
        if self.transform is not None:
            clip_frames = self.transform(clip_frames)
        made: Any = {"frames": clip_frames, "numbers": batch.numbers, "seconds": batch.seconds, "filled": filled}
        made.update(self._of_source(source, clip))
        item: ClipItem = made
        return item

    def _of_source(self, source: int, clip: int) -> Dict[str, object]:
        """Source, clip, label and columns of an item."""
        sample: Dict[str, object] = {"source": source, "clip": clip}
        if self.labels is not None:
            sample["label"] = self.labels[source]
        return {**sample, **{name: values[source] for name, values in self.columns.items()}}

    def _skip(self, source: int, error: Exception) -> None:
        if self._errors == "raise":
            raise error
        self._note_failure(str(self.sources[source]), error, "skipped")

    def _note_failure(self, name: str, error: Exception, what: str) -> None:
        worker = get_worker_info()
        self._failed[(worker.id if worker else 0) % _SLOTS] += 1
        _log.warning("%s is %s: %s", name, what, error)
