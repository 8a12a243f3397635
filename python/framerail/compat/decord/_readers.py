"""decord's readers over framerail's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, IO, TYPE_CHECKING, List, Tuple, Union

import numpy as np

from ... import audio, errors, reader
from . import bridge
from .base import DECORDError, DECORDLimitReachedError
from .ndarray import Context, NDArray, cpu

if TYPE_CHECKING:
    from .bridge import Array

    Uri = Union[str, bytes, "os.PathLike[str]", IO[bytes]]
    Indices = Union[int, slice, Iterable[int]]


@contextmanager
def _as_decord() -> Iterator[None]:
    try:
        yield
    except (errors.DecodeError, errors.UnsupportedError, errors.CudaError, OSError) as error:
        raise DECORDError(str(error)) from error


def _numbers(indices: "Indices", count: int) -> List[int]:
    if isinstance(indices, slice):
        return list(range(*indices.indices(count)))
    wanted = np.array(list(indices) if not isinstance(indices, (int, np.integer)) else [indices], dtype=np.int64)
    if (wanted < -count).any():
        raise IndexError(f"Invalid negative indices: {wanted[wanted < -count]}")
    if (wanted >= count).any():
        raise IndexError(f"Out of bound indices: {wanted[wanted >= count]}")
    found: List[int] = np.where(wanted < 0, wanted + count, wanted).tolist()
    return found


class VideoReader:
    """Frames by number, RGB, rows by columns by channels; decord's ``VideoReader``.

    Parameters
    ----------
    uri : str, or file-like object
    ctx : Context
        ``cpu()`` or ``gpu(n)``. With the "native" bridge frames of a GPU are copied to the host; "torch" leaves them there.
    width, height : int
        Size of frames; -1 leaves a side as it is.
    num_threads : int
        Decoder threads on the CPU; 0 = one per CPU.
    fault_tol : float
        Frames that may be repaired before ``DECORDLimitReachedError``: a share of the video below 1, a number from 1 on, no limit below 0.
    """

    def __init__(
        self, uri: "Uri", ctx: Context = cpu(0), width: int = -1, height: int = -1, num_threads: int = 0, fault_tol: float = -1
    ) -> None:
        where = "cpu" if ctx.device == "cpu" else f"cuda:{ctx.device_id}"
        output = "numpy" if where == "cpu" else "torch"
        with _as_decord():
            self._reader = reader.VideoReader(uri, device=where, layout="THWC", threads=max(num_threads, 0), output=output)
            if width > 0 or height > 0:
                known = self._reader.header
                self._reader.set_output(size=(height if height > 0 else known.height, width if width > 0 else known.width))
            self._count = len(self._reader)
        self._fault_tol = float(fault_tol)
        self._next = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, idx: Union[int, slice]) -> "Array":
        if isinstance(idx, slice):
            return self.get_batch(range(*idx.indices(self._count)))
        number = idx + self._count if idx < 0 else idx
        if not 0 <= number < self._count:
            raise IndexError(f"Index: {idx} out of bound: {self._count}")
        self._next = number
        return self.next()

    def __iter__(self) -> Iterator["Array"]:
        return (self[number] for number in range(self._count))

    def next(self) -> "Array":
        """The frame behind the last one."""
        if self._next >= self._count:
            raise StopIteration
        self._next += 1
        return bridge.bridge_out(self._read([self._next - 1])[0])

    def get_batch(self, indices: "Indices") -> "Array":
        """Frames by number, in the order asked."""
        return bridge.bridge_out(self._read(_numbers(indices, self._count)))

    def _read(self, numbers: List[int]) -> "Array":
        with _as_decord():
            batch = self._reader.read(numbers)
        if (batch.status == "missing").any():
            raise DECORDError(f"{int((batch.status == 'missing').sum())} of {len(numbers)} frames cannot be decoded")
        data: Array = batch.data  # type: ignore[assignment]
        limit = self._fault_tol if self._fault_tol >= 1 else self._fault_tol * self._count
        stats = self._reader.stats
        repaired = stats["frames_repaired"] + stats["frames_missing"]
        if 0 < limit < repaired:
            raise DECORDLimitReachedError(f"{repaired} frames were repaired, and fault_tol allows {limit:g}")
        return data

    def get_frame_timestamp(self, idx: "Indices") -> np.ndarray:
        """Start and end of frames in seconds: [N, 2], or [2] for a number."""
        numbers, times = _numbers(idx, self._count), self._reader.times
        spans = np.stack([times.seconds, times.seconds + times.durations], axis=1).astype(np.float32)[numbers]
        return spans[0] if isinstance(idx, (int, np.integer)) else spans

    def get_key_indices(self) -> List[int]:
        """Numbers of frames at which decoding can start."""
        found: List[int] = np.flatnonzero(self._reader.times.is_keyframe).tolist()
        return found

    def get_avg_fps(self) -> float:
        """Frames per second on average."""
        return self._reader.metadata.average_fps or 0.0

    def seek(self, pos: int) -> None:
        """Makes the keyframe at or before a frame the next one."""
        self.seek_accurate(pos)
        self._next = max((key for key in self.get_key_indices() if key <= pos), default=0)

    def seek_accurate(self, pos: int) -> None:
        """Makes a frame the next one."""
        if not 0 <= pos < self._count:
            raise IndexError(f"Index: {pos} out of bound: {self._count}")
        self._next = pos

    def skip_frames(self, num: int = 1) -> None:
        """Leaves frames out."""
        self._next += num


class _Shape(Tuple[int, ...]):
    """A shape that may be called."""

    def __call__(self) -> Tuple[int, ...]:
        return tuple(self)


class AudioReader:
    """The samples of a file, [channels, samples] of float32; decord's ``AudioReader``.

    Parameters
    ----------
    uri : str, or file-like object
    ctx : Context
        Ignored: audio is decoded on the CPU.
    sample_rate : int
        Samples per second; -1 for the stream's own.
    mono : bool
        Whether channels are mixed to one.
    """

    def __init__(self, uri: "Uri", ctx: Context = cpu(0), sample_rate: int = -1, mono: bool = True) -> None:
        with _as_decord():
            opened = audio.AudioReader(
                uri, sample_rate=sample_rate if sample_rate > 0 else None, channels=1 if mono else None, output="numpy"
            )
            self._read = opened.read()
            opened.close()
        self._samples: np.ndarray = np.asarray(self._read.data)
        self._padding = 0

    def __len__(self) -> int:
        return int(self._samples.shape[1])

    @property
    def shape(self) -> "_Shape":
        """Channels and samples: an attribute, as in decord's release, which may be called, as in its repository."""
        return _Shape(self._samples.shape)

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self._read.sample_rate

    def duration(self) -> float:
        """Length in seconds, without padding."""
        return self._read.duration

    def __getitem__(self, idx: Union[int, slice]) -> "Array":
        if isinstance(idx, slice):
            return bridge.bridge_out(np.ascontiguousarray(self._samples[:, idx]))
        if not -len(self) <= idx < len(self):
            raise IndexError(f"Index: {idx} out of bound: {len(self)}")
        return bridge.bridge_out(np.ascontiguousarray(self._samples[:, idx]))

    def get_batch(self, indices: "Indices") -> "Array":
        """Samples by number."""
        return bridge.bridge_out(self._samples[:, _numbers(indices, len(self))])

    def add_padding(self) -> int:
        """Puts silence before the first sample, up to the start of the file's clock; the number of samples."""
        count = 0 if self._padding else max(round(self._read.seconds * self.sample_rate), 0)
        self._samples = np.pad(self._samples, ((0, 0), (count, 0)))
        self._padding += count
        return self._padding

    def get_info(self) -> None:
        """Prints what is known of the stream."""
        channels, samples = self.shape
        print(f"audio: {self.sample_rate} Hz, {channels} channels, {samples} samples, {self.duration():.3f} s")


