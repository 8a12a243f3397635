"""Decoders under TorchCodec's names."""

from collections.abc import Iterator
from contextlib import contextmanager

from .._core._metadata import (
    AudioStreamHeaderMetadata,
    AudioStreamMetadata,
    StreamMetadata,
    VideoStreamHeaderMetadata,
    VideoStreamMetadata,
)
from ._audio_decoder import AudioDecoder, WavDecoder
from ._video_decoder import CpuFallbackStatus, VideoDecoder

SimpleVideoDecoder = VideoDecoder

_BACKENDS = ("nvdec", "beta", "ffmpeg")
_capacity = 20


@contextmanager
def set_cuda_backend(backend: str) -> Iterator[None]:
    """Accepted for programs that call it: framerail always decodes with NVDEC directly."""
    if backend.lower() not in _BACKENDS:
        raise ValueError(f"Invalid CUDA backend ({backend}). Supported values are 'nvdec' and 'ffmpeg'.")
    yield


def set_nvdec_cache_capacity(capacity: int) -> None:
    """Kept for ``get_nvdec_cache_capacity``: framerail keeps decoders by itself, within its memory limit."""
    global _capacity
    if capacity < 0:
        raise RuntimeError(f"NVDEC cache capacity must be non-negative, got {capacity}")
    _capacity = int(capacity)


def get_nvdec_cache_capacity() -> int:
    """The number that ``set_nvdec_cache_capacity`` was given last, 20 at first."""
    return _capacity


__all__ = [
    "AudioDecoder",
    "AudioStreamHeaderMetadata",
    "AudioStreamMetadata",
    "CpuFallbackStatus",
    "SimpleVideoDecoder",
    "StreamMetadata",
    "VideoDecoder",
    "VideoStreamHeaderMetadata",
    "VideoStreamMetadata",
    "WavDecoder",
    "get_nvdec_cache_capacity",
    "set_cuda_backend",
    "set_nvdec_cache_capacity",
]
