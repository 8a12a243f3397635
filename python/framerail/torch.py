"""Data sets of clips for PyTorch's DataLoader.

They are picklable and work in workers started by fork, forkserver and spawn: readers are opened where they are used.
Needs PyTorch; importing this module imports it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch.utils.data import Dataset, default_collate

from .augment import Augment, mixed_seed
from .clip_audio import ClipAudio
from .clip_data import ClipData, ClipItem as ClipItem, ClipOptions, DatasetOptions
from .clip_stream import ClipStream
from .clips import sampling_of
from .loader import SOURCE_ERRORS, ClipCore, ClipLoader, ClipShape, Made, Request, VideoAverage, replacement
from .options import READER_DEFAULTS, bad, choice, whole
from .source import opened
from .types import Source
from .video_index import dataset_parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .loader import ClipBatch
    from .types import IndexRow, Path

__all__ = ["ClipAudio", "ClipDataset", "ClipLoader", "ClipStream", "VideoAverage", "collate"]


class ClipDataset(ClipData, Dataset[ClipItem]):
    """Clips of many videos by index, for samplers that shuffle: a map-style data set.

    Parameters
    ----------
    sources : sequence
        Paths, addresses, or bytes of whole files. Images are clips of one frame, repeated as ``edge`` says.
    labels : sequence, optional
        One for each source, added to each of its clips.
    columns : mapping of str to sequence, optional
        More values for each source, added to its clips by these names.
    audio : ClipAudio, optional
        Adds the audio from the clip's first frame on: "audio" [channels, samples], and "has_audio".
    num_clips : int
        Clips of each source in an epoch; item ``i`` is clip ``i % num_clips`` of source ``i // num_clips``.
    frames_per_clip, stride, policy, by, start, end, edge
        As in ``framerail.sample_clips``; the policy is "random" or "regular".
    snap : int
        A clip that would start at most this many frames after a keyframe starts at the keyframe, which saves decoding. Starts
        are no longer evenly distributed: keyframes are ``snap + 1`` times as likely as other frames, and the ``snap`` frames after
        each never start a clip. Frame numbers only. Default: 0.
    augment : Augment, optional
        Applied with a separate seed for each item and epoch.
    views : int
        Draws of the augmentation for each clip: "frames" is [views, T, C, H, W] with more than one.
    short_side : int, optional
        Scale frames so that their shorter side has this many pixels; ``size`` is then cropped from the centre.
    crops : int
        3 crops ``size`` at both ends and in the centre of the longer side: "frames" is [3, T, C, H, W]. Default: 1.
    transform : callable, optional
        Called last, with the clip's frames; must be picklable for spawned workers.
    seed : int
        All randomness depends on it, the epoch and the item.
    rank, world_size : int, optional
        Use only this part of the sources, every ``world_size``-th; all parts have the same length, so some sources may be
        left out of an epoch. Not needed with a ``DistributedSampler``.
    errors : str
        "raise"; "skip": an item whose source cannot be read is None, which ``collate`` leaves out; or "replace" by another
        item, drawn by the seed. Skipped and replaced clips are logged and counted in ``failed``.
    max_open : int
        Files that each process keeps open.
    **options
        Of ``VideoReader``; ``layout`` may be "CTHW" too. ``threads`` is the number of clips decoded at once: by default one per
        core, in workers an equal share of the cores.

    Notes
    -----
    An item is a dict: "frames" [T, C, H, W], "numbers" and "seconds" [T], "source", "clip", "filled" (last frames that
    replace frames beyond the end), "label" where labels were given, and what is in ``columns``.

    Examples
    --------
    >>> import framerail as fr
    >>> data = fr.torch.ClipDataset(paths, frames_per_clip=16, stride=2, size=(112, 112))  # doctest: +SKIP
    >>> loader = fr.torch.ClipLoader(data, batch_size=8, shuffle=True)  # doctest: +SKIP
    >>> workers = DataLoader(data, batch_size=8, shuffle=True, num_workers=4,
    ...                      collate_fn=fr.torch.collate)  # doctest: +SKIP
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        labels: Optional[Sequence[object]] = None,
        columns: Optional[Mapping[str, Sequence[object]]] = None,
        audio: Optional[ClipAudio] = None,
        num_clips: int = 1,
        frames_per_clip: int = 16,
        stride: Optional[float] = None,
        policy: str = "random",
        by: str = "frames",
        start: Optional[float] = None,
        end: Optional[float] = None,
        edge: str = "repeat",
        snap: int = 0,
        augment: Optional[Augment] = None,
        views: int = 1,
        short_side: Optional[int] = None,
        crops: int = 1,
        transform: Optional[Callable[[torch.Tensor], object]] = None,
        seed: int = 0,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        errors: str = "raise",
        max_open: int = 4,
        **options: Unpack[DatasetOptions],
    ) -> None:
        choice("policy", policy, ("random", "regular"))
        if (rank is None) != (world_size is None):
            raise ValueError("options 'rank' and 'world_size' go together")
        if rank is not None and world_size is not None:
            world_size = whole("world_size", world_size, 1)
            if whole("rank", rank, 0) >= world_size:
                raise bad("rank", rank, f"a number below world_size, {world_size}")
            count = len(sources) // world_size
            share = slice(rank, count * world_size, world_size)
            sources = list(sources)[share]
            labels = None if labels is None else list(labels)[share]
            columns = {name: list(values)[share] for name, values in (columns or {}).items()}
        sampling: Dict[str, Any] = {
            "frames_per_clip": whole("frames_per_clip", frames_per_clip, 1), "stride": stride, "policy": policy, "by": by,
            "start": start, "end": end, "edge": edge,
        }  # fmt: skip
        ClipData.__init__(self, sources, labels, columns, sampling, augment, transform, seed, errors, max_open, {**options})
        if audio is not None and not isinstance(audio, ClipAudio):
            raise bad("audio", audio, "a framerail.torch.ClipAudio")
        self.audio = audio
        self.num_clips = whole("num_clips", num_clips, 1)
        extra = {
            "snap": whole("snap", snap, 0), "views": whole("views", views, 1),
            "short_side": None if short_side is None else whole("short_side", short_side, 1), "crops": whole("crops", crops, 1),
            "channels_first": self._channels_first, "threads": whole("threads", self._options.get("threads", 0), 0),
            "helpers": 0, "max_open": self._max_open,
        }  # fmt: skip
        # Decoded by the reader alone, on a GPU too.
        self._is_plain = not snap and views == 1 and short_side is None and crops == 1 and errors != "replace"
        self._kept: Optional[List[Any]] = None
        #: Names of the classes, in the order of their numbers, where labels are names of folders; else empty.
        self.classes: List[str] = []
        # A source that is named twice is opened once.
        first: Dict[Any, int] = {}
        self._keys = [first.setdefault(source, place) for place, source in enumerate(map(_hashable, self.sources))]
        sampled = sampling_of(num_clips=self.num_clips if policy == "regular" else 1, step=None, seed=0, **sampling)
        self._core = ClipCore({**READER_DEFAULTS, **self._options}, sampled, augment, extra)

    @classmethod
    def from_index(
        cls,
        path: Path,
        *,
        labels: Union[None, str, Callable[[IndexRow], object]] = None,
        where: Optional[Callable[[IndexRow], object]] = None,
        **options: Unpack[ClipOptions],
    ) -> ClipDataset:
        """The data set of an index, which ``python -m framerail index DIR -o FILE.parquet`` makes.

        Files whose size and modification time match the index are opened without a scan for frames; others are scanned again, with a
        warning. Further columns of the file come with the clips, as with ``columns``.

        Parameters
        ----------
        path : str or os.PathLike
            The index.
        labels : "folder", str or callable, optional
            "folder" numbers the names of the files' folders (``classes`` has them); or the name of a column; or a function
            of a row, a dict by column.
        where : callable, optional
            Which rows to use: a function of a row. Rows with an error are always left out.
        **options
            Of ``ClipDataset``.

        Raises
        ------
        FileNotFoundError, OSError, DecodeError, ValueError
            For an index that cannot be read, or without a usable row.
        """
        sources, given, classes, further, kept = dataset_parts(path, labels, where)
        rank, world_size = options.get("rank"), options.get("world_size")
        options["columns"] = {**further, **options.get("columns", {})}
        made = cls(sources, labels=given, **options)
        share = kept if world_size is None else kept[rank : len(kept) // world_size * world_size : world_size]
        made._kept, made.classes = share, classes or []
        return made

    def __len__(self) -> int:
        return len(self.sources) * self.num_clips

    def close(self) -> None:
        """Closes the files that this process has open, and ends its threads."""
        self._core.close()
        ClipData.close(self)

    def _request(self, index: int) -> Request:
        """An item for the compiled part."""
        index = int(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)} does not exist")
        place, clip = divmod(index, self.num_clips)
        given = self.sources[place]
        source, name = opened(given)
        if isinstance(given, (str, os.PathLike)) and isinstance(source, io.BufferedReader):
            # A name that is not UTF-8: several threads cannot share the file, so it is an error of this source only.
            source.close()
            source = name
        if not isinstance(source, (str, bytes)):
            raise TypeError(f"source {name!r} is a file object; data sets take paths, addresses and bytes, which several threads can read")
        kept = None if self._kept is None else self._kept[place]
        return Request(self._keys[place], source, name, clip, mixed_seed(self.seed, self.epoch, index), kept)

    def _about(self, index: int) -> Dict[str, object]:
        """Source, clip, label and columns of an item."""
        return self._of_source(*divmod(int(index) % len(self), self.num_clips))

    def __getitem__(self, index: int) -> ClipItem:
        """A clip of the epoch; None with ``errors="skip"`` where its source cannot be read."""
        found: Any = self.__getitems__([index])[0]
        item: ClipItem = found
        return item

    def __getitems__(self, indices: List[int]) -> List[Optional[ClipItem]]:
        """The items of a batch, decoded in parallel into one block of memory if all have the same shape."""
        indices = [int(index) for index in indices]
        requests = [self._request(index) for index in indices]
        is_on_card = str(self._options.get("device", "cpu")) != "cpu"
        if is_on_card and self._is_plain and len(requests) == 1:
            return [self._read_alone(request, index) for request, index in zip(requests, indices)]
        shapes, failed = self._shapes(requests)
        rows = [place for place in range(len(requests)) if place in shapes]
        if len(set(shapes.values())) == 1:
            groups = [rows]
        else:
            groups = [[place] for place in rows]
        tickets = []
        for group in groups:
            shape = shapes[group[0]]
            memory = self._core.memory(len(group), shape)
            tickets.append((group, self._core.submit([requests[place] for place in group], shape, memory)))
        found: Dict[int, _Row] = {}
        for group, ticket in tickets:
            made = self._core.wait(ticket)
            wrong = {group[row]: error for row, error in made.failed}
            failed.update(wrong)
            found.update({place: _row(made, row) for row, place in enumerate(group) if place not in wrong})
        for place, error in sorted(failed.items()):
            if self._errors == "raise" or not isinstance(error, SOURCE_ERRORS):
                raise error
            self._note_failure(requests[place].name, error, "skipped" if self._errors == "skip" else "replaced")
            if self._errors == "replace":
                shape = shapes.get(place) or self._any_shape(error)
                indices[place], made = replacement(self, self._core, indices[place], shape, error)
                found[place] = _row(made, 0)
        heard = self._heard([indices[place] for place in sorted(found)], [float(found[place].seconds[0]) for place in sorted(found)])
        sounds = dict(zip(sorted(found), heard))
        return [self._made(index, found[place], sounds[place]) if place in found else None for place, index in enumerate(indices)]

    def _heard(self, indices: List[int], starts: List[float]) -> Sequence[Mapping[str, object]]:
        """The audio of clips that begin at these times."""
        if self.audio is None:
            return [{} for _ in indices]
        sources = [self.sources[int(index) % len(self) // self.num_clips] for index in indices]
        return self.audio.read_all(sources, starts)

    def _read_alone(self, request: Request, index: int) -> Optional[ClipItem]:
        """An item read by a separate reader."""
        source = int(index) % len(self) // self.num_clips
        try:
            reader = self._reader(source)
            is_random = self._sampling["policy"] == "random"
            clips = self._numbers(reader, request.seed, 1 if is_random else self.num_clips)
            numbers, filled = clips[0 if is_random else request.clip]
            sample = self._sample(source, request.clip, reader, numbers, filled, request.seed)
            made: Any = {**sample, **self._heard([index], [float(sample["seconds"][0])])[0]}
            item: ClipItem = made
            return item
        except SOURCE_ERRORS as error:
            self._skip(source, error)
            return None

    def _made(self, index: int, row: _Row, sound: Mapping[str, object]) -> ClipItem:
        frames: Any = row.frames if self.transform is None else self.transform(row.frames)
        about: Any = {**self._about(index), **sound}
        made: Any = {"frames": frames, "numbers": row.numbers, "seconds": row.seconds, "filled": row.filled, **about}
        item: ClipItem = made
        return item

    def _shapes(self, requests: List[Request]) -> Tuple[Dict[int, ClipShape], Dict[int, Exception]]:
        """The shape of each clip, and the error of each source that cannot be opened."""
        shape = self._core.shape()
        shapes: Dict[int, ClipShape] = {}
        failed: Dict[int, Exception] = {}
        for place, request in enumerate(requests):
            try:
                found = shape or self._core.shape(request)
            except SOURCE_ERRORS as error:
                failed[place] = error
            else:
                if found is not None:
                    shapes[place] = found
        return shapes, failed

    def _any_shape(self, error: Exception) -> ClipShape:
        """The shape of the clips of any source that can be read."""
        for source in range(len(self.sources)):
            shapes, _ = self._shapes([self._request(source * self.num_clips)])
            if shapes:
                return shapes[0]
        raise error


def _hashable(source: Any) -> Any:
    """The key of a source; file objects are refused where they are read."""
    return os.fspath(source) if isinstance(source, os.PathLike) else source if isinstance(source, (str, bytes)) else id(source)


class _Row(NamedTuple):
    """One clip of a batch."""

    frames: torch.Tensor
    numbers: torch.Tensor
    seconds: torch.Tensor
    filled: int


def _row(made: Made, row: int) -> _Row:
    numbers, seconds, filled, _ = made.columns
    return _Row(made.frames[row], numbers[row], seconds[row], int(filled[row]))


def collate(items: Sequence[Optional[ClipItem]]) -> Optional[ClipBatch]:
    """Stacks items of a data set to a batch: "frames" becomes [B, T, C, H, W].

    Items that are None (``errors="skip"``) are left out; a batch without other items is None. Frames that are
    in one block of memory already, as ``ClipDataset`` makes them, are not copied.
    """
    present = [item for item in items if item is not None]
    if not present:
        return None
    whole_batch = _common_block([item["frames"] for item in present])
    if whole_batch is None:
        collated: ClipBatch = default_collate(present)
        return collated
    rest: ClipBatch = default_collate([{name: value for name, value in item.items() if name != "frames"} for item in present])
    return {"frames": whole_batch, **rest}


def _common_block(frames: List[Any]) -> Optional[torch.Tensor]:
    """The tensor with exactly these entries, in order; else None."""
    base: Optional[torch.Tensor] = getattr(frames[0], "_base", None)
    if base is None or base.dim() != frames[0].dim() + 1 or base.shape[0] != len(frames) or not base.is_contiguous():
        return None
    for place, clip in enumerate(frames):
        if clip._base is not base or clip.data_ptr() != base[place].data_ptr() or clip.shape != base.shape[1:]:
            return None
    return base
