"""Live video as an iterator of tensors."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Deque, List, Optional, Type, Union

from .batch import ItemBatch
from .frame_input import FrameInput
from .functions import stage
from .in_process import InProcess
from .options import Preprocess, bad, choice, real, whole
from .pipeline import Pipeline

if TYPE_CHECKING:
    from typing_extensions import Literal, Self

    from .types import AnyFrames, Device, Outcome, Path


@dataclass(frozen=True, eq=False)
class LiveBatch:
    """Frames of live streams in one tensor.

    Attributes
    ----------
    data : tensor
        The frames, as ``ItemBatch.tensor`` makes them.
    seconds, pts, numbers, streams : list
        Of each frame: its time in its stream, in seconds and in ticks; its number in its stream; the number of the stream, from 0 in
        the order of ``sources``.
    """

    data: AnyFrames
    seconds: List[float]
    pts: List[int]
    numbers: List[int]
    streams: List[int]

    def __len__(self) -> int:
        return len(self.seconds)

    def __repr__(self) -> str:
        return f"LiveBatch({len(self)} frames of streams {sorted(set(self.streams))}, {self.seconds[0]:.3f} s)"


class LiveFrames(InProcess, Iterator[LiveBatch]):
    """The result of ``live``: an iterator of ``LiveBatch`` that reads on separate threads, and a context manager.

    Attributes
    ----------
    dropped : int
        Batches that were dropped because the program was slower than the streams. Frames that are dropped before that, in ``read``,
        are in ``stats``.
    stats : Outcome or None
        The run's statistics, once it has ended.
    """

    def __init__(self, pipeline: Pipeline, options: Mapping[str, object], preprocess: Preprocess, output: str, buffer: int, waits: bool):
        self.dropped = 0
        self.stats: Optional[Outcome] = None
        self._pipeline, self._buffer, self._waits = pipeline, buffer, waits
        self._ready: Deque[LiveBatch] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_over = False
        self._error: Optional[BaseException] = None

        @stage(**options)  # type: ignore[call-overload, untyped-decorator, unused-ignore]
        def hand_over(batch: ItemBatch) -> None:
            data: Any = batch.tensor(preprocess, output=output)  # type: ignore[call-overload]
            frames = batch.frames
            self._give(
                LiveBatch(
                    data,
                    [frame.seconds for frame in frames],
                    [frame.pts for frame in frames],
                    [frame.index for frame in frames],
                    [frame.stream for frame in frames],
                )
            )

        pipeline.insert_before("null", hand_over)
        self._thread = threading.Thread(target=self._run, name="framerail live", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.stats = self._pipeline.run(serve=False)
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _give(self, batch: LiveBatch) -> None:
        with self._changed:
            while self._waits and len(self._ready) >= self._buffer and not self._is_closed:
                self._changed.wait()
            if len(self._ready) >= self._buffer:
                self._ready.popleft()
                self.dropped += 1
            self._ready.append(batch)
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LiveBatch:
        with self._changed:
            while not self._ready and not self._is_over and not self._is_closed:
                # With a timeout, so that Ctrl-C is handled.
                self._changed.wait(0.2)
            if self._ready and not self._is_closed:
                batch = self._ready.popleft()
                self._changed.notify_all()
                return batch
            error, self._error = self._error, None
        if error is not None and not self._is_closed:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Ends the streams; waits until their threads have ended."""
        with self._changed:
            self._is_closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._pipeline.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()


def live(
    sources: Union[Path, FrameInput, Iterable[object]],
    preprocess: Optional[Preprocess] = None,
    *,
    fps: Optional[float] = None,
    batch: int = 1,
    max_wait: float = 0.1,
    buffer: int = 2,
    drop: Literal["oldest", "none"] = "oldest",
    output: str = "auto",
    device: Optional[Device] = None,
    read: Optional[Mapping[str, object]] = None,
) -> LiveFrames:
    """Reads cameras and other live streams as tensors: the newest frames; frames that arrive too fast are dropped and counted.

    Streams are read concurrently and reopened when they fail, as by the stage ``read``.

    Parameters
    ----------
    sources : str, os.PathLike or FrameInput, a list of these, or an iterable of frames
        Addresses, cameras or files. Files come as fast as they are taken; ``read={"realtime": True}`` paces them like cameras, and
        ``read={"loop": "yes"}`` plays them again. Frames of the program come from a ``FrameInput``, or from a generator, a list or an array of
        what that takes; values are kept as they are, in RGB.
    preprocess : Preprocess, optional
        Size, normalisation, type, layout; by default float32 from 0 to 1 at the frames' own size. Streams of several sizes need a size.
    fps : float, optional
        Maximum frames per second of each stream.
    batch : int
        Maximum number of frames in a tensor, over all streams, 1 to 256.
    max_wait : float
        Maximum wait for a batch to fill, in seconds.
    buffer : int
        Batches that may wait for the program.
    drop : str
        Which batch is dropped when the buffer is full: "oldest" drops the one that has waited longest, so that frames stay
        recent; "none" makes the streams wait, which then drop by their own ``drop`` option.
    output : str
        "torch", "numpy", "dlpack" or "auto" (PyTorch where it is installed).
    device : str, optional
        Where to decode, as in ``Pipeline``; tensors are made there.
    read : dict, optional
        Further options of the stage ``read``, such as ``{"latency": "500ms"}``.

    Returns
    -------
    LiveFrames
        Use it in a ``with`` statement, or call ``close()``.

    Raises
    ------
    ValueError
        For an option that cannot be used.
    PipelineError
        While iterating: when no stream can be read.

    Examples
    --------
    >>> import framerail as fr
    >>> with fr.live("rtsp://camera/1", fr.Preprocess(size=(224, 224)), fps=5) as frames:  # doctest: +SKIP
    ...     for batch in frames:
    ...         print(batch.seconds, batch.data.shape)
    """
    many = _listed(sources)
    if not many:
        raise bad("sources", sources, "at least one address or file")
    inputs = {f"given:{number}": one for number, one in enumerate(many) if isinstance(one, FrameInput)}
    named = [f"given:{number}" if isinstance(one, FrameInput) else str(one) for number, one in enumerate(many)]
    options = {"batch": min(whole("batch", batch, 1), 256), "max_wait": real("max_wait", max_wait, "seconds above 0", above=0.0)}
    words = " ".join([_quoted(name) for name in named] + [f"{name}={_value(value)}" for name, value in (read or {}).items()])
    if len(many) > 1 and not (read or {}).get("streams"):
        words += " streams=all"
    sampled = "" if fps is None else f" ! sample fps={real('fps', fps, 'frames per second above 0', above=0.0)}"
    pipeline = Pipeline(f"read {words}{sampled} ! null", device=device, sources=inputs)
    waits = choice("drop", drop, ("oldest", "none")) == "none"
    return LiveFrames(pipeline, options, preprocess or Preprocess(), output, whole("buffer", buffer, 1), waits)


def _listed(sources: Any) -> List[Any]:
    """Addresses and inputs of frames."""
    if isinstance(sources, (str, os.PathLike, FrameInput)):
        return [sources]
    if isinstance(sources, (list, tuple)) and all(isinstance(one, (str, os.PathLike, FrameInput)) for one in sources):
        return list(sources)
    return [FrameInput(sources, pixel_format="rgb24")]


def _quoted(text: str) -> str:
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"


def _value(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _quoted(text)
