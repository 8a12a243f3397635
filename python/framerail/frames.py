"""What readers hand out beside pixels."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

_STATUS = np.array(["ok", "repaired", "missing"])


@dataclass(frozen=True)
class VideoMetadata:
    """Properties of a video.

    In ``VideoReader.metadata``, what depends on the index (``num_frames``, ``duration_seconds``, ``start_seconds``,
    ``end_stream_seconds``) is exact, and what the first frame tells (``color``, ``sample_aspect_ratio``, size and pixel format) is
    the stream's. ``VideoReader.header`` has the header's word for all of it. Fields that end in ``_header`` have it in both.

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
        Frames that a decode from the start gives, and by the header, which may lie.
    frame_rate, frame_rate_header : Fraction or None
        Average frames per second.
    duration_seconds, duration_seconds_header : float or None
        Length in seconds.
    start_seconds, start_seconds_header, end_stream_seconds : float or None
        Time of the first frame, and the time at which the last one ends, in seconds on the file's clock.
    bit_rate : int or None
        Bits per second, by the header.
    rotation : int
        Degrees clockwise that the file asks for; applied to frames.
    mirrored : bool
        Whether the file asks for left and right to change places, before the rotation; applied to frames.
    sample_aspect_ratio : Fraction or None
        Shape of a pixel, width over height: 1 where it is stated to be square, None where nothing is stated.
    color : dict
        "matrix", "primaries", "transfer" and "chroma_location" by FFmpeg's names, such as "bt2020nc", "bt2020", "smpte2084" and "left";
        "range", which is "limited" or "full". None for what is not stated.
    index_source : str
        Where the places of frames come from: "container", "scan", "cache", "decoded", "approximate", or "unread".
    device : str
        Where frames are handed out.
    fallback : str or None
        Why frames are decoded on the host although a GPU was asked for.
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


