"""Encoders under TorchCodec's names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Dict, Optional, Union

import torch

from ._multi_stream_encoder import AudioStream, Encoder, Value, VideoStream


class VideoEncoder:
    """Encodes frames; TorchCodec's ``VideoEncoder``.

    Parameters
    ----------
    frames : torch.Tensor
        uint8 [N, 3, H, W], on the host or on a GPU.
    frame_rate : float
        Frames per second.
    """

    def __init__(self, frames: torch.Tensor, *, frame_rate: float) -> None:
        if not isinstance(frames, torch.Tensor):
            raise ValueError(f"Expected frames to be a Tensor, got {type(frames) = }.")
        if frames.ndim != 4:
            raise ValueError(f"Expected 4D frames, got {frames.shape = }.")
        if frames.dtype != torch.uint8:
            raise ValueError(f"Expected uint8 frames, got {frames.dtype = }.")
        if frame_rate <= 0:
            raise ValueError(f"{frame_rate = } must be > 0.")
        self._frames = frames
        self._frame_rate = frame_rate

    def _write(
        self,
        target: Union[str, Path, IO[bytes]],
        format: Optional[str],
        codec: Optional[str],
        pixel_format: Optional[str],
        crf: Optional[float],
        preset: Union[None, str, int],
        extra_options: Optional[Dict[str, Value]],
    ) -> None:
        encoder = Encoder()
        video = encoder.add_video(
            height=self._frames.shape[2],
            width=self._frames.shape[3],
            frame_rate=self._frame_rate,
            device=self._frames.device,
            codec=codec,
            pixel_format=pixel_format,
            crf=crf,
            preset=preset,
            extra_options=extra_options,
        )
        with encoder._open(target, format, is_tried=False):
            video.add_frames(self._frames)

    def to_file(
        self,
        dest: Union[str, Path],
        *,
        codec: Optional[str] = None,
        pixel_format: Optional[str] = None,
        crf: Optional[float] = None,
        preset: Union[None, str, int] = None,
        extra_options: Optional[Dict[str, Value]] = None,
    ) -> None:
        """Writes a file; an existing one is replaced when the new one is complete."""
        self._write(dest, None, codec, pixel_format, crf, preset, extra_options)

    def to_file_like(
        self,
        file_like: IO[bytes],
        format: str,
        *,
        codec: Optional[str] = None,
        pixel_format: Optional[str] = None,
        crf: Optional[float] = None,
        preset: Union[None, str, int] = None,
        extra_options: Optional[Dict[str, Value]] = None,
    ) -> None:
        """Writes to an object with ``write``."""
        self._write(file_like, format, codec, pixel_format, crf, preset, extra_options)

    def to_tensor(
        self,
        format: str,
        *,
        codec: Optional[str] = None,
        pixel_format: Optional[str] = None,
        crf: Optional[float] = None,
        preset: Union[None, str, int] = None,
        extra_options: Optional[Dict[str, Value]] = None,
    ) -> torch.Tensor:
        """The file's bytes as a 1-D tensor of uint8."""
        buffer = io.BytesIO()
        self._write(buffer, format, codec, pixel_format, crf, preset, extra_options)
        return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


class AudioEncoder:
    """Encodes samples; TorchCodec's ``AudioEncoder``.

    Parameters
    ----------
    samples : torch.Tensor
        float32 [channels, samples], or [samples] of one channel, from -1 to 1.
    sample_rate : int
        Samples per second.
    """

    def __init__(self, samples: torch.Tensor, *, sample_rate: int) -> None:
        if not isinstance(samples, torch.Tensor):
            raise ValueError(f"Expected samples to be a Tensor, got {type(samples) = }.")
        samples = samples[None] if samples.ndim == 1 else samples
        if samples.ndim != 2:
            raise ValueError(f"Expected 1D or 2D samples, got {samples.shape = }.")
        if samples.dtype != torch.float32:
            raise ValueError(f"Expected float32 samples, got {samples.dtype = }.")
        if sample_rate <= 0:
            raise ValueError(f"{sample_rate = } must be > 0.")
        self._samples = samples
        self._sample_rate = sample_rate

    def _write(
        self,
        target: Union[str, Path, IO[bytes]],
        format: Optional[str],
        bit_rate: Optional[int],
        num_channels: Optional[int],
        sample_rate: Optional[int],
    ) -> None:
        encoder = Encoder()
        audio = encoder.add_audio(
            sample_rate=self._sample_rate,
            num_channels=int(self._samples.shape[0]),
            bit_rate=bit_rate,
            out_num_channels=num_channels,
            out_sample_rate=sample_rate,
        )
        with encoder._open(target, format):
            audio.add_samples(self._samples)

    def to_file(
        self,
        dest: Union[str, Path],
        *,
        bit_rate: Optional[int] = None,
        num_channels: Optional[int] = None,
        sample_rate: Optional[int] = None,
    ) -> None:
        """Writes a file; an existing one is replaced when the new one is complete."""
        self._write(dest, None, bit_rate, num_channels, sample_rate)

    def to_file_like(
        self,
        file_like: IO[bytes],
        format: str,
        *,
        bit_rate: Optional[int] = None,
        num_channels: Optional[int] = None,
        sample_rate: Optional[int] = None,
    ) -> None:
        """Writes to an object with ``write``."""
        self._write(file_like, format, bit_rate, num_channels, sample_rate)

    def to_tensor(
        self,
        format: str,
        *,
        bit_rate: Optional[int] = None,
        num_channels: Optional[int] = None,
        sample_rate: Optional[int] = None,
    ) -> torch.Tensor:
        """The file's bytes as a 1-D tensor of uint8."""
        buffer = io.BytesIO()
        self._write(buffer, format, bit_rate, num_channels, sample_rate)
        return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


__all__ = ["AudioEncoder", "AudioStream", "Encoder", "VideoEncoder", "VideoStream"]
