"""Python functions as stages of pipelines."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, TypeVar, Union, overload

from . import _framerail
from .batch import ItemBatch
from .options import bad, choice, flag, real, whole

if TYPE_CHECKING:
    from typing_extensions import Literal

_Decorated = TypeVar("_Decorated", bound=Callable[..., object])
_OPTIONS = "__framerail_stage__"


@overload
def stage(function: _Decorated) -> _Decorated: ...
@overload
def stage(
    function: None = None,
    *,
    batch: int = ...,
    max_wait: Optional[float] = ...,
    on: Literal["device", "cpu"] = ...,
    pixels: bool = ...,
) -> Callable[[_Decorated], _Decorated]: ...
def stage(
    function: Optional[_Decorated] = None,
    *,
    batch: int = 1,
    max_wait: Optional[float] = None,
    on: str = "device",
    pixels: bool = True,
) -> Union[_Decorated, Callable[[_Decorated], _Decorated]]:
    """Marks a function or class as a stage of a pipeline, and sets how it is called.

    The function gets an ``ItemBatch`` and may change its frames' pixels, detections and attachments. It returns None or True to
    pass the frames on, False to drop them, or a list of booleans. It runs on a separate thread. An exception ends the
    run and is raised from ``Pipeline.run``. An object of a class is called in the same way; where it has methods
    ``start()`` and ``finish()``, they are called before the first frame and after the last one.

    Parameters
    ----------
    function : callable or class
        The decorated function or class.
    batch : int
        Maximum number of frames in a call, 1 to 256.
    max_wait : float, optional
        Maximum wait for a batch to fill, in seconds, for live sources.
    on : str
        "device": frames stay on their device. "cpu": on the host; copied from a GPU.
    pixels : bool
        False for a function that uses detections only: the decoder may then produce a model's input instead of frames.

    Examples
    --------
    >>> import framerail as fr
    >>> @fr.stage(batch=8)
    ... def large_ones(batch):
    ...     for frame in batch:
    ...         frame.detections = [found for found in frame.detections if found.score > 0.9]
    """
    options = {
        "batch": min(whole("batch", batch, 1), 256),
        "max_wait": None if max_wait is None else real("max_wait", max_wait, "None or seconds above 0", above=0.0),
        "on": choice("on", on, ("cpu", "device")),
        "pixels": flag("pixels", pixels),
    }

    def decorate(decorated: _Decorated) -> _Decorated:
        if not callable(decorated):
            raise bad("function", decorated, "a function of one argument, or a class of such objects")
        setattr(decorated, _OPTIONS, options)
        return decorated

    return decorate if function is None else decorate(function)


class StageFunction:
    """A function as the compiled part calls it: with a list of frames, and its options as attributes."""

    def __init__(self, function: Any):
        options: Dict[str, Any] = getattr(function, _OPTIONS, None) or getattr(stage(lambda batch: None), _OPTIONS)
        self.name = str(getattr(function, "__name__", type(function).__name__))
        made = function() if inspect.isclass(function) else function
        if not callable(made):
            raise bad("function", function, "a function of one argument, or an object that can be called")
        self._function: Callable[[ItemBatch], Any] = made
        self.batch, self.max_wait = options["batch"], options["max_wait"]
        self.on, self.pixels = options["on"], options["pixels"]

    def start(self) -> None:
        getattr(self._function, "start", lambda: None)()

    def finish(self) -> None:
        getattr(self._function, "finish", lambda: None)()

    def call(self, frames: List[_framerail.FrameItem]) -> Optional[List[bool]]:
        answer = self._function(ItemBatch(frames))
        if answer is None or answer is True:
            return None
        if answer is False:
            return [False] * len(frames)
        try:
            verdicts = [bool(verdict) for verdict in answer]
        except TypeError:
            raise ValueError(f"stage {self.name!r} returned {answer!r}; return None, False, or a list of booleans") from None
        if len(verdicts) != len(frames):
            raise ValueError(f"stage {self.name!r} returned {len(verdicts)} booleans for {len(frames)} frames; return one for each")
        return verdicts
