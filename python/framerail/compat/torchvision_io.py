"""The video functions that ``torchvision.io`` had: ``read_video``, ``read_video_timestamps`` and ``write_video``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple, Union

from ..audio import AudioReader
from ..errors import DecodeError
from ..options import bad, choice
from ..reader import VideoReader
from ..writer import VideoWriter
from ._errors import MissingFileError

if TYPE_CHECKING:
    import torch

    Path = Union[str, "os.PathLike[str]"]
    Time = Union[int, float, Fraction]

UNITS = ("pts", "sec")


def _ticks_per_second(reader: VideoReader) -> float:
    """Ticks of the stream's PTS in a second."""
    times = reader.times
    spans = times.seconds[-1] - times.seconds[0] if len(times) > 1 else 0.0
    return float(times.pts[-1] - times.pts[0]) / spans if spans > 0 else 1.0


def read_video(
    filename: "Path",
    start_pts: "Time" = 0,
    end_pts: "Optional[Time]" = None,
    pts_unit: str = "pts",
    output_format: str = "THWC",
) -> Tuple["torch.Tensor", "torch.Tensor", Dict[str, float]]:
    """Frames and audio from ``start_pts`` to ``end_pts``, both included.

    Parameters
    ----------
    filename : str or os.PathLike
        A path or an address.
    start_pts, end_pts : number, optional
        In ticks of the video's PTS, or in seconds with ``pts_unit="sec"``. Default: the whole video.
    pts_unit : str
        "pts" or "sec".
    output_format : str
        "THWC" or "TCHW".

    Returns
    -------
    vframes : torch.Tensor
        uint8 [T, H, W, C] or [T, C, H, W].
    aframes : torch.Tensor
        float32 [channels, samples]; no samples where the file has no audio.
    info : dict
        "video_fps", and "audio_fps" where there is audio.
    """
    import torch

    choice("pts_unit", pts_unit, UNITS)
    output_format = output_format.upper()
    if output_format not in ("THWC", "TCHW"):
        raise ValueError(f"output_format should be either 'THWC' or 'TCHW', got {output_format}.")
    if end_pts is not None and end_pts < start_pts:
        raise ValueError(f"end_pts should be larger than start_pts, got start_pts={start_pts} and end_pts={end_pts}")
    try:
        reader = VideoReader(filename, layout="THWC", output="torch", exact="swscale")
    except FileNotFoundError as error:
        raise MissingFileError(f"File not found: {error}") from error
    with reader:
        rate = _ticks_per_second(reader)
        times = reader.times
        marks = times.pts if pts_unit == "pts" else times.seconds
        first, last = float(start_pts), float("inf") if end_pts is None else float(end_pts)
        numbers: List[int] = [at for at in range(len(times)) if first <= marks[at] <= last]
        shown = reader.metadata
        frames: torch.Tensor = reader.read(numbers).data if numbers else torch.empty((0, shown.height, shown.width, 3), dtype=torch.uint8)
        info: Dict[str, float] = {"video_fps": shown.average_fps or 0.0}
        begin = first / rate if pts_unit == "pts" else first
        end = None if end_pts is None else (last / rate if pts_unit == "pts" else last)
    sound = torch.empty((1, 0), dtype=torch.float32)
    try:
        with AudioReader(filename, output="torch") as audio:
            info["audio_fps"] = float(audio.metadata.sample_rate)
            start = max(begin, audio.metadata.start_seconds)
            sound = audio.read(start, None if end is None else max(end, start)).data
    except DecodeError:
        # A video without audio.
        pass
    return (frames if output_format == "THWC" else frames.permute(0, 3, 1, 2)), sound, info


def read_video_timestamps(filename: "Path", pts_unit: str = "pts") -> Tuple[List["Time"], Optional[float]]:
    """Times of all frames, and frames per second.

    Times are ticks of the video's PTS, or seconds with ``pts_unit="sec"``.
    """
    choice("pts_unit", pts_unit, UNITS)
    with VideoReader(filename) as reader:
        times = reader.times
        marks: List[Time] = times.pts.tolist() if pts_unit == "pts" else times.seconds.tolist()
        return marks, reader.metadata.average_fps


def write_video(
    filename: "Path",
    video_array: "torch.Tensor",
    fps: float,
    video_codec: str = "libx264",
    options: Optional[Mapping[str, Union[str, int, float]]] = None,
    audio_array: Optional["torch.Tensor"] = None,
    audio_fps: Optional[float] = None,
    audio_codec: Optional[str] = None,
    audio_options: Optional[Mapping[str, Union[str, int, float]]] = None,
) -> None:
    """Writes frames [T, H, W, C] of uint8, and audio [channels, samples], into a file; an existing one is replaced.

    ``audio_codec`` and ``audio_options`` are accepted and not used: audio gets the container's usual codec.
    """
    if audio_array is not None and audio_fps is None:
        raise bad("audio_fps", audio_fps, "samples per second, with audio_array")
    channels = 2 if audio_array is None else int(audio_array.shape[0])
    writer = VideoWriter(
        filename,
        fps,
        codec=video_codec,
        options=options,
        layout="THWC",
        overwrite=True,
        audio_rate=None if audio_array is None else int(audio_fps or 0),
        audio_channels=channels,
    )
    with writer:
        if audio_array is not None:
            writer.write_audio(audio_array)
        writer.write(video_array)