@dataclass(frozen=True)
class FrameTimes:
    """The places of all frames in time, each an array with one entry a frame.

    Attributes
    ----------
    pts : int64 array
        Presentation times in ticks of the stream.
    seconds, durations : float64 arrays
        Presentation times, and how long each frame is on screen, in seconds on the file's clock.
    is_keyframe : bool array
        Whether decoding can start there, as the container says it.
    """

    pts: np.ndarray
    seconds: np.ndarray
    durations: np.ndarray
    is_keyframe: np.ndarray

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True)
class Planes:
    """Where the planes of a picture lie in its bytes, for ``channels="yuv"``.

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


@dataclass(frozen=True, eq=False)
class Frame:
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

    data: Any
    number: int
    pts: int
    seconds: float
    duration: float
    is_keyframe: bool
    status: str

    @property
    def pts_seconds(self) -> float:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> float:
        """The same as ``duration``."""
        return self.duration

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, self.seconds, self.duration))

    def __repr__(self) -> str:
        status = "" if self.status == "ok" else f", {self.status}"
        return f"Frame({described(self.data)}, number={self.number}, seconds={self.seconds:.3f}, duration={self.duration:.3f}{status})"


@dataclass(frozen=True, eq=False, repr=False)
class FrameBatch:
    """Frames in one block of memory, in the order asked.

    A sequence of frames: ``batch[0]`` is a ``Frame``, ``batch[2:5]`` and ``batch[[0, 3]]`` are batches, ``for frame in batch`` goes
    through them.

    Attributes
    ----------
    data : torch.Tensor, numpy.ndarray or framerail Tensor
        The pixels, [T, C, H, W] or [T, H, W, C]; [T, bytes] for ``channels="yuv"``. The memory is not written again as
        long as this array, or one made of it, is held.
    numbers, pts : int64 arrays
        Numbers in presentation order from 0; presentation times in ticks. These and the following are torch tensors on the host
        where ``data`` is a torch tensor, else NumPy arrays; they may be written.
    seconds, durations : float64 arrays
        Presentation times and durations in seconds.
    is_keyframe : bool array
        Whether decoding can start there.
    status : NumPy array of str
        "ok", "repaired" (the decoder concealed errors, or the time was worked out) or "missing" (nothing came out of the
        decoder; the pixels are those of the frame before).
    planes : Planes or None
        Where planes lie, for ``channels="yuv"``.
    """

    data: Any
    numbers: Any
    pts: Any
    seconds: Any
    durations: Any
    is_keyframe: Any
    status: np.ndarray
    planes: Optional[Planes] = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key: Any) -> Any:
        if hasattr(key, "__index__") and not hasattr(key, "dtype") or getattr(key, "ndim", None) == 0:
            at = operator.index(key)
            if not -len(self) <= at < len(self):
                raise IndexError(f"frame {at} of a batch of {len(self)}")
            values = (self.numbers, self.pts, self.seconds, self.durations, self.is_keyframe, self.status)
            return Frame(self.data[at], *(values_of.tolist()[at] for values_of in values))
        # What is beside the pixels lies on the host.
        on_host = key.cpu() if hasattr(key, "cpu") else key
        of_status = on_host.numpy() if hasattr(on_host, "numpy") else on_host
        columns = (values[on_host] for values in (self.numbers, self.pts, self.seconds, self.durations, self.is_keyframe))
        return FrameBatch(self.data[key], *columns, self.status[of_status], self.planes)

    def __iter__(self) -> Iterator[Frame]:
        columns = (self.numbers, self.pts, self.seconds, self.durations, self.is_keyframe, self.status)
        for data, *values in zip(self.data, *(column.tolist() for column in columns)):
            yield Frame(data, *values)

    def __repr__(self) -> str:
        numbers = self.numbers.tolist()
        shown = ", ".join(map(str, numbers)) if len(numbers) < 5 else f"{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}"
        return f"FrameBatch({described(self.data)}, numbers=[{shown}])"

    @property
    def pts_seconds(self) -> Any:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> Any:
        """The same as ``durations``."""
        return self.durations

    def split_planes(self) -> List[Any]:
        """Views of the planes, each [T, rows, row_bytes], for ``channels="yuv"``.

        Raises
        ------
        ValueError
            For frames that are not raw planes.
        """
        if self.planes is None:
            raise ValueError("split_planes() is for channels='yuv'; these frames were converted")
        count = len(self)
        views = []
        for offset, row_bytes, rows in self.planes.places:
            views.append(self.data[:, offset : offset + rows * row_bytes].reshape(count, rows, row_bytes))
        return views


def times(columns: Mapping[str, bytes]) -> FrameTimes:
    return FrameTimes(
        np.frombuffer(columns["pts"], np.int64),
        np.frombuffer(columns["seconds"], np.float64),
        np.frombuffer(columns["durations"], np.float64),
        np.frombuffer(columns["is_keyframe"], np.bool_),
    )


def described(data: Any) -> str:
    """An array in words: shape, type and device instead of its elements."""
    dtype = str(getattr(data, "dtype", "")).replace("torch.", "")
    return f"{type(data).__name__}{list(data.shape)} {dtype} on {getattr(data, 'device', 'cpu')}"


def batch(data: Any, columns: Mapping[str, bytes], planes: Optional[Planes] = None) -> FrameBatch:
    torch = sys.modules.get("torch")
    # Memory of the array itself, so that it may be written.
    as_array: Callable[[np.ndarray], Any] = torch.from_numpy if torch is not None and isinstance(data, torch.Tensor) else lambda array: array
    kinds = {"numbers": np.int64, "pts": np.int64, "seconds": np.float64, "durations": np.float64, "is_keyframe": np.bool_}
    values = [as_array(np.frombuffer(columns[name], kind).copy()) for name, kind in kinds.items()]
    return FrameBatch(data, *values, _STATUS[np.frombuffer(columns["status"], np.uint8)], planes)
