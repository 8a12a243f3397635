"""Properties of streams under TorchCodec's names."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Optional


@dataclasses.dataclass(repr=False)
class StreamMetadata:
    """Properties of any stream, by the header."""

    duration_seconds_from_header: Optional[float]
    begin_stream_seconds_from_header: Optional[float]
    bit_rate: Optional[float]
    codec: Optional[str]
    stream_index: int

    def __repr__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # Whole numbers as TorchCodec prints them.
        shown = {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in values.items()}
        return f"{type(self).__name__}:\n" + "".join(f"  {name}: {value}\n" for name, value in shown.items())


@dataclasses.dataclass(repr=False)
class VideoStreamMetadata(StreamMetadata):
    """Properties of a video stream; what ends in ``_from_content`` is known in exact mode. The last five are the best that is known."""

    media_type: str = dataclasses.field(default="video", init=False)
    width: Optional[int]
    height: Optional[int]
    num_frames_from_header: Optional[int]
    average_fps_from_header: Optional[float]
    pixel_aspect_ratio: Optional[Fraction]
    rotation: Optional[float]
    color_primaries: Optional[str]
    color_space: Optional[str]
    color_transfer_characteristic: Optional[str]
    pixel_format: Optional[str]
    begin_stream_seconds_from_content: Optional[float]
    end_stream_seconds_from_content: Optional[float]
    num_frames_from_content: Optional[int]
    duration_seconds: Optional[float] = dataclasses.field(init=False)
    begin_stream_seconds: float = dataclasses.field(init=False)
    end_stream_seconds: Optional[float] = dataclasses.field(init=False)
    num_frames: Optional[int] = dataclasses.field(init=False)
    average_fps: Optional[float] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        begin, end = self.begin_stream_seconds_from_content, self.end_stream_seconds_from_content
        duration, rate = self.duration_seconds_from_header, self.average_fps_from_header
        self.num_frames = self.num_frames_from_header if self.num_frames_from_content is None else self.num_frames_from_content
        if self.num_frames is None and rate is not None and duration is not None:
            self.num_frames = int(rate * duration)
        self.begin_stream_seconds = (self.begin_stream_seconds_from_header or 0.0) if begin is None else begin
        self.average_fps = rate
        if begin is not None and end is not None:
            duration = end - begin
            if self.num_frames is not None and duration > 0:
                self.average_fps = self.num_frames / duration
        elif duration is None and self.num_frames is not None and rate:
            duration = self.num_frames / rate
        self.duration_seconds = duration
        self.end_stream_seconds = end
        if end is None and duration is not None:
            self.end_stream_seconds = self.begin_stream_seconds + duration


@dataclasses.dataclass(repr=False)
class AudioStreamMetadata(StreamMetadata):
    """Properties of an audio stream."""

    media_type: str = dataclasses.field(default="audio", init=False)
    sample_rate: Optional[int]
    num_channels: Optional[int]
    sample_format: Optional[str]
    duration_seconds: Optional[float] = dataclasses.field(init=False)
    begin_stream_seconds: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.duration_seconds = self.duration_seconds_from_header
        self.begin_stream_seconds = self.begin_stream_seconds_from_header or 0.0


VideoStreamHeaderMetadata = VideoStreamMetadata
AudioStreamHeaderMetadata = AudioStreamMetadata
