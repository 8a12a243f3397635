"""Audio by time: samples of a file, and those that play with frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import GenericAlias, TracebackType
from typing import TYPE_CHECKING, Any, Dict, Generic, List, Optional, Tuple, Type, TypedDict, Union, overload

from . import _framerail, arrays, source
from .options import ALLOWANCES, OUTPUTS, choice, flag, real, whole
from .types import Frames, Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from typing_extensions import Literal, Unpack

    from .types import AnyFrames

    NumpySamples = npt.NDArray[np.float32]

#: Ways to start in the middle of a stream.
SEEKS = ("exact", "near")


@dataclass(frozen=True)
class AudioMetadata:
    """Properties of an audio stream.

    Attributes
    ----------
    source : str
        The source as given.
    container, codec, sample_format, layout : str
        FFmpeg's names, such as "mov,mp4,m4a,3gp,3g2,mj2", "aac", "fltp" and "stereo". ``sample_format`` is that of the decoder.
    sample_rate : int
        Samples per second.
    num_channels : int
        Number of channels.
    stream_index : int
        Number of the stream among all of the container, from 0.
    start_seconds : float
        Time of the first sample in seconds on the file's clock.
    start_seconds_header, duration_seconds_header : float or None
        Time of the first sample, and length in seconds, by the header.
    bit_rate : int or None
        Bits per second, by the header.
    """

    source: str
    container: str
    codec: str
    sample_format: str
    layout: str
    sample_rate: int
    num_channels: int
    stream_index: int
    start_seconds: float
    start_seconds_header: Optional[float]
    duration_seconds_header: Optional[float]
    bit_rate: Optional[int]


class AudioOptions(TypedDict, total=False):
    """Options of ``AudioReader`` except ``output``."""

    stream: Optional[int]
    sample_rate: Optional[int]
    channels: Optional[int]
    seek: str
    timeout: Optional[float]
    format: Optional[str]
    allow: str
    insecure: bool


@dataclass(frozen=True, eq=False, repr=False)
class AudioSamples(Generic[Frames]):
    """Samples of a span of time.

    Attributes
    ----------
    data : torch.Tensor, numpy.ndarray or framerail Tensor
        float32 [channels, samples], nominally from -1 to 1. The memory belongs to this array and may be written.
    sample_rate : int
        Samples per second.
    seconds : float
        Time of the first sample in seconds on the file's clock.
    gaps : list of (start, stop)
        Spans in seconds that are filled with silence, because the stream has no samples there.
    """

    data: Frames
    sample_rate: int
    seconds: float
    gaps: List[Tuple[float, float]]

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        data: Any = self.data
        return int(data.shape[1]) / self.sample_rate

    @property
    def pts_seconds(self) -> float:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def duration_seconds(self) -> float:
        """The same as ``duration``."""
        return self.duration

    def __iter__(self) -> Iterator[Union[Frames, float, int]]:
        return iter((self.data, self.seconds, self.duration, self.sample_rate))

    def __repr__(self) -> str:
        data: Any = self.data
        channels, samples = data.shape
        gaps = f", {len(self.gaps)} gaps" if self.gaps else ""
        return f"AudioSamples({channels} x {samples} at {self.sample_rate} Hz, seconds={self.seconds:.3f}{gaps})"


def read(
    compiled: _framerail.Audio,
    start: Optional[float],
    stop: Optional[float],
    sample_rate: Optional[int],
    channels: Optional[int],
    pads: bool,
    output: str,
) -> AudioSamples[Any]:
    """Reads a span with a compiled reader."""
    secs = "finite seconds"
    tensor, seconds, rate, gaps = compiled.read(
        None if start is None else real("start", start, secs),
        None if stop is None else real("stop", stop, secs),
        None if sample_rate is None else whole("sample_rate", sample_rate, 1),
        None if channels is None else whole("channels", channels, 1),
        pads,
    )
    return AudioSamples(arrays.handed_over(tensor, output), rate, seconds, gaps)


class AudioReader(Generic[Frames]):
    """Reads one audio stream of a media file by time.

    Samples are those that FFmpeg decodes from the start, at their exact times: priming and padding that the file states are left out,
    edit lists are applied, gaps are filled with silence and reported. Times are seconds on the file's clock, as those of
    ``VideoReader.times``. One reader may be used from several threads; calls are serialised. It can be pickled, and used after a fork: the
    copy reopens the source. Decoding releases the GIL; Ctrl-C interrupts a call.

    Parameters
    ----------
    source : str, os.PathLike, bytes, or a file
        A path, an http(s) address, a whole file in memory, or an object with ``read(n)`` and ``seek(offset, whence)`` opened for bytes.
    stream : int, optional
        Audio stream of the file, from 0. Default: FFmpeg's choice.
    sample_rate : int, optional
        Samples per second to resample to, 1 to 768000. Default: those of the stream.
    channels : int, optional
        Channels to mix to by FFmpeg's rules, 1 to 64. Default: those of the stream.
    seek : str
        "exact": samples never depend on what was read before. Codecs whose packets depend on each other (AAC, MP3, Opus, Vorbis) are
        decoded from the start for it; decoded samples are kept for requests nearby, up to 64 MiB. "near" starts decoding about a
        second before the requested time: faster far into a long file, and samples may differ slightly.
    timeout : float, optional
        Maximum time in seconds that a call waits for the source; None = no limit.
    format : str, optional
        FFmpeg's format name, for sources whose format cannot be detected.
    allow : str
        What playlists may open, as in ``VideoReader``.
    insecure : bool
        Accept servers' certificates without verification.
    output : str
        "torch", "numpy", "dlpack", or "auto": PyTorch where it can be imported, else NumPy.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        For sources that cannot be read.
    DecodeError
        For sources that are not media, or have no audio.
    ValueError
        For an invalid option; the message has the option, the value and what is allowed.
    UnsupportedError
        For codecs that this FFmpeg cannot decode.

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.AudioReader("in.mp4", sample_rate=16000, channels=1) as audio:  # doctest: +SKIP
    ...     audio.read(1.0, 2.5).data.shape
    (1, 24000)
    """

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    @overload
    def __init__(
        self: AudioReader[torch.Tensor], source: Source, *, output: Literal["auto", "torch"] = ..., **options: Unpack[AudioOptions]
    ) -> None: ...
    @overload
    def __init__(self: AudioReader[NumpySamples], source: Source, *, output: Literal["numpy"], **options: Unpack[AudioOptions]) -> None: ...
    @overload
    def __init__(
        self: AudioReader[_framerail.Tensor], source: Source, *, output: Literal["dlpack"], **options: Unpack[AudioOptions]
    ) -> None: ...
    @overload
    def __init__(self: AudioReader[AnyFrames], source: Source, *, output: str, **options: Unpack[AudioOptions]) -> None: ...
    def __init__(
        self,
        source: Source,
        *,
        stream: Optional[int] = None,
        sample_rate: Optional[int] = None,
        channels: Optional[int] = None,
        seek: str = "exact",
        timeout: Optional[float] = 60.0,
        format: Optional[str] = None,
        allow: str = "nothing",
        insecure: bool = False,
        output: str = "auto",
    ) -> None:
        self._given = source
        self._kept: Dict[str, Any] = {
            "stream": stream, "sample_rate": sample_rate, "channels": channels, "seek": seek, "timeout": timeout, "format": format,
            "allow": allow, "insecure": insecure, "output": output,
        }  # fmt: skip
        self._sample_rate = None if sample_rate is None else whole("sample_rate", sample_rate, 1)
        self._channels = None if channels is None else whole("channels", channels, 1)
        self._output = choice("output", output, OUTPUTS)
        self._options = {
            "stream": None if stream is None else whole("stream", stream, 0),
            "is_near": choice("seek", seek, SEEKS) == "near",
            "timeout": None if timeout is None else real("timeout", timeout, "seconds above 0, or None", above=0.0),
            "format": format,
            "allow": choice("allow", allow, ALLOWANCES),
            "insecure": flag("insecure", insecure),
        }
        self._is_closed = False
        self._compiled = self._open()

    def _open(self) -> _framerail.Audio:
        given, self._name = source.opened(self._given)
        return _framerail.Audio(given, self._name, json.dumps(self._options))

    @property
    def _audio(self) -> _framerail.Audio:
        if self._is_closed:
            raise ValueError("the audio reader is closed")
        if not self._compiled.is_here():
            # A forked child reopens the source: both would move one file position.
            self._compiled = self._open()
        return self._compiled

    @property
    def metadata(self) -> AudioMetadata:
        """Properties of the stream."""
        return metadata(self._name, self._audio)

    @property
    def stats(self) -> Dict[str, int]:
        """ "packets_damaged": packets and frames that could not be decoded so far."""
        return {"packets_damaged": self._audio.damaged()}

    def read(self, start: Optional[float] = None, stop: Optional[float] = None, *, pad: bool = False) -> AudioSamples[Frames]:
        """The samples from ``start`` to before ``stop``.

        Parameters
        ----------
        start, stop : float, optional
            Seconds on the file's clock; rounded to the nearest sample, so that spans that follow each other have each sample once.
            Default: the start and the end of the stream.
        pad : bool
            Fill the times before the stream's start and after its end with silence, so that the number of samples depends on the times
            alone. Default: only samples of the stream.

        Raises
        ------
        ValueError
            For times, and for channels that FFmpeg cannot mix.
        DecodeError, OSError, TimeoutError
        """
        return read(self._audio, start, stop, self._sample_rate, self._channels, flag("pad", pad), self._output)

    def close(self) -> None:
        """Releases all resources. Samples that were returned stay valid. Can be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._compiled.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def __enter__(self) -> AudioReader[Frames]:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        if self._is_closed:
            raise ValueError("a closed audio reader cannot be pickled")
        return _reopen, (self._given, self._kept)

    def __repr__(self) -> str:
        if self._is_closed:
            return f"AudioReader({self._name!r}, closed)"
        known = self.metadata
        return f"AudioReader({self._name!r}, {known.codec} {known.sample_rate} Hz {known.layout})"


def _reopen(source: Source, options: Dict[str, Any]) -> AudioReader[Any]:
    return AudioReader(source, **options)


def metadata(name: str, compiled: _framerail.Audio) -> AudioMetadata:
    """Properties of a compiled reader's stream."""
    given = json.loads(compiled.info())
    given.pop("dtype")
    return AudioMetadata(source=name, **given)
