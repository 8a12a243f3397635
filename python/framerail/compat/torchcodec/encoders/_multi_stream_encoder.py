"""``Encoder``: frames and samples of one file, added piece by piece."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Dict, List, Optional, Type, Union

import torch

from .... import audio_writer, errors, writer

Value = Union[str, int, float]
Target = Union[str, "os.PathLike[str]", IO[bytes]]
#: Channels that TorchCodec encodes at most.
MOST_CHANNELS = 8
#: Options of the container among ``extra_options``.
_OF_CONTAINERS = ("movflags", "flush_packets", "frag_duration", "min_frag_duration")


def check_target(target: Target, format: Optional[str]) -> None:
    """Raises what TorchCodec raises for targets that cannot be written."""
    if not isinstance(target, (str, os.PathLike)):
        for method in ("write", "seek"):
            if not hasattr(target, method):
                raise RuntimeError(f"File like object must implement a {method} method.")
    elif format is None and not Path(target).absolute().parent.is_dir():
        raise RuntimeError(f"avio_open failed. The destination file is {target}, make sure it's a valid path?")


class VideoStream:
    """Frames of an ``Encoder``; made by ``add_video``."""

    def __init__(
        self,
        encoder: "Encoder",
        height: int,
        width: int,
        frame_rate: float,
        device: torch.device,
        codec: Optional[str],
        pixel_format: Optional[str],
        crf: Optional[float],
        preset: Union[None, str, int],
        extra_options: Optional[Dict[str, Value]],
    ) -> None:
        self._encoder = encoder
        self._height, self._width, self._frame_rate, self._device = height, width, frame_rate, device
        self._codec, self._pixel_format, self._crf, self._preset, self._options = codec, pixel_format, crf, preset, extra_options

    def _open(self, target: Target, format: Optional[str], audio: Optional["AudioStream"]) -> writer.VideoWriter:
        given = self._options or {}
        return writer.VideoWriter(
            target,
            self._frame_rate,
            codec=self._codec,
            pixel_format=self._pixel_format,
            crf=self._crf,
            preset=None if self._preset is None else str(self._preset),
            options={name: value for name, value in given.items() if name not in _OF_CONTAINERS},
            format_options={name: value for name, value in given.items() if name in _OF_CONTAINERS},
            format=format,
            layout="TCHW",
            color="none",
            exact="swscale",
            audio_rate=None if audio is None else audio._sample_rate,
            audio_channels=2 if audio is None else audio._channels,
            overwrite=True,
        )

    def _try(self, format: str) -> None:
        """Encodes a frame to nowhere: encoders check their options with the first frame, and these errors belong to ``open_file``."""
        tried = self._open(io.BytesIO(), format, None)
        try:
            tried.write(torch.zeros((1, 3, self._height, self._width), dtype=torch.uint8))
            tried.close()
        except (ValueError, OSError, errors.UnsupportedError) as error:
            raise RuntimeError(f"avcodec_open2 failed: Invalid argument: {error}") from error
        finally:
            tried.abandon()

    def _is_chosen(self) -> bool:
        return any(option is not None for option in (self._pixel_format, self._crf, self._preset, self._options))

    def add_frames(self, frames: torch.Tensor) -> None:
        """Adds uint8 frames [N, 3, H, W], on the device that ``add_video`` was given."""
        made = self._encoder._opened("addFrames", "add frames")
        if frames.dtype != torch.uint8:
            raise RuntimeError(f"frames must have uint8 dtype, got {frames.dtype}")
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise RuntimeError(f"frames must have shape (N, 3, H, W), got {tuple(frames.shape)}")
        if tuple(frames.shape[2:]) != (self._height, self._width):
            raise RuntimeError(
                f"All frames must have the same dimensions as those of add_video(): {self._height}x{self._width}, "
                f"got {frames.shape[2]}x{frames.shape[3]}"
            )
        if frames.device.type != self._device.type:
            raise RuntimeError(f"frames must be on the same device as that of add_video(): {self._device}, got {frames.device}")
        if len(frames):
            with _as_torchcodec(None):
                made.write(frames)  # type: ignore[arg-type,unused-ignore]


class AudioStream:
    """Samples of an ``Encoder``; made by ``add_audio``."""

    def __init__(
        self, encoder: "Encoder", sample_rate: int, channels: int, bit_rate: Optional[int], file_channels: Optional[int], file_rate: Optional[int]
    ) -> None:
        self._encoder = encoder
        self._sample_rate, self._channels, self._bit_rate = sample_rate, channels, bit_rate
        self._file_channels, self._file_rate = file_channels, file_rate

    def _open(self, target: Target, format: Optional[str]) -> audio_writer.AudioWriter:
        try:
            made = audio_writer.AudioWriter(
                target,
                self._sample_rate,
                self._channels,
                bit_rate=self._bit_rate,
                file_rate=self._file_rate,
                file_channels=self._file_channels,
                format=format,
                overwrite=True,
            )
        except (ValueError, OSError, errors.UnsupportedError) as error:
            if self._file_channels is not None:
                raise RuntimeError(f"Desired number of channels ({self._file_channels}) is not supported by the encoder: {error}") from error
            raise
        wanted = self._sample_rate if self._file_rate is None else self._file_rate
        if made.file_rate != wanted:
            rate = made.file_rate
            made.discard()
            raise RuntimeError(f"invalid sample rate={wanted}: the encoder takes {rate} Hz instead")
        return made

    def add_samples(self, samples: torch.Tensor) -> None:
        """Adds float32 samples [channels, N], from -1 to 1."""
        made = self._encoder._opened("addSamples", "add samples")
        if samples.dtype != torch.float32:
            raise RuntimeError(f"samples must have float32 dtype, got {samples.dtype}")
        if samples.ndim != 2:
            raise RuntimeError(f"samples must have 2 dimensions (channels, samples), got {samples.ndim}")
        if samples.device.type != "cpu":
            raise RuntimeError(f"samples must be on CPU, got {samples.device}")
        if samples.shape[0] != self._channels:
            raise RuntimeError(f"Expected {self._channels} channels, got {samples.shape[0]}")
        with _as_torchcodec(None):
            if isinstance(made, writer.VideoWriter):
                made.write_audio(samples)
            else:
                made.write(samples)


class _as_torchcodec:
    """TorchCodec raises RuntimeError for options, formats and files alike."""

    def __init__(self, format: Optional[str], target: Optional[Target] = None, codec: Optional[str] = None) -> None:
        self._format, self._target, self._codec = format, target, codec

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        if not isinstance(error, (ValueError, OSError, errors.UnsupportedError)):
            return
        hint = f"Video codec {self._codec} not found: " if "encoder of this name" in str(error) else ""
        asked = ""
        if self._target is not None:
            is_path = self._format is None
            asked = f" (check the desired extension? Got {self._target})" if is_path else f" (Check the desired format? Got format={self._format})"
        raise RuntimeError(f"{hint}{error}{asked}") from error


class Encoder:
    """Encodes a video stream, an audio stream, or both into one file; TorchCodec's ``Encoder`` over ``VideoWriter`` and ``AudioWriter``.

    The file appears when it is complete, in ``close``. One stream of each kind is supported; audio beside video is encoded at its own rate and
    with its own channels.
    """

    def __init__(self) -> None:
        self._video: Optional[VideoStream] = None
        self._audio: Optional[AudioStream] = None
        self._writer: Union[None, writer.VideoWriter, audio_writer.AudioWriter] = None
        self._is_closed = False

    def _may_add(self, kind: str) -> None:
        if self._writer is not None or self._is_closed:
            raise RuntimeError("Streams are added before open()")
        if (self._video if kind == "video" else self._audio) is not None:
            raise RuntimeError(f"framerail.compat encodes one {kind} stream per file")

    def add_video(
        self,
        *,
        height: int,
        width: int,
        frame_rate: float,
        device: Union[None, str, torch.device] = None,
        codec: Optional[str] = None,
        pixel_format: Optional[str] = None,
        crf: Optional[float] = None,
        preset: Union[None, str, int] = None,
        extra_options: Optional[Dict[str, Value]] = None,
    ) -> VideoStream:
        """Adds a stream of frames of this size; ``device`` is where they will be (default: PyTorch's default device)."""
        self._may_add("video")
        if frame_rate <= 0:
            raise RuntimeError(f"frame_rate must be > 0, got {frame_rate}")
        where = torch.empty(0).device if device is None else torch.device(device)
        self._video = VideoStream(self, height, width, frame_rate, where, codec, pixel_format, crf, preset, extra_options)
        return self._video

    def add_audio(
        self,
        *,
        sample_rate: int,
        num_channels: int,
        bit_rate: Optional[int] = None,
        out_num_channels: Optional[int] = None,
        out_sample_rate: Optional[int] = None,
    ) -> AudioStream:
        """Adds a stream of samples; ``out_...`` are rate and channels of the file, ``bit_rate`` its bits per second."""
        self._may_add("audio")
        for name, value in (("sample_rate", sample_rate), ("num_channels", num_channels)):
            if value <= 0:
                raise RuntimeError(f"{name} must be > 0, got {value}")
        if num_channels > MOST_CHANNELS:
            raise RuntimeError(f"Trying to encode {num_channels} channels, but FFmpeg only supports {MOST_CHANNELS} channels")
        self._audio = AudioStream(self, sample_rate, num_channels, bit_rate, out_num_channels, out_sample_rate)
        return self._audio

    def open_file(self, dest: Union[str, Path]) -> "Encoder":
        """Begins a file; an existing one is replaced when the new one is complete."""
        return self._open(dest, None)

    def open_file_like(self, dest: IO[bytes], *, format: str) -> "Encoder":
        """Begins a file that is written to an object with ``write`` when it is complete."""
        return self._open(dest, format)

    def _open(self, target: Target, format: Optional[str], is_tried: bool = True) -> "Encoder":
        video, audio = self._video, self._audio
        if self._is_closed:
            raise RuntimeError("Cannot open after close()")
        if self._writer is not None:
            raise RuntimeError("open() was already called")
        if video is None and audio is None:
            raise RuntimeError("Call addVideoStream() or addAudioStream() before open()")
        if audio is not None and audio._bit_rate is not None and audio._bit_rate < 0:
            raise RuntimeError(f"bit_rate={audio._bit_rate} must be >= 0.")
        check_target(target, format)
        with _as_torchcodec(format, target, None if video is None else video._codec):
            if video is None:
                assert audio is not None
                self._writer = audio._open(target, format)
                return self
            unsupported: List[str] = []
            if audio is not None:
                given = {"bit_rate": audio._bit_rate, "out_num_channels": audio._file_channels, "out_sample_rate": audio._file_rate}
                unsupported = [name for name, value in given.items() if value is not None]
            if unsupported:
                raise RuntimeError(f"framerail.compat does not take {', '.join(unsupported)} for audio beside video")
            self._writer = video._open(target, format, audio)
            if is_tried and video._is_chosen():
                try:
                    video._try(format or Path(str(target)).suffix[1:])
                except BaseException:
                    self._writer.abandon()
                    self._writer = None
                    raise
        return self

    def _opened(self, call: str, what: str) -> Union[writer.VideoWriter, audio_writer.AudioWriter]:
        if self._is_closed:
            raise RuntimeError(f"Cannot {what} after close()")
        if self._writer is None:
            raise RuntimeError(f"Call open() before {call}()")
        return self._writer

    def close(self) -> None:
        """Completes the file. May be called again."""
        made, self._writer = self._writer, None
        self._is_closed = True
        if made is None:
            return
        try:
            with _as_torchcodec(None):
                made.close()
        except RuntimeError as error:
            # Nothing was added, so there is no file.
            if "no frame" not in str(error) and "no sample" not in str(error):
                raise

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        if kind is not None and self._writer is not None:
            made, self._writer, self._is_closed = self._writer, None, True
            made.abandon()
            return
        self.close()


__all__ = ["AudioStream", "Encoder", "VideoStream"]
