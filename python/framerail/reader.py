"""Frames of a video by number, by time, and in sequence."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Iterator
from typing import Any, Dict, List, Optional, Tuple, Union

from . import _framerail, arrays, frames
from .frames import FrameBatch, FrameTimes, VideoMetadata
from .options import OUTPUT_DEFAULTS, READER_DEFAULTS, Normalize, bad, known, output_json, reader_json, real, whole

#: More frames than any video has.
_NUMBERS = 2**48
#: Frames that iteration over a reader converts at a time.
_ITERATION_BATCH = 8


def _source(source: Any) -> tuple:
    """What the compiled part takes, and what messages call it."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        return path, path
    if isinstance(source, bytes):
        return source, "<bytes>"
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source), "<bytes>"
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = getattr(source, "name", None)
        return source, name if isinstance(name, str) else f"<{type(source).__name__}>"
    raise TypeError(f"source: {source!r}; give a path, an address, bytes, or a file opened with mode 'rb'")


class VideoReader:
    """Reads frames of one video stream: by number, by time, or in sequence.

    Frame n is the n-th in presentation order as a decode from the start gives it, whichever way it is reached.
    One reader may be used from several threads; calls take turns. It can be pickled, and used after a fork: the copy
    opens the source anew. Frames are made without the GIL; Ctrl-C ends a call.

    Parameters
    ----------
    source : str, os.PathLike, bytes, or a file
        A path, an http(s) address, a folder of images, a pattern such as "img%04d.png", a whole file in memory, or an
        object with ``read(n)`` and ``seek(offset, whence)`` opened for bytes.
    device : str
        "cpu", "cuda" (the first card), "cuda:N", or "auto" (the first card, else the CPU). What a card cannot decode
        is decoded on the CPU and uploaded; ``metadata.fallback`` says why.
    mode : str
        "seek" visits each group of pictures that holds a wanted frame once, "stream" decodes from the first wanted
        frame to the last, "auto" takes what decodes fewer pictures. All give the same pixels.
    layout : str
        "TCHW" (frames, channels, rows, columns) or "THWC".
    dtype : str, numpy.dtype or torch.dtype
        "uint8", "float16", "bfloat16" or "float32". Without ``normalize``, values are 0 to 255 in each.
    size : (height, width) or int, optional
        Resize to this; an int is both. The video's own by default.
    resize : str
        "stretch", or "letterbox" to keep the aspect ratio and fill the rest with ``pad`` (0 to 255, default 114).
    interpolation : str
        "bilinear" or "area".
    channels : str
        "rgb", "bgr", "gray" (luma), "hsv" (as OpenCV's 8-bit HSV), or "yuv": the planes as decoded, [T, bytes].
    crop : (x, y, width, height), optional
        The part of each frame that is taken, in its pixels.
    normalize : Normalize, optional
        ``framerail.IMAGENET``, ``framerail.Normalize(mean, std)``, or True for values of 0 to 1.
    exact : str, optional
        "swscale" converts with libswscale: equals ``ffmpeg -pix_fmt rgb24`` bit for bit. Own size, uint8, CPU.
    tone_map : str, optional
        "bt2390" or "hable" turns PQ and HLG into BT.709; else their values are handed on as data.
    stream : int, optional
        Which of the file's video streams, from 0; FFmpeg's choice by default.
    index : str
        "exact", or "approximate": frame n is the one at n / rate, without looking at the file's packets.
    index_cache : str or os.PathLike, optional
        Where the index is kept for the next time: "sidecar" beside the file, or a folder.
    threads : int
        Decoder threads on the CPU; 0 for as many as there are cores.
    queue : int
        Batches that ``batches`` makes ahead.
    timeout : float, optional
        Longest time in seconds that a call waits for its frames; None for no limit.
    on_error : str
        What to do about damage inside a file: "repair" gives what the decoder made of it and says so in ``status``,
        "fail" raises ``DecodeError``.
    format : str, optional
        FFmpeg's container name, for sources that do not tell by themselves.
    allow : str
        What playlists may open: "nothing" but files of their folder, or http and https where they came from there;
        "network", "outside" (files outside the folder), or "all". See the page on security.
    insecure : bool
        Whether the certificates of servers are taken unchecked.
    output : str
        "torch", "numpy", "dlpack" (an object for ``from_dlpack`` of any library), or "auto": PyTorch where it can be
        imported, else NumPy.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        For sources that cannot be read.
    DecodeError
        For what is no video.
    ValueError
        For an option's value: names option, value, and what is allowed.
    UnsupportedError, CudaError
        For what this build or the card cannot do.

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.VideoReader("in.mp4", output="numpy") as r:  # doctest: +SKIP
    ...     r.read_frames([0, 50, 3]).shape
    (3, 3, 1080, 1920)
    """

    def __init__(
        self,
        source: Any,
        *,
        device: str = "cpu",
        mode: str = "auto",
        layout: str = "TCHW",
        dtype: Any = "uint8",
        size: Union[None, int, Tuple[int, int]] = None,
        resize: str = "stretch",
        pad: int = 114,
        interpolation: str = "bilinear",
        channels: str = "rgb",
        crop: Optional[Tuple[float, float, float, float]] = None,
        normalize: Union[None, bool, Normalize] = None,
        exact: Optional[str] = None,
        tone_map: Optional[str] = None,
        stream: Optional[int] = None,
        index: str = "exact",
        index_cache: Union[None, str, os.PathLike[str]] = None,
        threads: int = 0,
        queue: int = 2,
        timeout: Optional[float] = 60.0,
        on_error: str = "repair",
        format: Optional[str] = None,
        allow: str = "nothing",
        insecure: bool = False,
        output: str = "auto",
    ):
        given = locals()
        self._given = source
        self._options: Dict[str, Any] = {name: given[name] for name in READER_DEFAULTS}
        self._is_closed = False
        self._metadata: Optional[VideoMetadata] = None
        self._times: Optional[FrameTimes] = None
        self._count: Optional[int] = None
        self._planes: Any = ()
        self._compiled = self._open()

    def _open(self) -> _framerail.Reader:
        source, name = _source(self._given)
        return _framerail.Reader(source, name, reader_json(self._options))

    @property
    def _reader(self) -> _framerail.Reader:
        if self._is_closed:
            raise ValueError("the reader is closed")
        if not self._compiled.is_here():
            # This process was forked since: threads and cards do not come along.
            self._compiled = self._open()
        return self._compiled

    # What the video is like.

    @property
    def metadata(self) -> VideoMetadata:
        """Properties of the video; makes the index when there is none yet."""
        if self._metadata is None:
            self._metadata = VideoMetadata._from(json.loads(self._reader.metadata(True)))
        return self._metadata

    @property
    def header(self) -> VideoMetadata:
        """Properties of the video as its header has them, without reading more."""
        return VideoMetadata._from(json.loads(self._reader.metadata(False)))

    @property
    def times(self) -> FrameTimes:
        """The places of all frames in time; makes the index when there is none yet."""
        if self._times is None:
            self._times = frames.times(self._reader.times())
        return self._times

    @property
    def stats(self) -> Dict[str, int]:
        """What was done so far: pictures decoded, converted, delivered, repaired, missing; seeks; bytes copied."""
        return json.loads(self._reader.stats())

    def __len__(self) -> int:
        """Number of frames; makes the index when there is none yet."""
        if self._count is None or self._is_closed:
            self._count = self._reader.num_frames()
        return self._count

    def frames_at(self, seconds: Iterable[float]) -> List[int]:
        """Numbers of the frames on screen at these times.

        Parameters
        ----------
        seconds : iterable of float
            Seconds on the file's clock.

        Raises
        ------
        IndexError
            For a time before the first frame or after the last.
        """
        return self._reader.frames_at([real("seconds", at, "finite seconds") for at in _plain(seconds)])

    # Frames.

    def read(self, numbers: Iterable[int], *, out: Any = None) -> FrameBatch:
        """Frames by number with what is known of each.

        Parameters
        ----------
        numbers : iterable of int
            In any order, duplicates allowed; negative ones count from the end.
        out : array or tensor, optional
            Written instead of new memory and given as ``data``. Dense, of the frames' exact shape and dtype, on their
            device.

        Returns
        -------
        FrameBatch
            In the order asked.

        Raises
        ------
        IndexError
            For a number that is not there.
        ValueError
            When ``out`` does not fit.
        DecodeError, TimeoutError
        """
        wanted = self._numbers(numbers)
        if out is not None:
            return self._batch_of(out, self._reader.read_into(wanted, out, arrays.current_stream(out)))
        tensor, columns = self._reader.read(wanted)
        return self._batch_of(self._shaped(arrays.handed_over(tensor, self._options["output"])), columns)

    def read_frames(self, numbers: Iterable[int], *, out: Any = None) -> Any:
        """Frames by number: an array [T, C, H, W] or [T, H, W, C] in the order asked. See ``read``."""
        return self.read(numbers, out=out).data

    def read_at(self, seconds: Union[float, Iterable[float]], *, out: Any = None) -> Any:
        """The frames on screen at these times, in seconds on the file's clock: an array as of ``read_frames``.

        One number instead of a list gives a single frame without the first axis.
        """
        if hasattr(seconds, "__float__") and not hasattr(seconds, "__len__"):
            return self.read_frames(self.frames_at([seconds]), out=out)[0]
        return self.read_frames(self.frames_at(seconds), out=out)

    def __getitem__(self, key: Any) -> Any:
        """``r[3]`` is a frame, ``r[-1]`` the last one; ``r[10:200:20]`` and ``r[[1, 5]]`` are arrays of frames."""
        if isinstance(key, slice):
            return self.read_frames(range(*key.indices(len(self))))
        if hasattr(key, "__len__") or (hasattr(key, "ndim") and key.ndim):
            return self.read_frames(key)
        frame = self.read_frames([key])
        return frame if self._options["output"] == "dlpack" else frame[0]

    def __iter__(self) -> Iterator[Any]:
        """Every frame in order, decoded ahead."""
        if self._options["output"] == "dlpack":
            for batch in self.batches(1):
                yield batch.data
            return
        for batch in self.batches(_ITERATION_BATCH):
            yield from batch.data

    def batches(
        self,
        batch: int,
        *,
        start: Optional[int] = None,
        stop: Optional[int] = None,
        every: int = 1,
        numbers: Optional[Iterable[int]] = None,
        fps: Optional[float] = None,
        start_seconds: Optional[float] = None,
        end_seconds: Optional[float] = None,
        drop_last: bool = False,
        **output: Any,
    ) -> Batches:
        """Frames in batches, decoded ahead in the background.

        Memory is bounded by the batches that are made ahead (``queue``) and those that you hold.

        Parameters
        ----------
        batch : int
            Frames in a batch; the last one may be smaller.
        start, stop : int, optional
            First frame, and the first that is not wanted any more; negative ones count from the end.
        every : int
            Only every so many frames.
        numbers : iterable of int, optional
            These frames in this order, instead of a range.
        fps : float, optional
            The frames on screen at even times, instead of a range: from ``start_seconds`` to before ``end_seconds``.
        drop_last : bool
            Leave a smaller last batch out.
        **output
            ``layout``, ``dtype``, ``size``, ``resize``, ``pad``, ``interpolation``, ``channels``, ``crop``,
            ``normalize``, ``exact``, ``tone_map`` as in ``VideoReader``, for these batches alone.

        Returns
        -------
        Batches
            An iterator over ``FrameBatch``; ``close()`` ends it early.
        """
        known(output, OUTPUT_DEFAULTS)
        selection = self._selection(start, stop, every, numbers, fps, start_seconds, end_seconds)
        options = {**self._options, **output}
        as_json = output_json({name: options[name] for name in OUTPUT_DEFAULTS}) if output else None
        compiled = self._reader.batches(json.dumps(selection), whole("batch", batch, 1), bool(drop_last), as_json)
        return Batches(compiled, self._options["output"], self._planes_of(options))

    def set_output(self, **output: Any) -> None:
        """Changes what is handed out from now on: the options of ``batches(**output)``.

        Raises
        ------
        ValueError
            For an option's value.
        """
        known(output, OUTPUT_DEFAULTS)
        options = {**self._options, **output}
        self._reader.set_output(output_json({name: options[name] for name in OUTPUT_DEFAULTS}))
        self._options, self._planes = options, ()

    def _selection(self, start, stop, every, numbers, fps, start_seconds, end_seconds) -> Dict[str, Any]:
        if sum((numbers is not None, fps is not None, (start, stop, every) != (None, None, 1))) > 1:
            raise ValueError("options 'numbers', 'fps' and 'start', 'stop', 'every' choose frames in different ways; use one")
        if fps is None and (start_seconds, end_seconds) != (None, None):
            raise ValueError("options 'start_seconds' and 'end_seconds' go with 'fps'; use 'start' and 'stop' for numbers")
        if numbers is not None:
            return {"list": self._numbers(numbers)}
        if fps is not None:
            secs = "finite seconds"
            return {
                "fps": {
                    "fps": real("fps", fps, "frames per second above 0", above=0.0),
                    "start": None if start_seconds is None else real("start_seconds", start_seconds, secs),
                    "end": None if end_seconds is None else real("end_seconds", end_seconds, secs),
                }
            }
        start, stop = (None if at is None else operator.index(at) for at in (start, stop))
        step = whole("every", every, 1)
        if stop is not None or (start or 0) < 0:
            start, stop, _ = slice(start, stop).indices(len(self))
        return {"range": {"start": start or 0, "stop": stop, "step": step}}

    def _numbers(self, numbers: Iterable[int]) -> List[int]:
        try:
            wanted = [operator.index(number) for number in _plain(numbers)]
        except TypeError:
            raise TypeError(f"frame numbers must be whole numbers, not {numbers!r}") from None
        if any(number < 0 or number >= _NUMBERS for number in wanted):
            count = len(self)
            for at, number in enumerate(wanted):
                if not -count <= number < max(count, 1):
                    raise IndexError(f"{_source(self._given)[1]}: frame {number} of {count} does not exist")
                wanted[at] = number + count if number < 0 else number
        return wanted

    def _planes_of(self, options: Dict[str, Any]) -> Optional[frames.Planes]:
        if options["channels"] != "yuv":
            return None
        if self._options["channels"] != "yuv":
            raise bad("channels", "yuv", "it when the reader is opened, or set_output(channels='yuv')")
        if self._planes == ():
            picture = json.loads(self._reader.picture())["planes"]
            places = [tuple(place) for place in picture["planes"]]
            self._planes = frames.Planes(picture["format"], picture["width"], picture["height"], places)
        return self._planes

    def _shaped(self, data: Any) -> Any:
        is_raw = self._options["channels"] == "yuv" and self._options["output"] != "dlpack"
        return data.reshape(data.shape[0], data.shape[-1]) if is_raw else data

    def _batch_of(self, data: Any, columns: Dict[str, bytes]) -> FrameBatch:
        return frames.batch(data, columns, self._planes_of(self._options))

    # Life.

    def close(self) -> None:
        """Gives back everything that the reader holds. Frames that were handed out stay. May be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._compiled.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __reduce__(self) -> tuple:
        if self._is_closed:
            raise ValueError("a closed reader cannot be pickled")
        options = {name: value for name, value in self._options.items() if READER_DEFAULTS[name] is not value}
        return _reopen, (self._given, options)

    def __repr__(self) -> str:
        name = _source(self._given)[1]
        if self._is_closed:
            return f"VideoReader({name!r}, closed)"
        header = self._metadata or self.header
        count = "" if header.num_frames is None else f", {header.num_frames} frames"
        rate = "" if header.average_fps is None else f", {header.average_fps:.2f} fps"
        return f"VideoReader({name!r}, {header.codec} {header.width}x{header.height}{rate}{count}, {header.device})"


def _plain(values: Any) -> Any:
    """Entries of an array as Python's numbers."""
    return values.tolist() if hasattr(values, "tolist") else values


def _reopen(source: Any, options: Dict[str, Any]) -> VideoReader:
    return VideoReader(source, **options)


class Batches:
    """An iterator over batches that are made ahead. Made by ``VideoReader.batches``; also a context manager."""

    def __init__(self, compiled: _framerail.Batches, output: str, planes: Optional[frames.Planes]):
        self._compiled = compiled
        self._output = output
        self._planes = planes

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> FrameBatch:
        made = self._compiled.next()
        if made is None:
            self._compiled.close()
            raise StopIteration
        tensor, columns = made
        data = arrays.handed_over(tensor, self._output)
        if self._planes is not None and self._output != "dlpack":
            data = data.reshape(data.shape[0], data.shape[-1])
        return frames.batch(data, columns, self._planes)

    def __len__(self) -> int:
        """Batches that are still to come."""
        return self._compiled.remaining()

    def close(self) -> None:
        """Ends decoding and gives back what was made ahead."""
        self._compiled.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