class AVReader:
    """Frames, and the samples that play with each; decord's ``AVReader``."""

    def __init__(
        self,
        uri: "Uri",
        ctx: Context = cpu(0),
        width: int = -1,
        height: int = -1,
        num_threads: int = 0,
        sample_rate: int = -1,
        mono: bool = True,
        fault_tol: float = -1,
    ) -> None:
        self._video = VideoReader(uri, ctx, width, height, num_threads, fault_tol)
        self._options = (sample_rate if sample_rate > 0 else None, 1 if mono else None)
        with _as_decord():
            self._samples(0)

    def __len__(self) -> int:
        return len(self._video)

    def _samples(self, number: int) -> NDArray:
        times = self._video._reader.times
        start, rate = float(times.seconds[number]), self._options
        stop = float(times.seconds[number + 1]) if number + 1 < len(times) else start + float(times.durations[number])
        found = self._video._reader.audio(start, stop, sample_rate=rate[0], channels=rate[1])
        samples: Any = found.data
        data: np.ndarray = samples.cpu().numpy() if hasattr(samples, "cpu") else np.asarray(samples)
        return data.view(NDArray)

    def __getitem__(self, idx: Union[int, slice]) -> Tuple[Union["Array", List["Array"]], "Array"]:
        if isinstance(idx, slice):
            return self.get_batch(range(*idx.indices(len(self))))
        number = _numbers(idx, len(self))[0]
        return bridge.bridge_out(self._samples(number)), self._video[number]

    def get_batch(self, indices: "Indices") -> Tuple[List["Array"], "Array"]:
        """A list with the samples of each frame, and the frames."""
        numbers = _numbers(indices, len(self))
        return [bridge.bridge_out(self._samples(number)) for number in numbers], self._video.get_batch(numbers)
