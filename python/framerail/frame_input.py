"""Frames that a program hands in, in place of a file or a camera."""

from __future__ import annotations

import atexit
import json
import threading
import weakref
from collections.abc import Generator, Iterable, Iterator, Sized
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, List, Optional, Type, Union

from . import _framerail
from .frames import Frame, FrameBatch
from .in_process import InProcess
from .lazy import np
from .options import bad, choice, sides, whole
from .writer import COLORS, LAYOUTS, as_numpy, frame_rate, shaped

if TYPE_CHECKING:
    from typing_extensions import Literal, Self

    from .types import Size
    from .writer import Pixels

#: Inputs that may have a thread which waits for room.
_fed: weakref.WeakSet[_framerail.FrameInput] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Lets no thread wait inside of the compiled part while Python ends."""
    for compiled in list(_fed):
        compiled.abandon()
    for thread in list(_threads):
        thread.join(0.5)


class FrameInput(InProcess):
    """Frames of the program as a source of ``Pipeline`` and ``live``: pushed one by one, or taken from an iterable.

    ``read`` names it, with a colon in the name: ``Pipeline("read given:camera ! ...", sources={"given:camera": frames})``. Frames are copied
    and converted when they are pushed, on the calling thread and without the GIL, so their memory may be reused at once.

    Parameters
    ----------
    frames : iterable, optional
        Where frames are taken from, on a separate thread, once the pipeline opens the source: a generator, a list, an array [T, H, W, C], the
        batches of a ``VideoReader``. It gives what ``push`` takes, pairs of that and seconds, or a ``FrameBatch``. What it raises ends the run
        and comes out of ``Pipeline.run``. Without it, the program pushes.
    fps : float or Fraction, optional
        Frames per second of frames without a time. Default: 30, or the clock with ``full="drop"``.
    size : int or (height, width), optional
        Size of all frames. The pipeline is put together without waiting for the first frame then.
    layout : str
        "TCHW", "THWC", or "auto": by the axis with 3 entries (RGB) or 1 (grey). One frame has no T.
    channels : str
        "rgb", or "bgr" for frames of OpenCV.
    pixel_format : str, optional
        What frames become in the pipeline: "yuv420p", "yuv422p", "yuv444p", these with "10le" or "12le", or "rgb24", which keeps values as
        they are. Default: "yuv420p", "yuv420p10le" for uint16; grey stays grey.
    color : str
        Matrix of the conversion from RGB, and tags: "bt709", "bt601", "bt2020" or "none" (BT.601's matrix, not tagged).
    full_range : bool
        Whether converted samples use 0 to 255 instead of 16 to 235.
    full : str
        What happens to a frame that finds no room: "wait" lets ``push`` wait; "drop" drops the frame that has waited longest and counts it in
        ``dropped``: the source is live then, as a camera is, with the options of ``read`` for live sources.
    buffer : int
        Frames that may wait.

    Raises
    ------
    ValueError
        For an option that cannot be used.

    Examples
    --------
    >>> import framerail as fr
    >>> camera = fr.FrameInput(fps=30)
    >>> pipeline = fr.Pipeline("read given:camera ! infer centerface ! blur ! write out.mp4", sources={"given:camera": camera})
    >>> with camera:  # doctest: +SKIP
    ...     threading.Thread(target=pipeline.run).start()
    ...     while camera.push(grab()):
    ...         pass
    """

    def __init__(
        self,
        frames: Optional[Iterable[Any]] = None,
        *,
        fps: Union[None, int, float, Fraction] = None,
        size: Optional[Size] = None,
        layout: Literal["auto", "TCHW", "THWC"] = "auto",
        channels: Literal["rgb", "bgr"] = "rgb",
        pixel_format: Optional[str] = None,
        color: str = "bt709",
        full_range: bool = False,
        full: Literal["wait", "drop"] = "wait",
        buffer: int = 4,
    ) -> None:
        if frames is not None and (isinstance(frames, (str, bytes)) or not (hasattr(frames, "__iter__") or hasattr(frames, "__getitem__"))):
            raise bad("frames", frames, "an iterable of frames, or None to push them")
        rate = None if fps is None else frame_rate(fps)
        known = sides("size", size)
        #: Whether it is live.
        self.is_live = choice("full", full, ("wait", "drop")) == "drop"
        #: With what ``close`` was called, or what the iterable raised.
        self.error: Optional[BaseException] = None
        self._layout = choice("layout", layout, LAYOUTS)
        self._is_bgr = choice("channels", channels, ("rgb", "bgr")) == "bgr"
        self._frames = frames
        count = len(frames) if isinstance(frames, Sized) else None
        self._options = {
            "fps": None if rate is None else [rate.numerator, rate.denominator],
            "size": None if known is None else [known[1], known[0]],
            "pixel_format": pixel_format,
            "color": choice("color", color, COLORS),
            "is_full_range": bool(full_range),
            "drops": self.is_live,
            "buffer": whole("buffer", buffer, 1),
            "frames": count,
        }
        self._lock = threading.Lock()
        self._is_begun = False
        self._compiled = self._made()

    def _made(self) -> _framerail.FrameInput:
        compiled = _framerail.FrameInput(json.dumps(self._options))
        weakref.finalize(self, compiled.abandon).atexit = False
        return compiled

    def open(self) -> _framerail.FrameInput:
        """Called by the pipeline."""
        with self._lock:
            if self._compiled.is_read():
                if self._frames is None or isinstance(self._frames, Iterator):
                    raise ValueError("the frames of this source were read before; hand in another one for each run")
                self._compiled, self._is_begun, self.error = self._made(), False, None
            if self._frames is not None and not self._is_begun:
                self._is_begun = True
                arguments = (weakref.ref(self), iter(self._frames), self._compiled, self._layout, self._is_bgr)
                thread = threading.Thread(target=_feed, args=arguments, name="framerail frames", daemon=True)
                _fed.add(self._compiled)
                _threads.add(thread)
                thread.start()
            return self._compiled

    def push(self, frame: Pixels, seconds: Optional[float] = None) -> bool:
        """Hands in one frame; waits for room, unless frames are dropped.

        Parameters
        ----------
        frame : array, tensor, or Frame
            uint8 or uint16, [H, W, C], [C, H, W] or [H, W]; C is 3 (RGB) or 1 (grey). Anything that NumPy takes: arrays, tensors (copied from a
            GPU), objects with ``__array_interface__`` or ``__dlpack__``.
        seconds : float, optional
            Its time. One that is not after the frame before is corrected and counted in "timestamps_repaired". A ``Frame`` has its own.

        Returns
        -------
        bool
            Whether the frame is wanted: False once the run has ended.

        Raises
        ------
        ValueError
            For what is not a frame, and after ``close``.
        """
        if self._frames is not None:
            raise ValueError("the frames of this source are taken from an iterable; make a FrameInput without one to push them")
        return _pushed(self._compiled, frame, seconds, self._layout, self._is_bgr)

    def close(self, error: Optional[BaseException] = None) -> None:
        """Ends the stream behind the frames so far. With an error, the run ends there and raises it. May be called again."""
        if error is None:
            self._compiled.close()
        else:
            self.error = error
            self._compiled.fail(_line(error))

    @property
    def pushed(self) -> int:
        """Frames that were handed in."""
        return self._compiled.pushed()

    @property
    def dropped(self) -> int:
        """Frames that were dropped because they found no room."""
        return self._compiled.dropped()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close(error)


def _feed(
    owner: weakref.ref[FrameInput], frames: Iterator[Any], compiled: _framerail.FrameInput, layout: str, is_bgr: bool
) -> None:
    """Pushes what an iterable gives, until it ends or nobody reads."""
    try:
        for item in frames:
            frame, seconds = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
            for one in frame if isinstance(frame, FrameBatch) else (frame,):
                if not _pushed(compiled, one, seconds, layout, is_bgr):
                    if isinstance(frames, Generator):
                        # Its ``finally`` blocks release the camera.
                        frames.close()
                    return
    except BaseException as error:
        known = owner()
        if known is not None:
            known.error = error
        compiled.fail(_line(error))
    else:
        compiled.close()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _pushed(compiled: _framerail.FrameInput, frame: Any, seconds: Optional[float], layout: str, is_bgr: bool) -> bool:
    if isinstance(frame, Frame):
        seconds = frame.seconds if seconds is None else seconds
        frame = frame.data
    if not hasattr(frame, "__array_interface__") and not hasattr(frame, "__array__") and hasattr(frame, "__dlpack__"):
        frame = np.from_dlpack(frame)
    dense, count, height, width, channels, is_planar = shaped(as_numpy(frame), layout)
    if count != 1:
        raise ValueError(f"option 'frame': {count} frames; push them one by one")
    if is_bgr and channels == 3:
        dense = np.ascontiguousarray(dense[:, ::-1] if is_planar else dense[..., ::-1])
    flat = dense.reshape(-1).view(np.uint8)
    if not flat.flags.writeable:
        # Arrays that may not be written cannot be lent by DLPack.
        flat = flat.copy()
    return compiled.push(flat, height, width, channels, dense.itemsize, is_planar, None if seconds is None else float(seconds))


def as_input(source: Any) -> Optional[FrameInput]:
    """What hands in a source's frames; None for bytes, files, and what is not a source."""
    if isinstance(source, FrameInput):
        return source
    is_file = isinstance(source, (str, bytes, bytearray, memoryview)) or (hasattr(source, "read") and hasattr(source, "seek"))
    is_frames = hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    return FrameInput(source) if is_frames and not is_file else None


__all__: List[str] = ["FrameInput"]
