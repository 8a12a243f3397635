"""Video files written from arrays and tensors."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, List, Optional, Tuple, Type, Union

from . import _framerail, arrays
from . import source as sources
from .audio import AudioSamples
from .file_target import abandoned, finished
from .frames import Frame, FrameBatch
from .in_process import InProcess
from .lazy import np
from .options import bad, choice, flag, real, whole

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from .types import AnyColumn, AnyFrames

    Pixels = Union[npt.NDArray[np.generic], torch.Tensor, _framerail.Tensor, FrameBatch[AnyFrames, AnyColumn], Frame[AnyFrames]]
    Sound = Union[npt.NDArray[np.generic], torch.Tensor, _framerail.Tensor, AudioSamples[AnyFrames]]
    Target = Union[str, "os.PathLike[str]", IO[bytes]]
    Scalar = Union[str, int, float]

LAYOUTS = ("auto", "TCHW", "THWC")
COLORS = ("bt709", "bt601", "bt2020", "none")
#: Extensions of containers whose name is not an extension.
_ENDINGS = {"matroska": "mkv", "mpegts": "ts", "ipod": "m4v"}
#: Page-locked buffers for frames on a GPU.
_STAGES = 2


@dataclass(frozen=True)
class WriteReport:
    """What a ``VideoWriter`` wrote.

    Attributes
    ----------
    path : str or None
        The file; None for a file-like target.
    codec, pixel_format : str
        FFmpeg's names of the encoder and of the encoded pixel format.
    frames, bytes : int
        Frames encoded, and size of the file.
    timestamps_rounded : int
        Frames whose time the container could not hold exactly.
    warnings : list of str
        Differences from the requested output, one line each.
    """

    path: Optional[str]
    codec: str
    pixel_format: str
    frames: int
    bytes: int
    timestamps_rounded: int
    warnings: List[str]


class VideoWriter(InProcess):
    """Encodes frames and audio into a video file, which appears when it is complete.

    The file gets its name in ``close``; until then, a hidden partial file is in the same folder. If the ``with`` block ends with an exception,
    the name stays unused; the playable part of the unfinished file is kept as "NAME.unfinished.EXT". Frames are converted on the calling
    thread, without a copy of the array, while another thread encodes those before; the GIL is released. Frames of a GPU are copied
    through page-locked memory, one batch ahead.

    Parameters
    ----------
    target : str, os.PathLike, or a file
        A path, whose extension selects the container, or an object with ``write(bytes)`` such as ``io.BytesIO``, which is written when the
        video is complete.
    fps : float or Fraction
        Frames per second. 23.976, 29.97, 59.94 and 119.88 mean multiples of 1000/1001.
    codec : str, optional
        FFmpeg's name of an encoder, such as "libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", or of a codec, such as
        "h264". Default: the container's usual one.
    crf : float, optional
        Constant rate factor, in the encoder's own range (libx264: 0 to 51, lower is better).
    bit_rate : int, optional
        Bits per second on average, instead of ``crf``.
    preset : str, optional
        The encoder's preset, such as "veryfast".
    pixel_format : str, optional
        FFmpeg's pixel format of the encoded video. Default: "yuv420p" for uint8 and "yuv420p10le" for uint16 frames, where the encoder takes it.
    layout : str
        "TCHW", "THWC", or "auto": by the axis with 3 entries (RGB) or 1 (grey).
    color : str
        Matrix of the conversion from RGB, and tags of the file: "bt709", "bt601", "bt2020", or "none" (BT.601's matrix, not tagged, as
        FFmpeg's command does it).
    exact : str, optional
        "swscale" converts with libswscale: the encoder gets the same samples as from FFmpeg's command, with ``color="none"``. Slower.
    full_range : bool
        Whether samples use 0 to 255 instead of 16 to 235.
    gop : int, optional
        Maximum number of frames between keyframes. Default: the encoder's.
    threads : int
        Encoder threads; 0 = the encoder's choice.
    options, format_options : mapping, optional
        Further options of the encoder and of the container by FFmpeg's names.
    tags : mapping, optional
        Tags of the file, such as title.
    format : str, optional
        FFmpeg's name of the container. Default: by the path's extension; needed for a file-like target.
    audio_rate, audio_channels : int
        Sample rate and channels of the samples passed to ``write_audio``. ``audio_channels`` is 2 by default.
    audio_codec : str, optional
        "pcm_f32le" keeps samples as they are where the container takes it (MOV, MKV). Default: the container's usual codec.
    audio : path, bytes or file, optional
        A source whose audio track is added, up to the end of the frames: copied where the container supports its codec, else encoded.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        For a path that exists, without ``overwrite``.
    ValueError
        For an option's value.
    UnsupportedError
        For what this FFmpeg cannot encode.
    OSError
        For a path that cannot be written.

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.VideoWriter("out.mp4", fps=30, crf=20) as writer:  # doctest: +SKIP
    ...     writer.write(frames)  # uint8 [T, 3, H, W] or [T, H, W, 3]
    """

    def __init__(
        self,
        target: Target,
        fps: Union[int, float, Fraction] = 30,
        *,
        codec: Optional[str] = None,
        crf: Optional[float] = None,
        bit_rate: Optional[int] = None,
        preset: Optional[str] = None,
        pixel_format: Optional[str] = None,
        layout: str = "auto",
        color: str = "bt709",
        exact: Optional[str] = None,
        full_range: bool = False,
        gop: Optional[int] = None,
        threads: int = 0,
        options: Optional[Mapping[str, Scalar]] = None,
        format_options: Optional[Mapping[str, Scalar]] = None,
        tags: Optional[Mapping[str, str]] = None,
        format: Optional[str] = None,
        audio_rate: Optional[int] = None,
        audio_channels: int = 2,
        audio_codec: Optional[str] = None,
        audio: Union[None, str, bytes, "os.PathLike[str]", IO[bytes]] = None,
        overwrite: bool = False,
    ) -> None:
        if crf is not None and bit_rate is not None:
            raise ValueError("options 'crf' and 'bit_rate' exclude each other; use one")
        if audio is not None and audio_rate is not None:
            raise ValueError("options 'audio' and 'audio_rate' exclude each other; give a source, or samples with write_audio()")
        self._target, path, self._folder = place(target, format)
        self._name = path if self._target is None else f"<{type(target).__name__}>"
        self._layout = choice("layout", layout, LAYOUTS)
        self._audio_channels = whole("audio_channels", audio_channels, 1)
        self._report: Optional[WriteReport] = None
        self._is_closed = False
        self._stages: List["torch.Tensor"] = []
        rate = frame_rate(fps)
        given = {
            "path": path,
            "fps": [rate.numerator, rate.denominator],
            "format": None if self._folder else format,
            "codec": codec,
            "crf": None if crf is None else real("crf", crf, "a number from 0", above=-1e-9),
            "bit_rate": None if bit_rate is None else whole("bit_rate", bit_rate, 1),
            "preset": None if preset is None else str(preset),
            "pixel_format": pixel_format,
            "gop": None if gop is None else whole("gop", gop, 0),
            "threads": whole("threads", threads, 0),
            "color": choice("color", color, COLORS),
            "is_exact": exact is not None and choice("exact", exact, ("swscale",)) == "swscale",
            "is_full_range": flag("full_range", full_range),
            "sample_rate": None if audio_rate is None else whole("audio_rate", audio_rate, 1),
            "audio_channels": self._audio_channels,
            "is_pcm": audio_codec is not None and choice("audio_codec", audio_codec, ("pcm_f32le",)) == "pcm_f32le",
            "codec_options": _pairs(options),
            "format_options": _pairs(format_options),
            "tags": _pairs(tags),
            "overwrite": flag("overwrite", overwrite),
        }
        track = None
        if audio is not None:
            track = sources.opened(audio)
        try:
            self._compiled = _framerail.Writer(json.dumps(given), track)
        except BaseException as error:
            self._clear()
            if self._folder is not None and isinstance(error, ValueError) and path in str(error):
                raise bad("format", format, "the extension of a container, such as 'mp4', 'mkv' or 'webm'") from None
            raise

    def write(self, frames: Pixels, *, pts: Union[None, float, Iterable[float]] = None) -> None:
        """Writes one frame or several.

        Parameters
        ----------
        frames : array, tensor, FrameBatch or Frame
            uint8 (0 to 255) or uint16 (0 to 65535): [T, C, H, W] or [T, H, W, C], or one frame without the first axis, or [H, W] of grey.
            C is 3 (RGB) or 1 (grey). Every frame has the size of the first one.
        pts : float or iterable of float, optional
            Times in seconds, one for each frame, increasing. Default: frames follow each other at ``fps``. Give it from the first call on:
            without it, times are whole multiples of a frame.

        Raises
        ------
        ValueError
            For arrays of another shape or type, and times that do not increase.
        OSError
            When the disk is full or the file cannot be written.
        """
        if self._is_closed:
            raise ValueError("the writer is closed")
        data: Any = frames.data if isinstance(frames, (FrameBatch, Frame)) else frames
        times = None if pts is None else [real("pts", at, "finite seconds") for at in _listed(pts)]
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(data, torch.Tensor) and data.is_cuda:
            self._write_from_card(data, times)
        else:
            self._write(as_numpy(data), times)

    def _write(self, data: np.ndarray, times: Optional[List[float]]) -> None:
        dense, count, height, width, channels, is_planar = shaped(data, self._layout)
        flat = dense.reshape(-1).view(np.uint8)
        if not flat.flags.writeable:
            # Read-only arrays cannot be passed by DLPack.
            flat = flat.copy()
        self._compiled.write(flat, count, height, width, channels, dense.itemsize, is_planar, times)

    def _write_from_card(self, data: "torch.Tensor", times: Optional[List[float]]) -> None:
        """Copies a batch frame by frame through page-locked memory; one frame is copied while another is converted."""
        import torch

        _check_type(str(data.dtype).replace("torch.", ""))
        if data.ndim < 4:
            data = data[None]
        if times is not None and len(times) != len(data):
            raise ValueError(f"option 'pts': {len(times)} times for {len(data)} frames")
        shape, dtype = data.shape[1:], data.dtype
        if len(self._stages) != _STAGES or self._stages[0].shape != shape or self._stages[0].dtype != dtype:
            self._stages = [torch.empty(shape, dtype=dtype, pin_memory=True) for _ in range(_STAGES)]
        copied: List[torch.cuda.Event] = []
        with torch.cuda.device(data.device):
            for at in range(len(data) + 1):
                if at < len(data):
                    self._stages[at % _STAGES].copy_(data[at], non_blocking=True)
                    event = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
                    event.record()
                    copied.append(event)
                if at > 0:
                    copied[at - 1].synchronize()
                    self._write(as_numpy(self._stages[(at - 1) % _STAGES]), None if times is None else [times[at - 1]])

    def write_audio(self, samples: Sound) -> None:
        """Appends samples.

        Parameters
        ----------
        samples : array, tensor or AudioSamples
            float32 [channels, samples], or [samples] of one channel, from -1 to 1, at ``audio_rate``.

        Raises
        ------
        ValueError
            For another number of channels, or a writer without ``audio_rate``.
        """
        if self._is_closed:
            raise ValueError("the writer is closed")
        flat = as_samples(samples, self._audio_channels)
        self._compiled.write_audio(flat, flat.nbytes)

    def close(self) -> WriteReport:
        """Completes the file and gives it its name. May be called again.

        Raises
        ------
        ValueError
            When no frame was written.
        OSError
            When the file cannot be completed; the message names the partial file where one is kept.
        """
        if self._report is None:
            if self._is_closed:
                raise ValueError("the writer is closed, and wrote no file")
            self._is_closed = True
            try:
                self._report = WriteReport(**finished(self._compiled, self._folder, self._target))
            finally:
                self._clear()
        return self._report

    def abandon(self) -> Optional[str]:
        """Ends without completing the file.

        Returns
        -------
        str or None
            The name of the file that keeps the playable part.
        """
        if self._is_closed:
            return None
        self._is_closed = True
        try:
            return abandoned(self._compiled, self._folder)
        finally:
            self._clear()

    def _clear(self) -> None:
        self._stages = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def closed(self) -> bool:
        """Whether the writer has ended."""
        return self._is_closed

    def __repr__(self) -> str:
        return f"VideoWriter({self._name!r}, {'closed' if self._is_closed else 'open'})"

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def frame_rate(fps: Union[int, float, Fraction]) -> Fraction:
    """Frames per second as a fraction."""
    what = "frames per second above 0"
    number = real("fps", fps, what, above=0.0)
    if number > 100_000:
        raise bad("fps", fps, "at most 100000")
    exact = Fraction(fps) if isinstance(fps, (int, Fraction)) else Fraction(number).limit_denominator(1001)
    for multiple in (24, 30, 60, 120):
        ntsc = Fraction(multiple * 1000, 1001)
        if not isinstance(fps, (int, Fraction)) and abs(number - float(ntsc)) < 0.005:
            return ntsc
    return exact


def as_samples(samples: Sound, channels: int) -> np.ndarray:
    """The bytes of samples as 32-bit floats, one channel after the other."""
    data = samples.data if isinstance(samples, AudioSamples) else samples
    host = as_numpy(data).astype("<f4", order="C", copy=True)
    host = host[None] if host.ndim == 1 else host
    if host.ndim != 2 or host.shape[0] != channels:
        raise ValueError(f"option 'samples': shape {tuple(host.shape)}; give [{channels}, samples]")
    return host.reshape(-1).view(np.uint8)


def place(target: Target, format: Optional[str]) -> Tuple[Optional[IO[bytes]], str, Optional[str]]:
    """The file-like target, the path that is written, and the temporary folder for it."""
    if isinstance(target, (str, os.PathLike)):
        return None, os.fspath(target), None
    if not hasattr(target, "write"):
        raise TypeError(f"target: {target!r}; give a path, or a file opened with mode 'wb'")
    if format is None:
        raise ValueError("option 'format': needed for a file-like target, such as 'mp4'")
    folder = tempfile.mkdtemp(prefix="framerail-")
    return target, str(Path(folder) / f"video.{_ENDINGS.get(format, format)}"), folder


def _pairs(options: Optional[Mapping[str, Scalar]]) -> List[Tuple[str, str]]:
    return [(str(key), str(value)) for key, value in (options or {}).items()]


def _listed(times: Any) -> Sequence[float]:
    values = times.tolist() if hasattr(times, "tolist") else times
    return [values] if not isinstance(values, Iterable) else list(values)


def as_numpy(data: Any) -> np.ndarray:
    """Frames of any library in host memory."""
    if isinstance(data, _framerail.Tensor):
        return arrays.to_numpy(data)
    return arrays.to_host(data)


def _check_type(name: str) -> None:
    if name not in ("uint8", "uint16"):
        hint = "; scale to 0 to 255, round, and convert to uint8" if name.startswith(("float", "bfloat")) else ""
        raise ValueError(f"option 'frames': elements of {name}; give uint8 or uint16{hint}")


def shaped(data: np.ndarray, layout: str) -> Tuple[np.ndarray, int, int, int, int, bool]:
    """Dense frames; their number, height, width, channels, and whether channels are planar."""
    _check_type(data.dtype.name)
    shape = tuple(data.shape)
    if data.ndim == 2:
        data = data[None, None]
        layout = "TCHW"
    elif data.ndim == 3:
        data = data[None]
    if data.ndim != 4 or 0 in data.shape:
        raise ValueError(f"option 'frames': shape {shape}; give [T, C, H, W], [T, H, W, C], or one frame of these")
    first, last = data.shape[1] in (1, 3), data.shape[3] in (1, 3)
    if layout == "auto":
        if first and last:
            raise ValueError(f"option 'frames': shape {shape} may be either layout; give layout='TCHW' or 'THWC'")
        layout = "TCHW" if first else "THWC"
    if not (first if layout == "TCHW" else last):
        channels = data.shape[1] if layout == "TCHW" else data.shape[3]
        raise ValueError(f"option 'frames': shape {shape} has {channels} channels as {layout}; give 3 (RGB) or 1 (grey)")
    is_planar = layout == "TCHW"
    # A view of the other layout is written in its memory order.
    other = data.transpose(0, 2, 3, 1) if is_planar else data.transpose(0, 3, 1, 2)
    if not data.flags.c_contiguous and other.flags.c_contiguous:
        data, is_planar = other, not is_planar
    count, a, b, c = data.shape
    channels, height, width = (a, b, c) if is_planar else (c, a, b)
    dense = np.ascontiguousarray(data)
    if dense.dtype.byteorder == ">":
        dense = dense.astype(dense.dtype.newbyteorder("<"))
    return dense, count, height, width, channels, is_planar


__all__: List[str] = ["VideoWriter", "WriteReport"]
