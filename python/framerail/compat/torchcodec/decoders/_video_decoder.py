"""``VideoDecoder`` over ``framerail.VideoReader``."""

from __future__ import annotations

import json
import numbers
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Dict, List, Optional, Tuple, Union

import numpy as np
import torch

from .... import reader
from .._core._metadata import VideoStreamMetadata
from .._frame import Frame, FrameBatch
from .._source import Source, open_stream, plain
from ..transforms import DecoderTransform, Plan, plan

if TYPE_CHECKING:
    from ....frames import FrameTimes, VideoMetadata
    from ....frames import FrameBatch as ReaderBatch

#: Transfer characteristics of HDR.
_HDR = ("smpte2084", "arib-std-b67")
_DTYPES = {torch.uint8: "uint8", torch.float32: "float32"}


@dataclass
class CpuFallbackStatus:
    """Whether frames are decoded on the CPU although a GPU was asked for."""

    status_known: bool = False
    reason: str = field(default="", init=False)
    backend: str = field(default="CPU", init=False)

    def __bool__(self) -> bool:
        return self.status_known and bool(self.reason)

    def __str__(self) -> str:
        if not self.status_known:
            return f"[{self.backend}] Fallback status: Unknown"
        what = f"Falling back due to: {self.reason}" if self.reason else "No fallback required"
        return f"[{self.backend}] Fallback status: {what}"


