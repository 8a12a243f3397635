"""Audio files written from arrays and tensors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, List, Optional, Type

from . import _framerail
from .file_target import abandoned, finished
from .in_process import InProcess
from .options import bad, flag, whole
from .writer import as_samples, place

if TYPE_CHECKING:
    from .writer import Sound, Target


@dataclass(frozen=True)
class AudioWriteReport:
    """What an ``AudioWriter`` wrote.

    Attributes
    ----------
    path : str or None
        The file; None for a file-like target.
    codec : str
        FFmpeg's name of the encoder.
    sample_rate, num_channels : int
        Samples per second, and channels, of the file.
    samples, bytes : int
        Samples given, in each channel, and size of the file.
    warnings : list of str
        Differences from the requested output, one line each.
    """

    path: Optional[str]
    codec: str
    sample_rate: int
    num_channels: int
    samples: int
    bytes: int
    warnings: List[str]


class AudioWriter(InProcess):
    """Encodes samples into an audio file, which appears when it is complete. Commit rules are those of ``VideoWriter``.

    Parameters
    ----------
    target : str, os.PathLike, or a file
        A path, whose extension selects the container (.wav, .flac, .mp3, .m4a, .ogg, .opus), or an object with ``write(bytes)``.
    sample_rate : int
        Sample rate of the samples passed to ``write``, 1 to 768000.
    channels : int
        Channels of the samples passed to ``write``, 1 to 64.
    codec : str, optional
        FFmpeg's name of an encoder, such as "libmp3lame", "flac" or "pcm_f32le", or of a codec, such as "mp3". Default: the container's usual one.
    bit_rate : int, optional
        Bits per second. Default: the encoder's.
    file_rate, file_channels : int, optional
        Samples per second, and channels, of the file. Default: those given.
    format : str, optional
        FFmpeg's name of the container. Default: by the path's extension; needed for a file-like target.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        For a path that exists, without ``overwrite``.
    ValueError, UnsupportedError, OSError

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.AudioWriter("out.flac", 48000, 2) as writer:  # doctest: +SKIP
    ...     writer.write(samples)  # float32 [2, samples]
    """

    def __init__(
        self,
        target: Target,
        sample_rate: int,
        channels: int = 2,
        *,
        codec: Optional[str] = None,
        bit_rate: Optional[int] = None,
        file_rate: Optional[int] = None,
        file_channels: Optional[int] = None,
        format: Optional[str] = None,
        overwrite: bool = False,
    ) -> None:
        self._channels = whole("channels", channels, 1)
        self._target, path, self._folder = place(target, format)
        self._name = path if self._target is None else f"<{type(target).__name__}>"
        self._report: Optional[AudioWriteReport] = None
        self._is_closed = False
        given = {
            "path": path,
            "sample_rate": whole("sample_rate", sample_rate, 1),
            "channels": self._channels,
            "format": None if self._folder else format,
            "codec": codec,
            "bit_rate": None if bit_rate is None else whole("bit_rate", bit_rate, 0),
            "file_rate": None if file_rate is None else whole("file_rate", file_rate, 1),
            "file_channels": None if file_channels is None else whole("file_channels", file_channels, 1),
            "overwrite": flag("overwrite", overwrite),
        }
        try:
            self._compiled = _framerail.AudioFile(json.dumps(given))
        except BaseException as error:
            self._clear()
            if self._folder is not None and isinstance(error, ValueError) and path in str(error):
                raise bad("format", format, "the extension of a container, such as 'wav', 'flac' or 'mp3'") from None
            raise

    def write(self, samples: Sound) -> None:
        """Appends samples.

        Parameters
        ----------
        samples : array, tensor or AudioSamples
            float32 [channels, samples], or [samples] of one channel, from -1 to 1.

        Raises
        ------
        ValueError
            For another number of channels.
        OSError
            When the disk is full or the file cannot be written.
        """
        if self._is_closed:
            raise ValueError("the writer is closed")
        flat = as_samples(samples, self._channels)
        self._compiled.write(flat, flat.nbytes)

    def close(self) -> AudioWriteReport:
        """Completes the file and gives it its name. May be called again."""
        if self._report is None:
            if self._is_closed:
                raise ValueError("the writer is closed, and wrote no file")
            self._is_closed = True
            try:
                self._report = AudioWriteReport(**finished(self._compiled, self._folder, self._target))
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

    def discard(self) -> None:
        """Ends without a file; nothing is kept."""
        if not self._is_closed:
            self._is_closed = True
            del self._compiled
            self._clear()

    @property
    def file_rate(self) -> int:
        """Samples per second of the file: the nearest rate that the encoder supports."""
        return self._compiled.rate

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def closed(self) -> bool:
        """Whether the writer has ended."""
        return self._is_closed

    def __repr__(self) -> str:
        return f"AudioWriter({self._name!r}, {'closed' if self._is_closed else 'open'})"

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
