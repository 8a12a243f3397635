"""What readers hand out beside pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Dict, List, Optional, Tuple

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
        Why frames are decoded on the host although a card was asked for.
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


@dataclass(frozen=True)
class FrameBatch:
    """Frames in one block of memory, in the order asked.

    Attributes
    ----------
    data : torch.Tensor, numpy.ndarray or framerail Tensor
        The pixels, [T, C, H, W] or [T, H, W, C]; [T, bytes] for ``channels="yuv"``. The memory is not written again as
        long as this array, or one made of it, is held.
    numbers, pts : int64 arrays
        Numbers in presentation order from 0; presentation times in ticks.
    seconds, durations : float64 arrays
        Presentation times and durations in seconds.
    is_keyframe : bool array
        Whether decoding can start there.
    status : array of str
        "ok", "repaired" (the decoder concealed errors, or the time was worked out) or "missing" (nothing came out of the
        decoder; the pixels are those of the frame before).
    planes : Planes or None
        Where planes lie, for ``channels="yuv"``.
    """

    data: Any
    numbers: np.ndarray
    pts: np.ndarray
    seconds: np.ndarray
    durations: np.ndarray
    is_keyframe: np.ndarray
    status: np.ndarray
    planes: Optional[Planes] = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def pts_seconds(self) -> np.ndarray:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> np.ndarray:
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


def batch(data: Any, columns: Mapping[str, bytes], planes: Optional[Planes] = None) -> FrameBatch:
    return FrameBatch(
        data,
        np.frombuffer(columns["numbers"], np.int64),
        np.frombuffer(columns["pts"], np.int64),
        np.frombuffer(columns["seconds"], np.float64),
        np.frombuffer(columns["durations"], np.float64),
        np.frombuffer(columns["is_keyframe"], np.bool_),
        _STATUS[np.frombuffer(columns["status"], np.uint8)],
        planes,
    )
