"""What programs ask of ``torchcodec._core``: classes of metadata, and the version of FFmpeg."""

from typing import Dict

from ... import _ffmpeg_version
from . import _metadata
from ._metadata import AudioStreamMetadata, StreamMetadata, VideoStreamMetadata


def get_ffmpeg_library_versions() -> Dict[str, str]:
    """The version of the FFmpeg that framerail uses, under "ffmpeg_version"."""
    return {"ffmpeg_version": _ffmpeg_version()}


ffmpeg_major_version = int(_ffmpeg_version().lstrip("n").split(".")[0])

__all__ = [
    "AudioStreamMetadata",
    "StreamMetadata",
    "VideoStreamMetadata",
    "_metadata",
    "ffmpeg_major_version",
    "get_ffmpeg_library_versions",
]
