"""Frames of a video by number, by time, and in sequence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, List, Optional, Sequence, SupportsIndex, Tuple, TypeVar, Union, overload

from . import _framerail, arrays, deprecated, frames, source, transforms
from . import audio as audio_reader
from .batches import BatchIterator
from .frames import Frame, FrameBatch, FrameTimes, Planes, VideoMetadata
from .options import OUTPUT_DEFAULTS, READER_DEFAULTS, Normalize, bad, flag, known, output_json, output_kind, reader_json, real, renamed, whole
from .selection import Selector, is_mask, is_one, plain
from .types import Box, Column, Frames, Source, Transforms
from .video_audio import VideoAudio

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from typing_extensions import Literal, Unpack

    from .types import AnyColumn, AnyFrames, Device, DType, Numbers, NumpyColumn, NumpyFrames, OutputOptions, Seconds, SourceOptions

_Kept = TypeVar("_Kept")

#: Attempts at selecting frames when the index was repaired meanwhile.
_TRIES = 4
#: Frames that iteration over a reader converts at once.
_ITERATION_BATCH = 8


class VideoReader(Generic[Frames, Column]):
    """Reads frames of one video stream: by number, by time, or in sequence.

    Frame n is the n-th in presentation order of a decode from the start, however it is reached. One reader may be used
    from several threads; calls are serialised. It can be pickled, and used after a fork: the copy reopens the source.
    Decoding releases the GIL; Ctrl-C interrupts a call.

    Parameters
    ----------
    source : str, os.PathLike, bytes, or a file
        A path, an http(s) address, a folder of images, a pattern such as "img%04d.png", a whole file in memory (also as an array or
        tensor of uint8), or an object with ``read(n)`` and ``seek(offset, whence)`` opened for bytes.
    device : str, torch.device, or a list of them
        "cpu", "cuda" (PyTorch's current device where PyTorch is in use on GPUs, else the first GPU), "cuda:N", "auto" (the same
        GPU, else the CPU), or several GPUs that decode one file together: ``["cuda:0", "cuda:1"]``, "cuda:0,1" or "cuda:all".
        Frames are returned on the first of them, or on the one that ``output`` names. Video that a GPU cannot decode is decoded
        on the CPU and uploaded; ``metadata.fallback`` gives the reason. The caller's current device and context do not change.
    mode : str
        "seek" visits each group of pictures that holds a wanted frame once, "stream" decodes from the first wanted
        frame to the last, "auto" chooses the one that decodes fewer frames. All return the same pixels.
    layout : str
        "TCHW" (frames, channels, rows, columns) or "THWC".
    dtype : str, numpy.dtype or torch.dtype, optional
        "uint8" (the default), "uint16", "float16", "bfloat16" or "float32" (the default with ``normalize``). Without ``normalize``, values are 0 to 255, with the fractions that
        videos of more than 8 bits have; 0 to 65535 in uint16, whatever the depth. All hold the same numbers within their rounding.
    size : (height, width) or int, optional
        Resize to this; one number is the length of the shorter side, as in torchvision's ``Resize`` (with ``fit="letterbox"`` it is
        both). The video's own by default.
    max_size : int, optional
        Maximum length of the longer side in pixels, with one number as ``size``; without ``size``, the length of the longer side.
    center_crop : (height, width) or int, optional
        The middle of the resized frame that is kept, as torchvision's ``CenterCrop``.
    resize : str
        The filter: "bilinear", "bicubic", "area", "lanczos", "nearest" or "nearest-exact".
    antialias : bool
        Whether the filter is widened when frames shrink. True matches torchvision's ``Resize`` of the full-size frame, and
        Pillow; False uses the nearest pixels only, as OpenCV's ``INTER_LINEAR`` and ``INTER_CUBIC``.
    fit : str
        "stretch", or "letterbox" to keep the aspect ratio and fill the rest with ``pad`` (0 to 255, default 114).
    interpolation : str, optional
        Old name of ``resize``.
    channels : str
        "rgb", "bgr", "gray" (luma; depth maps as they are), "hsv" (as OpenCV's 8-bit HSV), "rgba" (alpha as it is, not multiplied in;
        opaque where there is none), or "yuv": the planes as decoded, [T, bytes].
    crop : (x, y, width, height), optional
        Region of each frame to read, in frame pixels.
    normalize : Normalize or bool, optional
        ``framerail.IMAGENET``, ``framerail.Normalize(mean, std)``, or True for values of 0 to 1. False is the same as None.
    exact : str, optional
        "swscale" converts with libswscale: equals ``ffmpeg -pix_fmt rgb24`` bit for bit, with uint16 ``rgb48``. Own size, CPU.
    tone_map : str, optional
        "bt2390" or "hable" converts PQ and HLG to BT.709; by default their values are returned unchanged.
    transforms : callable or list, optional
        Of torchvision.transforms.v2 or your own. Leading ``Resize``, ``CenterCrop``, ``ToDtype`` and ``Normalize`` become the
        options above, so that frames are converted in one pass; the rest are called with each batch [T, C, H, W] of PyTorch.
    stream : int, optional
        Video stream of the file, from 0. Default: FFmpeg's choice.
    index : str
        "exact", or "approximate": frame n is the one on screen n / rate after the start, with its own time, without scanning the
        file's packets. ``times`` is the grid of the rate then.
    index_cache : str or os.PathLike, optional
        Where the index is saved for reuse: "sidecar" beside the file, or a folder.
    threads : int
        Maximum number of decoder threads on the CPU; 0 = as many as all cores need.
    queue : int
        Batches that ``batches`` decodes ahead.
    memory : int, optional
        Maximum host memory in bytes for frames decoded ahead. Default: a quarter of what is available, at most 4 GiB.
    timeout : float, optional
        Maximum time in seconds that a call waits for frames; None = no limit.
    on_error : str
        Handling of damage inside a file: "repair" returns what the decoder produced, with its ``status``;
        "fail" raises ``DecodeError``.
    format : str, optional
        FFmpeg's format name, for sources whose format cannot be detected.
    allow : str
        What playlists may open: "nothing" but files of their folder, or http and https where they came from there;
        "network", "outside" (files outside the folder), or "all". See the page on security.
    insecure : bool
        Accept servers' certificates without verification.
    output : str
        "torch", "numpy", "dlpack" (an object for ``from_dlpack`` of any library), or "auto": PyTorch where it can be
        imported, else NumPy. Or the GPU on which frames are returned, such as "cuda:0", where others decode.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        For sources that cannot be read.
    DecodeError
        For sources that are not video.
    ValueError
        For an invalid option; the message has the option, the value and what is allowed.
    UnsupportedError, CudaError
        For features that this build or the GPU does not have.

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.VideoReader("in.mp4", output="numpy") as r:  # doctest: +SKIP
    ...     r.read_frames([0, 50, 3]).shape
    (3, 3, 1080, 1920)
    """

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    @overload
    def __init__(
        self: VideoReader[torch.Tensor, torch.Tensor],
        source: Source,
        *,
        output: Literal["auto", "torch"] = ...,
        **options: Unpack[SourceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: VideoReader[NumpyFrames, NumpyColumn], source: Source, *, output: Literal["numpy"], **options: Unpack[SourceOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: VideoReader[_framerail.Tensor, NumpyColumn], source: Source, *, output: Literal["dlpack"], **options: Unpack[SourceOptions]
    ) -> None: ...
    @overload
    def __init__(self: VideoReader[AnyFrames, AnyColumn], source: Source, *, output: str, **options: Unpack[SourceOptions]) -> None: ...
    def __init__(
        self,
        source: Source,
        *,
        device: Union[Device, Sequence[str]] = "cpu",
        mode: str = "auto",
        layout: str = "TCHW",
        dtype: Optional[DType] = None,
        size: Union[None, int, Tuple[int, int]] = None,
        max_size: Optional[int] = None,
        center_crop: Union[None, int, Tuple[int, int]] = None,
        resize: str = "bilinear",
        antialias: bool = True,
        fit: str = "stretch",
        pad: int = 114,
        interpolation: Optional[str] = None,
        channels: str = "rgb",
        crop: Optional[Box] = None,
        normalize: Union[None, bool, Normalize] = None,
        exact: Optional[str] = None,
        tone_map: Optional[str] = None,
        transforms: Optional[Transforms] = None,
        stream: Optional[int] = None,
        index: str = "exact",
        index_cache: Union[None, str, os.PathLike[str]] = None,
        threads: int = 0,
        queue: int = 2,
        memory: Optional[int] = None,
        timeout: Optional[float] = 60.0,
        on_error: str = "repair",
        format: Optional[str] = None,
        allow: str = "nothing",
        insecure: bool = False,
        output: str = "auto",
    ) -> None:
        given = locals()
        self._given = source
        self._options: Dict[str, Any] = renamed({name: given[name] for name in READER_DEFAULTS})
        self._output = output_kind(output)
        self._called = called(self._options)
        self._is_closed = False
        self._audio = VideoAudio()
        # Properties of the video, by the version that the compiled part counts.
        self._known: Dict[str, Tuple[int, Any]] = {}
        self._planes: Any = ()
        self._compiled = self._open()
        self._select = Selector(self._name, lambda: len(self), lambda: self.times)

    def _open(self) -> _framerail.Reader:
        given, self._name = source.opened(self._given)
        return _framerail.Reader(given, self._name, reader_json(self._options))

    @property
    def _reader(self) -> _framerail.Reader:
        if self._is_closed:
            raise ValueError("the reader is closed")
        if not self._compiled.is_here():
            # The process was forked: threads and GPUs do not survive that.
            self._compiled = self._open()
        return self._compiled

    # Properties of the video.

    def _kept(self, name: str, look: Callable[[_framerail.Reader], _Kept]) -> _Kept:
        """A cached property; computed again after an index was repaired."""
        reader = self._reader
        known = self._known.get(name)
        if known is None or known[0] != reader.version():
            # Reading the property may build the index, so the version is read afterwards.
            value = look(reader)
            known = self._known[name] = (reader.version(), value)
        kept: _Kept = known[1]
        return kept

    @property
    def metadata(self) -> VideoMetadata:
        """Properties of the video from its frames; builds the index if necessary, and decodes the first frame."""
        return self._kept("metadata", lambda reader: VideoMetadata._from(json.loads(reader.metadata(True))))

    @property
    def header(self) -> VideoMetadata:
        """Properties of the video from its header, without reading more."""
        return VideoMetadata._from(json.loads(self._reader.metadata(False)))

    @property
    def device(self) -> str:
        """Device of the returned frames: "cpu" or "cuda:N"."""
        return self._kept("device", lambda reader: str(json.loads(reader.metadata(False))["device"]))

    @property
    def times(self) -> FrameTimes:
        """Timestamps of all frames; builds the index if necessary."""
        return self._kept("times", lambda reader: frames.times(reader.times()))

    @property
    def stats(self) -> Dict[str, int]:
        """Counters: frames decoded, converted, delivered, repaired, missing; seeks; bytes copied."""
        counted: Dict[str, int] = json.loads(self._reader.stats())
        return counted

    def __len__(self) -> int:
        """Number of frames; builds the index if necessary."""
        return self._kept("count", lambda reader: reader.num_frames())

    @overload
    def numbers_at(self, seconds: Seconds) -> List[int]: ...
    @overload
    def numbers_at(self, seconds: float) -> int: ...
    def numbers_at(self, seconds: Union[float, Seconds]) -> Union[int, List[int]]:
        """Numbers of the frames on screen at these times.

        Parameters
        ----------
        seconds : float or iterable of float
            Seconds on the file's clock. A single time returns a single number.

        Raises
        ------
        IndexError
            For times before the first frame, or at or after the end of the last.
        """
        times = plain(seconds)
        if hasattr(times, "__float__"):
            return self._reader.frames_at([real("seconds", times, "finite seconds")])[0]
        return self._reader.frames_at([real("seconds", at, "finite seconds") for at in times])

    def frames_at(self, seconds: Seconds) -> List[int]:
        """The old name of ``numbers_at``."""
        deprecated.warn("VideoReader.frames_at", "numbers_at")
        return self.numbers_at(seconds)

    # Frames.

    # One-element arrays can be used as numbers too, so arrays are checked first.
    @overload
    def read(self, numbers: Numbers, *, out: Optional[Frames] = None) -> FrameBatch[Frames, Column]: ...  # type: ignore[overload-overlap]
    @overload
    def read(self, numbers: SupportsIndex, *, out: Optional[Frames] = None) -> Frame[Frames]: ...
    def read(self, numbers: Union[SupportsIndex, Numbers], *, out: Optional[Frames] = None) -> Union[Frame[Frames], FrameBatch[Frames, Column]]:
        """Frames by number, with the time and status of each.

        Parameters
        ----------
        numbers : int, iterable of int, or array of bool
            In any order, duplicates allowed; negative ones count from the end. A mask with one entry per frame selects frames as
            in NumPy. A single number returns a single frame.
        out : array or tensor, optional
            Filled instead of new memory and returned as ``data``. Dense, of the frames' exact shape and dtype, on their
            device.

        Returns
        -------
        FrameBatch, or Frame for one number
            In the requested order.

        Raises
        ------
        IndexError
            For a frame that does not exist.
        ValueError
            When ``out`` does not fit.
        DecodeError, TimeoutError
        """
        wanted = plain(numbers)
        if is_one(wanted):
            one: Any = out
            return self._read(lambda: self._select.numbers([wanted]), None if out is None else one[None])[0]
        if not hasattr(wanted, "__len__"):
            wanted = list(wanted)
        return self._read(lambda: self._select.numbers(wanted), out)

    def _read(self, chosen: Callable[[], Tuple[List[int], bool]], out: Any = None) -> FrameBatch[Frames, Column]:
        """Reads selected frames; selects again if the index has changed since the selection."""
        reader = self._reader
        if out is not None and self._called:
            raise bad("out", type(out).__name__, "it without transforms that are called on tensors")
        tensor: Any = None
        columns: Dict[str, bytes] = {}
        for _ in range(_TRIES):
            wanted, is_relative = chosen()
            version = reader.version()
            try:
                if out is None:
                    tensor, columns = reader.read(wanted)
                else:
                    with arrays.on_device_of(out):
                        columns = reader.read_into(wanted, out, arrays.current_stream(out))
            except IndexError:
                if is_relative and reader.version() != version:
                    continue
                raise
            if not is_relative or reader.version() == version or chosen()[0] == wanted:
                break
        if out is not None:
            return self._batch_of(out, columns)
        data = self._shaped(arrays.handed_over(tensor, self._output))
        return self._batch_of(transforms.apply(self._called, data), columns)

    def read_frames(self, numbers: Union[SupportsIndex, Numbers], *, out: Optional[Frames] = None) -> Frames:
        """The pixels of frames by number: an array [T, C, H, W] or [T, H, W, C] in the requested order. See ``read``.

        A single number returns a single frame, without the first axis.
        """
        return self.read(numbers, out=out).data

    def read_frames_at(self, seconds: Union[float, Seconds], *, out: Optional[Frames] = None) -> Frames:
        """The pixels of the frames on screen at these times, in seconds on the file's clock: an array as of ``read_frames``.

        A single time returns a single frame, without the first axis. ``read(numbers_at(seconds))`` returns frames with their times.
        """
        return self.read_frames(self.numbers_at(seconds), out=out)

    def read_at(self, seconds: Union[float, Seconds], *, out: Optional[Frames] = None) -> Frames:
        """The old name of ``read_frames_at``."""
        deprecated.warn("VideoReader.read_at", "read_frames_at")
        return self.read_frames_at(seconds, out=out)

    def __getitem__(self, key: Union[SupportsIndex, slice, Sequence[int], npt.NDArray[np.generic], torch.Tensor]) -> Frames:
        """``r[3]`` is a frame, ``r[-1]`` the last one; ``r[10:200:20]`` and ``r[[1, 5]]`` are arrays of frames.

        Arrays and tensors select frames as in NumPy: masks with one entry per frame, and integers of any shape.
        """
        if isinstance(key, slice):
            return self._read(lambda: (list(range(*key.indices(len(self)))), True)).data
        axes = getattr(key, "ndim", None)
        if axes is None:
            axes = 1 if hasattr(key, "__len__") else 0
        if axes > 1:
            if is_mask(key):
                raise IndexError(f"a mask of {axes} axes; frames have one, so give {len(self)} entries")
            several: Any = key
            data: Any = self.read_frames(several.reshape(-1))
            shaped: Frames = data if self._output == "dlpack" else data.reshape(*several.shape, *data.shape[1:])
            return shaped
        if axes == 1:
            return self.read_frames(key)
        return self.read_frames(plain(key))

    def __iter__(self) -> Iterator[Frames]:
        """Every frame in order, decoded ahead."""
        for batch in self.batches(_ITERATION_BATCH):
            for frame in batch:
                yield frame.data

    def audio(
        self,
        start: Optional[float] = None,
        stop: Optional[float] = None,
        *,
        sample_rate: Optional[int] = None,
        channels: Optional[int] = None,
        stream: Optional[int] = None,
        seek: str = "exact",
    ) -> audio_reader.AudioSamples[Frames]:
        """The audio that plays from ``start`` to before ``stop``, in step with the frames: on the clock of ``times``.

        Parameters
        ----------
        start, stop : float, optional
            Seconds on the file's clock. Default: the start of the first frame and the end of the last one. Spans that the audio
            stream does not cover are silent, so that the number of samples depends on the times alone; ``gaps`` lists them.
        sample_rate, channels, stream, seek
            As in ``AudioReader``.

        Returns
        -------
        AudioSamples
            float32 [channels, samples].

        Raises
        ------
        DecodeError
            For files without audio.
        ValueError

        Examples
        --------
        >>> batch = r.read(range(30, 46))  # doctest: +SKIP
        >>> r.audio(batch.seconds[0], batch.seconds[-1] + batch.durations[-1], sample_rate=16000, channels=1)  # doctest: +SKIP
        AudioSamples(1 x 10240 at 16000 Hz, seconds=1.200)
        """
        if start is None or stop is None:
            whole_video = self.metadata
            start = whole_video.start_seconds if start is None else start
            stop = whole_video.end_stream_seconds if stop is None else stop
        compiled = self._audio.stream(self._reader, stream, seek)
        return audio_reader.read(compiled, start, stop, sample_rate, channels, True, self._output)

    def batches(
        self,
        batch: int,
        *,
        start: Optional[int] = None,
        stop: Optional[int] = None,
        every: int = 1,
        numbers: Optional[Numbers] = None,
        fps: Optional[float] = None,
        start_seconds: Optional[float] = None,
        end_seconds: Optional[float] = None,
        drop_last: bool = False,
        **output: Unpack[OutputOptions],
    ) -> BatchIterator[Frames, Column]:
        """Frames in batches, decoded ahead in the background.

        Memory is bounded by the batches decoded ahead (``queue``) and those that you hold.

        Parameters
        ----------
        batch : int
            Frames in a batch; the last one may be smaller.
        start, stop : int, optional
            First frame, and end (exclusive); negative numbers count from the end.
        every : int
            Every Nth frame only.
        numbers : iterable of int, optional
            These frames in this order, instead of a range.
        fps : float, optional
            The frames on screen at even times, instead of a range: from ``start_seconds`` to before ``end_seconds``.
        start_seconds, end_seconds : float, optional
            A span of time on the file's clock, clipped to the video. Without ``fps``: all frames on screen in it, at the
            video's own rate, or every ``every``-th.
        drop_last : bool
            Drop a smaller last batch.
        **output
            ``layout``, ``dtype``, ``size``, ``max_size``, ``center_crop``, ``resize``, ``antialias``, ``fit``, ``pad``, ``channels``,
            ``crop``, ``normalize``, ``exact``, ``tone_map``, ``transforms`` as in ``VideoReader``, for these batches alone.

        Returns
        -------
        BatchIterator
            An iterator over ``FrameBatch``; ``close()`` ends it early.
        """
        known(output, OUTPUT_DEFAULTS)
        selection = self._select.batches(start, stop, every, numbers, fps, start_seconds, end_seconds)
        options = renamed({**self._options, **output})
        as_json = output_json({name: options[name] for name in OUTPUT_DEFAULTS}) if output else None
        compiled = self._reader.batches(json.dumps(selection), whole("batch", batch, 1), flag("drop_last", drop_last), as_json)
        return BatchIterator(compiled, self._output, self._planes_of(options), called(options))

    def set_output(self, **output: Unpack[OutputOptions]) -> None:
        """Changes the output options from now on: those of ``batches(**output)``.

        Raises
        ------
        ValueError
            For an option's value.
        """
        known(output, OUTPUT_DEFAULTS)
        options = renamed({**self._options, **output})
        self._reader.set_output(output_json({name: options[name] for name in OUTPUT_DEFAULTS}))
        self._options, self._planes, self._called = options, (), called(options)

    def _planes_of(self, options: Dict[str, Any]) -> Optional[Planes]:
        if options["channels"] != "yuv":
            return None
        if self._options["channels"] != "yuv":
            raise bad("channels", "yuv", "it when the reader is opened, or set_output(channels='yuv')")
        if self._planes == ():
            picture = json.loads(self._reader.picture())["planes"]
            places = [tuple(place) for place in picture["planes"]]
            self._planes = Planes(picture["format"], picture["width"], picture["height"], places)
        planes: Planes = self._planes
        return planes

    def _shaped(self, data: Any) -> Any:
        is_raw = self._options["channels"] == "yuv" and self._output != "dlpack"
        return data.reshape(data.shape[0], data.shape[-1]) if is_raw else data

    def _batch_of(self, data: Any, columns: Dict[str, bytes]) -> FrameBatch[Frames, Column]:
        return frames.batch(data, columns, self._planes_of(self._options))

    # Lifetime.

    def close(self) -> None:
        """Releases all resources. Frames that were returned stay valid. Can be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._compiled.close()
            self._audio.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def __enter__(self) -> VideoReader[Frames, Column]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        if self._is_closed:
            raise ValueError("a closed reader cannot be pickled")
        options = {name: value for name, value in self._options.items() if READER_DEFAULTS[name] is not value}
        return _reopen, (self._given, options)

    def __repr__(self) -> str:
        name = self._name
        if self._is_closed:
            return f"VideoReader({name!r}, closed)"
        header = self._known["metadata"][1] if "metadata" in self._known else self.header
        count = "" if header.num_frames is None else f", {header.num_frames} frames"
        rate = "" if header.average_fps is None else f", {header.average_fps:.2f} fps"
        return f"VideoReader({name!r}, {header.codec} {header.width}x{header.height}{rate}{count}, {header.device})"


def called(options: Dict[str, Any]) -> Tuple[Any, ...]:
    """Transforms that are called on tensors.

    Raises
    ------
    ValueError
        When the output is not PyTorch's.
    """
    _, rest = transforms.split({name: options[name] for name in OUTPUT_DEFAULTS})
    kind = output_kind(options["output"])
    if rest and not (kind == "torch" or (kind == "auto" and arrays.has_torch())):
        raise bad("transforms", rest[0], "them with output='torch': they are called on tensors of PyTorch")
    return rest


def _reopen(source: Any, options: Dict[str, Any]) -> VideoReader[Any, Any]:
    return VideoReader(source, **options)
