"""Exceptions of framerail. Calls also raise Python's own: ``FileNotFoundError``, ``IndexError``, ``ValueError`` for options,
``TimeoutError``, ``KeyboardInterrupt``."""

from __future__ import annotations

from typing import Any, Optional, Tuple


class DecodeError(RuntimeError):
    """A source that is not a video, or is damaged.

    Attributes
    ----------
    source : str
        The source as given.
    frame : int or None
        Number of the frame at fault, when it is known.
    pts : int or None
        Its presentation time in ticks of the stream, when it is known.
    """

    def __init__(self, message: str, source: str = "", frame: Optional[int] = None, pts: Optional[int] = None):
        super().__init__(message)
        self.source = source
        self.frame = frame
        self.pts = pts

    def __reduce__(self) -> Tuple[Any, ...]:
        return (type(self), (str(self), self.source, self.frame, self.pts))


class UnsupportedError(RuntimeError):
    """A codec, pixel format or size that this build, or this GPU, cannot handle."""


class CudaError(RuntimeError):
    """An error of the CUDA driver or a GPU: no driver, no such GPU, out of memory."""


class PipelineError(RuntimeError):
    """A pipeline that could not be run to its end.

    Attributes
    ----------
    kind : str
        Kind of failure: "usage", "input", "output", "model", "resource", "cancelled" or "internal".
    exit_code : int
        Exit code of the program ``framerail`` for this kind.
    stage : str or None
        The stage that failed first, when the pipeline was running.
    """

    def __init__(self, message: str, kind: str = "internal", exit_code: int = 1, stage: Optional[str] = None):
        super().__init__(message)
        self.kind = kind
        self.exit_code = exit_code
        self.stage = stage

    def __reduce__(self) -> Tuple[Any, ...]:
        return (type(self), (str(self), self.kind, self.exit_code, self.stage))


class PipelineUsageError(PipelineError, ValueError):
    """A mistake in a pipeline's text or options; the message shows its position."""
