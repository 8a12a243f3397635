"""Properties of streams under TorchCodec's names."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import ClassVar, Optional, Tuple

_COMPUTED = ("duration_seconds", "begin_stream_seconds", "end_stream_seconds", "num_frames", "average_fps")


@dataclasses.dataclass(repr=False)
class StreamMetadata:
    """Properties of any stream, by the header."""

    duration_seconds_from_header: Optional[float]
    begin_stream_seconds_from_header: Optional[float]
    bit_rate: Optional[float]
    codec: Optional[str]
    stream_index: int

    _computed: ClassVar[Tuple[str, ...]] = ()

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self)] + list(self._computed)
        return f"{type(self).__name__}:\n" + "".join(f"  {name}: {getattr(self, name)}\n" for name in names)


@dataclasses.dataclass(repr=False)
class VideoStreamMetadata(StreamMetadata):
    """Properties of a video stream; what ends in ``_from_content`` is known in exact mode."""

    begin_stream_seconds_from_content: Optional[float]
    end_stream_seconds_from_content: Optional[float]
    width: Optional[int]
    height: Optional[int]
    num_frames_from_header: Optional[int]
    num_frames_from_content: Optional[int]
    average_fps_from_header: Optional[float]
    pixel_aspect_ratio: Optional[Fraction]
    rotation: Optional[float] = None
    color_primaries: Optional[str] = None
    color_space: Optional[str] = None
    color_transfer_characteristic: Optional[str] = None
    pixel_format: Optional[str] = None
    media_type: str = "video"

    _computed: ClassVar[Tuple[str, ...]] = _COMPUTED

    @property
    def duration_seconds(self) -> Optional[float]:
        """Length by the frames, else by the header, else by its number of frames and rate."""
        if self.begin_stream_seconds_from_content is not None and self.end_stream_seconds_from_content is not None:
            return self.end_stream_seconds_from_content - self.begin_stream_seconds_from_content
        if self.duration_seconds_from_header is not None:
            return self.duration_seconds_from_header
        if self.num_frames_from_header is not None and self.average_fps_from_header:
            return self.num_frames_from_header / self.average_fps_from_header
        return None

    @property
    def begin_stream_seconds(self) -> float:
        """Time of the first frame; 0 where frames were not scanned."""
        known = self.begin_stream_seconds_from_content
        return 0.0 if known is None else known

    @property
    def end_stream_seconds(self) -> Optional[float]:
        """Time at which the last frame ends."""
        known = self.end_stream_seconds_from_content
        return self.duration_seconds if known is None else known

    @property
    def num_frames(self) -> Optional[int]:
        """Number of frames by the content, else by the header, else by length and rate."""
        if self.num_frames_from_content is not None:
            return self.num_frames_from_content
        if self.num_frames_from_header is not None:
            return self.num_frames_from_header
        if self.average_fps_from_header is not None and self.duration_seconds_from_header is not None:
            return int(self.average_fps_from_header * self.duration_seconds_from_header)
        return None

    @property
    def average_fps(self) -> Optional[float]:
        """Frames per second by the content, else by the header."""
        begin, end, count = self.begin_stream_seconds_from_content, self.end_stream_seconds_from_content, self.num_frames
        if begin is None or end is None or count is None or end == begin:
            return self.average_fps_from_header
        return count / (end - begin)


@dataclasses.dataclass(repr=False)
class AudioStreamMetadata(StreamMetadata):
    """Properties of an audio stream."""

    sample_rate: Optional[int]
    num_channels: Optional[int]
    sample_format: Optional[str]
    media_type: str = "audio"

    _computed: ClassVar[Tuple[str, ...]] = ("duration_seconds", "begin_stream_seconds")

    @property
    def duration_seconds(self) -> Optional[float]:
        """Length by the header."""
        return self.duration_seconds_from_header

    @property
    def begin_stream_seconds(self) -> float:
        """Time of the first sample by the header."""
        return self.begin_stream_seconds_from_header or 0.0


VideoStreamHeaderMetadata = VideoStreamMetadata
AudioStreamHeaderMetadata = AudioStreamMetadata
