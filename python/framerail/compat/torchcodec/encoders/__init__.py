"""Encoders under TorchCodec's names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Dict, Optional, Union

import torch

from .... import audio_writer, errors, writer

_Value = Union[str, int, float]
#: Channels that TorchCodec encodes at most.
_MOST_CHANNELS = 8


class VideoEncoder:
    """Encodes frames; TorchCodec's ``VideoEncoder`` over ``framerail.VideoWriter``.

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
        extra_options: Optional[Dict[str, _Value]],
    ) -> None:
        try:
            made = writer.VideoWriter(
                target,
                self._frame_rate,
                codec=codec,
                pixel_format=pixel_format,
                crf=crf,
                preset=None if preset is None else str(preset),
                options=extra_options,
                format=format,
                layout="TCHW",
                color="none",
                overwrite=True,
            )
            with made:
                made.write(self._frames)
        except (ValueError, OSError, errors.UnsupportedError) as error:
            hint = f"Video codec {codec} not found: " if "video encoder of this name" in str(error) else ""
            raise RuntimeError(f"{hint}{error}") from error

    def to_file(
        self,
        dest: Union[str, Path],
        *,
        codec: Optional[str] = None,
        pixel_format: Optional[str] = None,
        crf: Optional[float] = None,
        preset: Union[None, str, int] = None,
        extra_options: Optional[Dict[str, _Value]] = None,
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
        extra_options: Optional[Dict[str, _Value]] = None,
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
        extra_options: Optional[Dict[str, _Value]] = None,
    ) -> torch.Tensor:
        """The file's bytes as a 1-D tensor of uint8."""
        buffer = io.BytesIO()
        self._write(buffer, format, codec, pixel_format, crf, preset, extra_options)
        return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


class AudioEncoder:
    """Encodes samples; TorchCodec's ``AudioEncoder`` over ``framerail.AudioWriter``.

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
        if bit_rate is not None and bit_rate < 0:
            raise RuntimeError(f"bit_rate={bit_rate} must be >= 0.")
        if self._samples.shape[0] > _MOST_CHANNELS:
            raise RuntimeError(f"Trying to encode {self._samples.shape[0]} channels, but FFmpeg only supports {_MOST_CHANNELS} channels")
        for method in ("write", "seek"):
            if not isinstance(target, (str, Path)) and not hasattr(target, method):
                raise RuntimeError(f"File like object must implement a {method} method.")
        try:
            made = audio_writer.AudioWriter(
                target,
                self._sample_rate,
                int(self._samples.shape[0]),
                bit_rate=bit_rate,
                file_rate=sample_rate,
                file_channels=num_channels,
                format=format,
                overwrite=True,
            )
        except (ValueError, OSError, errors.UnsupportedError) as error:
            if num_channels is not None:
                raise RuntimeError(f"Desired number of channels ({num_channels}) is not supported by the encoder: {error}") from error
            hint = f"Check the desired format? Got format={format}" if format else f"check the desired extension? Got {target}"
            raise RuntimeError(f"{error} ({hint})") from error
        wanted = self._sample_rate if sample_rate is None else sample_rate
        if made.file_rate != wanted:
            rate = made.file_rate
            made.discard()
            raise RuntimeError(f"invalid sample rate={wanted}: the encoder takes {rate} Hz instead")
        with made:
            made.write(self._samples)

    def to_file(
        self,
        dest: Union[str, Path],
        *,
        bit_rate: Optional[int] = None,
        num_channels: Optional[int] = None,
        sample_rate: Optional[int] = None,
    ) -> None:
        """Writes a file; an existing one is replaced when the new one is complete."""
        parent = Path(dest).parent
        if not parent.is_dir():
            raise RuntimeError(f"avio_open failed. The destination file is {dest}, make sure it's a valid path?")
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


__all__ = ["AudioEncoder", "VideoEncoder"]