class VideoDecoder:
    """Decodes one video stream; TorchCodec's ``VideoDecoder``.

    Frames on the CPU are converted with libswscale and equal TorchCodec's bit for bit. On a GPU, and with a resize among the
    ``transforms``, framerail's own conversion is used, which differs by rounding.

    Parameters
    ----------
    source : str, Path, bytes, uint8 tensor, or file-like object
    stream_index : int, optional
        Number among all streams of the container. Default: FFmpeg's choice of the video.
    dimension_order : str
        "NCHW" (a view of the pixels as they lie, rows by columns by channels) or "NHWC".
    num_ffmpeg_threads : int
        Decoder threads on the CPU; 0 = one per CPU.
    device : str or torch.device, optional
        Default: PyTorch's default device.
    seek_mode : str
        "exact" or "approximate".
    transforms : sequence, optional
        ``Resize``, ``CenterCrop`` and ``RandomCrop`` of ``framerail.compat.torchcodec.transforms``, or of torchvision's v2.
    output_dtype : torch.dtype or "auto"
        ``torch.uint8``, ``torch.float32`` (0 to 1), or "auto": float32 for HDR, else uint8.
    custom_frame_mappings : str, bytes, or file-like object, optional
        JSON of frames with "pts", "duration" and "key_frame" as ffprobe writes it. It is checked; frames are found by framerail's own
        index, which reads no more than the container's.
    """

    def __init__(
        self,
        source: Source,
        *,
        stream_index: Optional[int] = None,
        dimension_order: str = "NCHW",
        num_ffmpeg_threads: int = 1,
        device: Union[None, str, torch.device] = None,
        seek_mode: str = "exact",
        transforms: Optional[Sequence[Union[DecoderTransform, torch.nn.Module]]] = None,
        output_dtype: Union[torch.dtype, str] = torch.uint8,
        custom_frame_mappings: Union[None, str, bytes, IO[bytes], IO[str]] = None,
    ) -> None:
        if seek_mode not in ("exact", "approximate"):
            raise ValueError(f"Invalid seek mode ({seek_mode}). Supported values are exact, approximate.")
        if custom_frame_mappings is not None:
            if seek_mode == "approximate":
                raise ValueError("custom_frame_mappings is incompatible with seek_mode='approximate'. Leave seek_mode out.")
            _read_custom_frame_mappings(custom_frame_mappings)
        if dimension_order not in ("NCHW", "NHWC"):
            raise ValueError(f"Invalid dimension order ({dimension_order}). Supported values are NCHW, NHWC.")
        if num_ffmpeg_threads is None:
            raise ValueError(f"{num_ffmpeg_threads = } should be an int.")
        if output_dtype != "auto" and output_dtype not in _DTYPES:
            raise ValueError(f"Invalid output_dtype ({output_dtype}). Supported values are torch.uint8, torch.float32, and 'auto'.")
        given = plain(source)
        where = str(torch.empty(0).device if device is None else device)
        is_card = where.startswith("cuda")
        self._permutes = dimension_order == "NCHW"

        def opened(number: Optional[int]) -> reader.VideoReader:
            return reader.VideoReader(
                given,
                device=where,
                layout="THWC",
                stream=number,
                threads=num_ffmpeg_threads,
                exact=None if is_card else "swscale",
                index="approximate" if seek_mode == "approximate" else "exact",
                output="torch",
            )

        self._reader = open_stream(stream_index, "a video", opened, lambda opened: opened.header.stream_index)
        self.metadata = _metadata(self._reader, seek_mode)
        self.stream_index = self.metadata.stream_index
        self._num_frames: int = self.metadata.num_frames or 0
        self._begin_stream_seconds = self.metadata.begin_stream_seconds
        self._end_stream_seconds: float = self.metadata.end_stream_seconds or 0.0
        self._steps: Plan = plan(transforms or (), self.metadata.height or 0, self.metadata.width or 0)
        self._settle(output_dtype, is_card)

    def _settle(self, output_dtype: Union[torch.dtype, str], is_card: bool) -> None:
        """Sets what the reader hands out."""
        is_hdr = self.metadata.color_transfer_characteristic in _HDR
        dtype = ("float32" if is_hdr else "uint8") if output_dtype == "auto" else _DTYPES[output_dtype]  # type: ignore[index]
        self._is_float = dtype == "float32"
        self._scales = False
        if self._is_float and not is_card and self._steps.size is None and hasattr(torch, "uint16"):
            # libswscale's RGB of 16 bits, as TorchCodec converts for floats.
            self._scales = True
            self._reader.set_output(exact="swscale", dtype="uint16")
        elif self._is_float or self._steps.size is not None or self._steps.crop is not None:
            # libswscale's conversion knows one size alone.
            if is_card or self._steps.size is not None:
                self._reader.set_output(
                    exact=None,
                    size=self._steps.size,
                    crop=self._steps.crop,
                    dtype=dtype,
                    normalize=True if self._is_float else None,
                )
                self._steps = Plan(None, None, self._steps.rest)

    @property
    def cpu_fallback(self) -> CpuFallbackStatus:
        """Whether and why frames are decoded on the CPU although a GPU was asked for."""
        status = CpuFallbackStatus(True)
        status.backend = "CUDA" if self._reader.device.startswith("cuda") else "CPU"
        status.reason = self._reader.header.fallback or ""
        return status

    def __len__(self) -> int:
        return self._num_frames

    def __getitem__(self, key: Union[int, slice, "numbers.Integral"]) -> torch.Tensor:
        """A frame, or frames of a range."""
        if isinstance(key, numbers.Integral):
            return self.get_frame_at(int(key)).data
        if isinstance(key, slice):
            return self._batch(range(*key.indices(self._num_frames))).data
        raise TypeError(f"Unsupported key type: {type(key)}. Supported types are int and slice.")

    def get_frame_at(self, index: int) -> Frame:
        """The frame at an index; negative ones count from the end."""
        batch = self._batch([self._checked(operator.index(index))])
        return Frame(batch.data[0], batch.pts_seconds[0].item(), batch.duration_seconds[0].item())

    def get_frames_at(self, indices: Union[torch.Tensor, Sequence[int]]) -> FrameBatch:
        """The frames at these indices, in this order."""
        return self._batch([self._checked(index) for index in _whole_numbers(indices)])

    def get_frames_in_range(self, start: int, stop: Optional[int], step: int = 1) -> FrameBatch:
        """The frames from ``start`` to before ``stop``."""
        return self._batch(range(*slice(start, stop, step).indices(self._num_frames)))

    def get_frame_played_at(self, seconds: float) -> Frame:
        """The frame on screen at a time."""
        if not self._begin_stream_seconds <= seconds < self._end_stream_seconds:
            raise IndexError(
                f"Invalid pts in seconds: {seconds}. It must be greater than or equal to {self._begin_stream_seconds} "
                f"and less than {self._end_stream_seconds}."
            )
        return self.get_frame_at(self._at([seconds])[0])

    def get_frames_played_at(self, seconds: Union[torch.Tensor, Sequence[float]]) -> FrameBatch:
        """The frames on screen at these times."""
        times: List[float] = seconds.tolist() if isinstance(seconds, torch.Tensor) else list(seconds)
        for at in times:
            if not isinstance(at, numbers.Real):
                raise ValueError(f"Couldn't convert timestamps input to a tensor: {at!r} is a {type(at).__name__}")
            if at < self._begin_stream_seconds:
                raise RuntimeError(f"frame pts is {at}; must be greater than or equal to {self._begin_stream_seconds}.")
            if at >= self._end_stream_seconds:
                raise RuntimeError(f"frame pts is {at}; must be less than {self._end_stream_seconds}.")
        return self._batch(self._at(times))

    def get_frames_played_in_range(self, start_seconds: float, stop_seconds: float, fps: Optional[float] = None) -> FrameBatch:
        """The frames on screen from ``start_seconds`` to before ``stop_seconds``; with ``fps``, one for each tick of that rate."""
        begin, end = self._begin_stream_seconds, self._end_stream_seconds
        if not start_seconds <= stop_seconds:
            raise ValueError(f"Invalid start seconds: {start_seconds}. It must be less than or equal to stop seconds ({stop_seconds}).")
        if not begin <= start_seconds < end:
            raise ValueError(f"Invalid start seconds: {start_seconds}. It must be greater than or equal to {begin} and less than {end}.")
        if not stop_seconds <= end:
            raise ValueError(f"Invalid stop seconds: {stop_seconds}. It must be less than or equal to {end}.")
        if fps is not None:
            if fps <= 0:
                raise RuntimeError(f"fps must be positive, got {fps}")
            count = int((stop_seconds - start_seconds) * fps + 0.5)
            times = [start_seconds + at / fps for at in range(count)]
            batch = self._batch(self._at(times))
            moments = torch.tensor(times, dtype=torch.float64)
            return FrameBatch(batch.data, moments, torch.full_like(moments, 1 / fps))
        if start_seconds == stop_seconds:
            return self._batch([])
        starts = self._times.seconds
        first = self._at([start_seconds])[0]
        last = int(np.searchsorted(starts, stop_seconds, side="left"))
        return self._batch(range(first, max(last, first + 1)))

    def get_all_frames(self, fps: Optional[float] = None) -> FrameBatch:
        """Every frame; with ``fps``, one for each tick of that rate."""
        return self.get_frames_played_in_range(self._begin_stream_seconds, self._end_stream_seconds, fps=fps)

    def _get_key_frame_indices(self) -> torch.Tensor:
        return torch.from_numpy(np.flatnonzero(self._times.is_keyframe))

    @property
    def _times(self) -> "FrameTimes":
        return self._reader.times

    def _at(self, seconds: Sequence[float]) -> List[int]:
        """Numbers of the frames on screen: each stays until the next one comes, whatever its duration says."""
        found = np.searchsorted(self._times.seconds, np.asarray(seconds, np.float64), side="right") - 1
        return [min(max(int(number), 0), max(self._num_frames - 1, 0)) for number in found]

    def _checked(self, index: int) -> int:
        count, where = self._num_frames, f"Invalid frame index={index} for stream_index={self.stream_index}"
        if index < -count:
            raise IndexError(
                f"{where}; negative indices must have an absolute value less than the number of frames, "
                "and the number of frames must be known."
            )
        if index >= count:
            raise IndexError(f"{where}; must be less than {count}")
        return index + count if index < 0 else index

    def _batch(self, indices: Sequence[int]) -> FrameBatch:
        indices = list(indices)
        if not indices:
            return self._empty()
        try:
            batch: ReaderBatch = self._reader.read(indices)
        except IndexError as error:
            # The header states more frames than there are.
            raise RuntimeError(f"Requested next frame while there are no more frames left to decode: {error}") from error
        data: torch.Tensor = batch.data
        if self._steps.crop is not None:
            x, y, width, height = self._steps.crop
            data = data[:, y : y + height, x : x + width]
        if self._scales:
            data = data.to(torch.float32) / 65535.0
        data = data.permute(0, 3, 1, 2) if self._permutes else data
        for step in self._steps.rest:
            data = step(data if self._permutes else data.permute(0, 3, 1, 2))
            data = data if self._permutes else data.permute(0, 2, 3, 1)
        return FrameBatch(data, batch.seconds, batch.durations)

    def _empty(self) -> FrameBatch:
        sample = self._batch([0]) if self._steps.rest or not self._num_frames else None
        size = self._reader._options["size"] or (self.metadata.height or 0, self.metadata.width or 0)
        if self._steps.crop is not None:
            size = (self._steps.crop[3], self._steps.crop[2])
        shape: Tuple[int, ...] = (3, *size) if self._permutes else (*size, 3)
        shape = tuple(sample.data.shape[1:]) if sample is not None else shape
        where = self._reader.device
        none = torch.empty(0, dtype=torch.float64)
        dtype = torch.float32 if self._is_float else torch.uint8
        return FrameBatch(torch.empty((0, *shape), dtype=dtype, device=where), none, none.clone())


