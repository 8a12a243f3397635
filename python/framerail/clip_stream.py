"""Clips of many videos one after another, for PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from .augment import Augment, mixed_seed
from .clip_data import ClipData, ClipItem, DatasetOptions
from .clips import one_after_another
from .errors import DecodeError, UnsupportedError
from .loader import cores
from .options import choice, flag, whole
from .reader import VideoReader
from .shards import Run, checked_state, even_runs, rank_counts
from .types import Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Errors of a source, as opposed to mistakes of the caller.
_SOURCE_ERRORS = (DecodeError, UnsupportedError, OSError)


class ClipStream(ClipData, IterableDataset[ClipItem]):
    """Clips of many videos one after another: an iterable data set, which reads each file from front to back.

    Sources are divided among ranks and workers, so that each is read once in an epoch.

    Parameters
    ----------
    sources, labels, columns, augment, transform, seed, errors, max_open, **options
        As in ``ClipDataset``; clips that are skipped are left out, and none is replaced.
    num_clips, frames_per_clip, stride, policy, step, by, start, end, edge
        As in ``framerail.sample_clips``; "every" is the default policy, with clips that follow one another.
    shuffle : bool
        Shuffle sources by seed and epoch.
    rank, world_size : int, optional
        This process among those that train together. Default: from ``torch.distributed``.
    even : str, optional
        "pad" or "drop" gives every rank and worker the same number of clips, and so of batches: clips are divided in the order of the
        epoch, long files among several, and the first ones come again at the end, or the last ones are left out. This opens every
        file once when the stream is created. A skipped clip is replaced by the previous one. By default whole sources are
        distributed, and ``rank_counts`` returns the number of clips per rank.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        labels: Optional[Sequence[object]] = None,
        columns: Optional[Mapping[str, Sequence[object]]] = None,
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
        transform: Optional[Callable[[torch.Tensor], object]] = None,
        seed: int = 0,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        even: Optional[str] = None,
        errors: str = "raise",
        max_open: int = 1,
        **options: Unpack[DatasetOptions],
    ) -> None:
        sampling = one_after_another(
            {
                "frames_per_clip": frames_per_clip, "stride": stride, "policy": policy, "by": by, "step": step, "start": start, "end": end,
                "edge": edge,
            }
        )  # fmt: skip
        # Given for each file and epoch.
        del sampling["num_clips"], sampling["seed"]
        choice("errors", errors, ("raise", "skip"))
        ClipData.__init__(self, sources, labels, columns, sampling, augment, transform, seed, errors, max_open, {**options})
        if (rank is None) != (world_size is None):
            raise ValueError("options 'rank' and 'world_size' go together")
        self._num_clips = None if num_clips is None else whole("num_clips", num_clips, 1)
        self._shuffle = flag("shuffle", shuffle)
        self._place = (rank, world_size)
        self._even = None if even is None else choice("even", even, ("pad", "drop"))
        self._counts: Optional[List[int]] = None if even is None else self._count_clips()
        # Run and clip at which the next pass begins, and at which the current one continues.
        self._start = self._now = (0, 0)

    def _count_clips(self) -> List[int]:
        """Clips of each source."""
        if self._sampling["policy"] != "every":
            return [self._num_clips or 1] * len(self.sources)

        def count(place: int) -> int:
            try:
                options: Any = {**self._options, "threads": 1}
                opened_here: Any = VideoReader(self.sources[place], **options)
                with opened_here as reader:
                    return len(self._numbers(reader, 0, self._num_clips))
            except _SOURCE_ERRORS as error:
                self._skip(place, error)
                return 0

        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(count, range(len(self.sources))))

    def rank_counts(self, world_size: int) -> List[int]:
        """Number of clips of each rank in this epoch. Without ``even``, files whose clips were not counted yet are opened."""
        if self._even is not None:
            counts = self._counts or []
            each = sum(counts) // world_size if self._even == "drop" else -(-sum(counts) // world_size)
            return [each] * world_size
        if self._counts is None:
            self._counts = self._count_clips()
        return rank_counts(self._order(), self._counts, world_size)

    def state_dict(self) -> Dict[str, int]:
        """The position of this process in the epoch, for torchdata's ``StatefulDataLoader``, which calls it in every worker."""
        run, clip = self._now
        return {"epoch": self.epoch, "run": run, "clip": clip, "seed": self.seed, "sources": len(self.sources), "shards": self._shard()[0]}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """The next pass continues at the position of another stream with the same sources and options.

        Raises
        ------
        ValueError
            When sources, seed, or the number of ranks and workers differ.
        """
        checked_state(state, self.state_dict())
        self.set_epoch(state["epoch"])
        self._start = self._now = (whole("run", state["run"], 0), whole("clip", state["clip"], 0))

    def _shard(self) -> Tuple[int, int]:
        """Shards of all ranks and workers, and the number of this one."""
        rank, world_size = self._place
        if rank is None or world_size is None:
            distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if distributed else 0
            world_size = torch.distributed.get_world_size() if distributed else 1
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        return world_size * workers, rank * workers + number

    def _order(self) -> List[int]:
        """Sources in the order of the epoch."""
        order = list(range(len(self.sources)))
        if self._shuffle:
            order = [order[at] for at in torch.randperm(len(order), generator=_generator(self.seed, self.epoch)).tolist()]
        return order

    def _runs(self) -> List[Run]:
        """The clips of this rank and worker, in order."""
        shards, number = self._shard()
        if self._even is not None and self._counts is not None:
            return even_runs(self._order(), self._counts, shards, number, self._even)
        return [Run(source) for source in self._order()[number::shards]]

    def __iter__(self) -> Iterator[ClipItem]:
        epoch = self.epoch
        (first_run, first_clip), self._start = self._start, (0, 0)
        last: Optional[ClipItem] = None
        owed = 0
        for number, run in enumerate(self._runs()):
            if number < first_run:
                continue
            begin = run.first if number > first_run else max(run.first, first_clip)
            seed = mixed_seed(self.seed, epoch, run.source)
            given = begin
            try:
                reader = self._reader(run.source)
                clips = self._numbers(reader, seed, self._num_clips)
                for clip in range(begin, len(clips) if run.last is None else min(run.last, len(clips))):
                    numbers, filled = clips[clip]
                    last = self._sample(run.source, clip, reader, numbers, filled, mixed_seed(seed, clip))
                    given = clip + 1
                    self._now = (number, given)
                    yield last
            except _SOURCE_ERRORS as error:
                self._skip(run.source, error)
            if self._even is not None and run.last is not None:
                # Ranks wait for each other: skipped clips are replaced.
                owed += run.last - given
                while owed and last is not None:
                    owed -= 1
                    self._now = (number, run.last)
                    yield last
        self._now = (0, 0)


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(mixed_seed(seed, epoch) % 2**63)
