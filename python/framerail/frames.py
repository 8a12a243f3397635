"""Frames, batches, times and properties of videos."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Dict, Generic, List, Optional, SupportsIndex, Tuple, Union, overload

from .lazy import has_numpy, np
from .types import Column, Frames

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

_STATUS = ("ok", "repaired", "missing")
#: Element types of columns: NumPy's names, and those of ``memoryview`` without NumPy.
_ELEMENTS = {"numbers": ("int64", "q"), "pts": ("int64", "q"), "seconds": ("float64", "d"), "durations": ("float64", "d"),
             "is_keyframe": ("bool", "?")}  # fmt: skip


@dataclass(frozen=True)
class VideoMetadata:
    """Properties of a video.

    In ``VideoReader.metadata``, what depends on the index (``num_frames``, ``duration_seconds``, ``start_seconds``,
    ``end_stream_seconds``) is exact, and what depends on the first frame (``color``, ``sample_aspect_ratio``, size and pixel format) is
    the stream's. ``VideoReader.header`` has all of it as the header states it. Fields that end in ``_header`` are the same in both.

    Attributes
    ----------
    source : str
        The source as given.
    container, codec, pixel_format : str
        FFmpeg's names.
    stream_index : int
        Number of the stream among all of the container, from 0.
    width, height : int
        Size of frames in pixels, rotation applied.
    bits_per_sample : int
        Bits of each sample of ``pixel_format``.
    num_frames, num_frames_header : int or None
        Exact number of frames, and the number in the header, which may be wrong.
    frame_rate, frame_rate_header : Fraction or None
        Average frames per second.
    duration_seconds, duration_seconds_header : float or None
        Length in seconds.
    start_seconds, start_seconds_header, end_stream_seconds : float or None
        Time of the first frame, and the time at which the last one ends, in seconds on the file's clock.
    bit_rate : int or None
        Bits per second, by the header.
    rotation : int
        Degrees clockwise by the file; applied to frames.
    mirrored : bool
        Whether the file has left and right swapped, before the rotation; applied to frames.
    sample_aspect_ratio : Fraction or None
        Width over height of a pixel: 1 if the file states square pixels, None if it states nothing.
    color : dict
        "matrix", "primaries", "transfer" and "chroma_location" by FFmpeg's names, such as "bt2020nc", "bt2020", "smpte2084" and "left";
        "range", which is "limited" or "full". None where nothing is stated.
    index_source : str
        Where the index of frames comes from: "container", "scan", "cache", "decoded", "approximate", or "unread".
    device : str
        Device of the returned frames.
    fallback : str or None
        Why frames are decoded on the CPU although a GPU was requested.
    tags : dict
        Tags of the container and stream.
    """

    source: str
    container: str
    codec: str
    stream_index: int
    pixel_format: str
    bits_per_sample: int
    width: int
    height: int
    num_frames: Optional[int]
    num_frames_header: Optional[int]
    frame_rate: Optional[Fraction]
    frame_rate_header: Optional[Fraction]
    duration_seconds: Optional[float]
    duration_seconds_header: Optional[float]
    start_seconds: Optional[float]
    start_seconds_header: Optional[float]
    end_stream_seconds: Optional[float]
    bit_rate: Optional[int]
    rotation: int
    mirrored: bool
    sample_aspect_ratio: Optional[Fraction]
    color: Dict[str, Optional[str]]
    index_source: str
    device: str
    fallback: Optional[str]
    tags: Dict[str, str] = field(default_factory=dict)

    @classmethod
    def _from(cls, given: Mapping[str, Any]) -> VideoMetadata:
        made = dict(given)
        for name in ("frame_rate", "frame_rate_header", "sample_aspect_ratio"):
            made[name] = None if made[name] is None or 0 in made[name] else Fraction(*made[name])
        made["tags"] = dict(made["tags"])
        return cls(**made)

    @property
    def average_fps(self) -> Optional[float]:
        """Average frames per second as a float."""
        return None if self.frame_rate is None else float(self.frame_rate)


@dataclass(frozen=True, eq=False, repr=False)
class FrameTimes:
    """Timestamps of all frames: arrays with one entry per frame.

    Attributes
    ----------
    pts : int64 array
        Presentation times in ticks of the stream.
    seconds, durations : float64 arrays
        Presentation times, and how long each frame is on screen, in seconds on the file's clock.
    is_keyframe : bool array
        Whether decoding can start there, according to the container.
    """

    pts: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    durations: npt.NDArray[np.float64]
    is_keyframe: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrameTimes):
            return NotImplemented
        return all(getattr(self, name).tolist() == getattr(other, name).tolist() for name in self.__dataclass_fields__)

    def __repr__(self) -> str:
        return f"FrameTimes({len(self)} frames, {self.seconds[0]:.3f} to {self.seconds[-1]:.3f} s)" if len(self) else "FrameTimes(0 frames)"


@dataclass(frozen=True)
class Planes:
    """Places of the planes in the bytes of a frame, for ``channels="yuv"``.

    Attributes
    ----------
    format : str
        FFmpeg's name of the pixel format.
    width, height : int
        Size in pixels.
    places : list of (offset, row_bytes, rows)
        One for each plane. Samples of more than 8 bits take two bytes, little endian.
    """

    format: str
    width: int
    height: int
    places: List[Tuple[int, int, int]]


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Generic[Frames]):
    """One frame of a ``FrameBatch``. ``data, seconds, duration = frame`` unpacks it.

    Attributes
    ----------
    data : torch.Tensor, numpy.ndarray or framerail Tensor
        The pixels, [C, H, W] or [H, W, C]: a view of the batch's.
    number, pts : int
        Number in presentation order from 0; presentation time in ticks.
    seconds, duration : float
        Presentation time and duration in seconds.
    is_keyframe : bool
        Whether decoding can start there.
    status : str
        "ok", "repaired" or "missing", as in ``FrameBatch``.
    """

    data: Frames
    number: int
    pts: int
    seconds: float
    duration: float
    is_keyframe: bool
    status: str

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    @property
    def pts_seconds(self) -> float:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> float:
        """The same as ``duration``."""
        return self.duration

    def __iter__(self) -> Iterator[Union[Frames, float]]:
        return iter((self.data, self.seconds, self.duration))

    def __repr__(self) -> str:
        status = "" if self.status == "ok" else f", {self.status}"
        return f"Frame({described(self.data)}, number={self.number}, seconds={self.seconds:.3f}, duration={self.duration:.3f}{status})"


@dataclass(frozen=True, eq=False, repr=False)
class FrameBatch(Generic[Frames, Column]):
    """Frames in one block of memory, in the requested order.

    A sequence of frames: ``batch[0]`` is a ``Frame``, ``batch[2:5]`` and ``batch[[0, 3]]`` are batches, ``for frame in batch`` goes
    through them.

    Attributes
    ----------
    data : torch.Tensor, numpy.ndarray or framerail Tensor
        The pixels, [T, C, H, W] or [T, H, W, C]; [T, bytes] for ``channels="yuv"``. The memory is not reused while
        this array, or a view of it, exists.
    numbers, pts : int64 arrays
        Numbers in presentation order from 0; presentation times in ticks. These and the following are torch tensors on the host
        where ``data`` is a torch tensor, else NumPy arrays; they may be written.
    seconds, durations : float64 arrays
        Presentation times and durations in seconds.
    is_keyframe : bool array
        Whether decoding can start there.
    status : NumPy array of str, or a tuple of str without NumPy
        "ok", "repaired" (the decoder concealed errors, or the time was reconstructed) or "missing" (the decoder returned no
        frame; the pixels are those of the previous frame).
    planes : Planes or None
        Offsets of the planes, for ``channels="yuv"``.
    """

    data: Frames
    numbers: Column
    pts: Column
    seconds: Column
    durations: Column
    is_keyframe: Column
    status: npt.NDArray[np.str_]
    planes: Optional[Planes] = None

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __len__(self) -> int:
        return len(self.status)

    def _columns(self) -> List[Any]:
        return [self.numbers, self.pts, self.seconds, self.durations, self.is_keyframe]

    # One-element arrays can be used as numbers too, so arrays are checked first.
    @overload
    def __getitem__(self, key: Union[slice, Sequence[int], npt.NDArray[np.generic], torch.Tensor]) -> FrameBatch[Frames, Column]: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: SupportsIndex) -> Frame[Frames]: ...
    def __getitem__(self, key: Any) -> Union[Frame[Frames], FrameBatch[Frames, Column]]:
        data: Any = self.data
        if hasattr(key, "__index__") and not hasattr(key, "dtype") or getattr(key, "ndim", None) == 0:
            at = operator.index(key)
            if not -len(self) <= at < len(self):
                raise IndexError(f"frame {at} of a batch of {len(self)}")
            return self._frame(at, *(column[at : at + 1 or None].tolist()[0] for column in self._columns()))
        # The numbers and times are on the host.
        on_host = key.cpu() if hasattr(key, "cpu") else key
        places = range(len(self))[key] if isinstance(key, slice) else _places(on_host, len(self))
        numbers, pts, seconds, durations, is_keyframe = (
            column[on_host] if hasattr(column, "dtype") else _picked(column, places) for column in self._columns()
        )
        return FrameBatch(data[key], numbers, pts, seconds, durations, is_keyframe, _picked(self.status, places), self.planes)

    def __iter__(self) -> Iterator[Frame[Frames]]:
        for at, values in enumerate(zip(*(column.tolist() for column in self._columns()))):
            yield self._frame(at, *values)

    def _frame(self, at: int, number: int, pts: int, seconds: float, duration: float, is_keyframe: bool) -> Frame[Frames]:
        data: Any = self.data
        return Frame(data[at], number, pts, seconds, duration, is_keyframe, str(self.status[at]))

    def __repr__(self) -> str:
        numbers: List[int] = _listed(self.numbers)
        shown = ", ".join(map(str, numbers)) if len(numbers) < 5 else f"{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}"
        return f"FrameBatch({described(self.data)}, numbers=[{shown}])"

    @property
    def pts_seconds(self) -> Column:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> Column:
        """The same as ``durations``."""
        return self.durations

    def split_planes(self) -> List[Frames]:
        """Views of the planes, each [T, rows, row_bytes], for ``channels="yuv"``.

        Raises
        ------
        ValueError
            For frames that are not raw planes.
        """
        if self.planes is None:
            raise ValueError("split_planes() is for channels='yuv'; these frames were converted")
        count, data = len(self), self.data
        all_bytes: Any = data
        views: List[Frames] = []
        for offset, row_bytes, rows in self.planes.places:
            views.append(all_bytes[:, offset : offset + rows * row_bytes].reshape(count, rows, row_bytes))
        return views


def _places(key: Any, count: int) -> List[int]:
    """Numbers of the entries that a mask, or a list or array of numbers, selects."""
    chosen = _listed(key)
    if chosen and all(isinstance(one, bool) for one in chosen):
        if len(chosen) != count:
            raise IndexError(f"a mask of {len(chosen)} entries for a batch of {count}")
        return [at for at, is_chosen in enumerate(chosen) if is_chosen]
    return [operator.index(one) for one in chosen]


def _picked(values: Any, places: Sequence[int]) -> Any:
    if isinstance(values, tuple):
        return tuple(values[at] for at in places)
    if isinstance(values, memoryview):
        letter: Any = values.format
        picked: Any = memoryview(bytearray(len(places) * values.itemsize)).cast(letter)
        for to, at in enumerate(places):
            picked[to] = values[at]
        return picked
    return values[list(places)]


def _listed(values: Any) -> List[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def columns_of(given: Mapping[str, bytes], of: Any) -> Dict[str, Any]:
    """Columns in the library of ``of``: PyTorch's or NumPy's, or memory views if NumPy is not installed. They are writable."""
    torch = sys.modules.get("torch")
    made: Dict[str, Any] = {}
    letter: Any
    for name, (dtype, letter) in _ELEMENTS.items():
        if name not in given:
            continue
        # A copy, since bytes are read-only.
        memory = bytearray(given[name])
        if torch is not None and isinstance(of, torch.Tensor):
            kind = getattr(torch, dtype)
            made[name] = torch.frombuffer(memory, dtype=kind) if memory else torch.empty(0, dtype=kind)
        else:
            made[name] = np.frombuffer(memory, dtype) if has_numpy() else memoryview(memory).cast(letter)
    return made


def times(columns: Mapping[str, bytes]) -> FrameTimes:
    return FrameTimes(**columns_of(columns, None))


def described(data: Any) -> str:
    """Describes an array: shape, type and device instead of its elements."""
    dtype = str(getattr(data, "dtype", "")).replace("torch.", "")
    return f"{type(data).__name__}{list(data.shape)} {dtype} on {getattr(data, 'device', 'cpu')}"


def batch(data: Any, columns: Mapping[str, bytes], planes: Optional[Planes] = None) -> FrameBatch[Any, Any]:
    status: Any = tuple(_STATUS[code] for code in columns["status"])
    status = np.array(status, "<U8") if has_numpy() else status
    return FrameBatch(data, **columns_of(columns, data), status=status, planes=planes)