def _whole_numbers(indices: Union[torch.Tensor, Sequence[int]]) -> List[int]:
    if isinstance(indices, torch.Tensor):
        return [int(index) for index in indices.tolist()]
    for index in indices:
        if not hasattr(index, "__index__"):
            raise RuntimeError(f"frame_indices: expected Long but found {type(index).__name__.capitalize()}: {index!r}")
    return [operator.index(index) for index in indices]


def _metadata(opened: reader.VideoReader, seek_mode: str) -> VideoStreamMetadata:
    known: VideoMetadata = opened.header
    is_exact = seek_mode == "exact"
    seconds = opened.times.seconds if is_exact else np.empty(0)
    content = opened.metadata if is_exact else None
    first: VideoMetadata = content or known
    average = first.frame_rate_header if first.frame_rate_header is not None else first.frame_rate
    return VideoStreamMetadata(
        duration_seconds_from_header=first.duration_seconds_header,
        begin_stream_seconds_from_header=first.start_seconds_header,
        bit_rate=None if first.bit_rate is None else float(first.bit_rate),
        codec=first.codec,
        stream_index=first.stream_index,
        begin_stream_seconds_from_content=float(seconds[0]) if len(seconds) else None,
        end_stream_seconds_from_content=content.end_stream_seconds if content is not None else None,
        width=first.width,
        height=first.height,
        num_frames_from_header=first.num_frames_header,
        num_frames_from_content=content.num_frames if content is not None else None,
        average_fps_from_header=None if average is None else float(average),
        pixel_aspect_ratio=first.sample_aspect_ratio,
        rotation=float((360 - first.rotation) % 360) if first.rotation else None,
        color_primaries=first.color["primaries"],
        color_space=first.color["matrix"],
        color_transfer_characteristic=first.color["transfer"],
        pixel_format=first.pixel_format,
    )


