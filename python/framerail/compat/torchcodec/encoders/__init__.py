"""Encoders under TorchCodec's names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Dict, Optional, Union

import torch

from .... import writer

_Value = Union[str, int, float]


class VideoEncoder:
    """Encodes frames; TorchCodec's ``VideoEncoder`` over ``framerail.VideoWriter``.

    Parameters
    ----------
    frames : torch.Tensor
        uint8 [N, 3, H, W], on the host or on a card.
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


__all__ = ["VideoEncoder"]