def _read_custom_frame_mappings(mappings: Union[str, bytes, IO[bytes], IO[str]]) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """PTS, keyframe flags and durations of ffprobe's JSON."""
    try:
        given = json.loads(mappings) if isinstance(mappings, (str, bytes)) else json.load(mappings)
    except json.JSONDecodeError as error:
        raise ValueError(f"Invalid custom frame mappings: {error}. It should be a valid JSON string or a file-like object.") from error
    frames: List[Dict[str, Union[int, str]]] = given.get("frames", []) if isinstance(given, dict) else []
    if not frames:
        raise ValueError("Invalid custom frame mappings. The input is empty or missing the required 'frames' key.")
    pts = next((key for key in ("pts", "pkt_pts") if key in frames[0]), None)
    duration = next((key for key in ("duration", "pkt_duration") if key in frames[0]), None)
    if pts is None or duration is None or "key_frame" not in frames[0]:
        raise ValueError(
            "Invalid custom frame mappings. The 'pts'/'pkt_pts', 'duration'/'pkt_duration', and 'key_frame' keys are required in the "
            "frame metadata."
        )
    column = {key: [int(frame[key]) for frame in frames] for key in (pts, duration, "key_frame")}
    return torch.tensor(column[pts]), torch.tensor(column["key_frame"], dtype=torch.bool), torch.tensor(column[duration])
