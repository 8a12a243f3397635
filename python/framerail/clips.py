"""Clips of a video for training."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Dict, Generic, List, Optional, Tuple, TypedDict

from . import _framerail
from .frames import described
from .lazy import np
from .options import bad, choice, known, real, whole
from .reader import VideoReader
from .types import Column, Frames

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Unpack

#: What start, stride and the like are counted in.
_UNITS = ("frames", "seconds")
_EDGES = ("repeat", "wrap", "mirror", "error")


@dataclass(frozen=True, eq=False, repr=False)
class Clips(Generic[Frames, Column]):
    """Clips of one video.

    Attributes
    ----------
    data : torch.Tensor or numpy.ndarray
        [N, T, C, H, W] or [N, T, H, W, C]: clips, frames.
    numbers : int64 array [N, T]
        Numbers of the frames. This and the following are torch tensors on the host where ``data`` is a torch tensor.
    seconds : float64 array [N, T]
        Their presentation times.
    durations : float64 array [N, T]
        How long each is on screen, in seconds.
    status : array of str [N, T]
        "ok", "repaired" or "missing".
    filled : int64 array [N]
        Number of frames at the end of each clip that replace frames beyond the video's end.
    """

    data: Frames
    numbers: Column
    seconds: Column
    durations: Column
    status: npt.NDArray[np.str_]
    filled: Column

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __len__(self) -> int:
        return len(self.status)

    def __repr__(self) -> str:
        of = f" of {len(self.status[0])} frames" if len(self) else ""
        return f"Clips({described(self.data)}, {len(self)} clips{of})"

    @property
    def pts_seconds(self) -> Column:
        """The same as ``seconds``."""
        return self.seconds


class SamplingOptions(TypedDict, total=False):
    """Options of ``sample_clips``."""

    num_clips: Optional[int]
    frames_per_clip: int
    stride: Optional[float]
    policy: str
    by: str
    step: Optional[float]
    seed: int
    start: Optional[float]
    end: Optional[float]
    edge: str


def clip_numbers(reader: VideoReader[Frames, Column], **options: Unpack[SamplingOptions]) -> List[Tuple[List[int], int]]:
    """The frame numbers of clips, without reading them: a list of (numbers, filled). Options as in ``sample_clips``."""
    by = choice("by", options.get("by", "frames"), _UNITS)
    if by == "seconds":
        every = reader.times
        count = len(every)
        times = (every.seconds.tolist(), float(every.seconds[-1] + every.durations[-1])) if count else ([], 0.0)
        first, last = (times[0][0], times[1]) if count else (0.0, 0.0)
    else:
        count, times = len(reader), None
        first, last = 0, count
    start, end = (_within(name, options.get(name), by, first, last) for name in ("start", "end"))
    sampling = sampling_of(**{**options, "start": start, "end": end})
    return _framerail.sample_clips(json.dumps(sampling), count, times)


def _within(name: str, at: Any, by: str, first: float, last: float) -> Any:
    """The start or end of a range: negative values count from the end, and ends beyond the video are clipped."""
    if at is None or first == last:
        return at
    if by == "seconds":
        # A video whose clock starts before 0 has negative times itself.
        at = real(name, at, "seconds")
        at = at + last if at < 0.0 <= first else at
    else:
        at = whole(name, at, -int(last), f"a whole number from {-int(last)}")
        at = at + last if at < 0 else at
    return min(at, last) if name == "end" else at


def sampling_of(**options: Unpack[SamplingOptions]) -> Dict[str, Any]:
    """Checks the options of ``sample_clips``; returns them for the compiled part."""
    known(options, SAMPLING_DEFAULTS)
    given = {**SAMPLING_DEFAULTS, **options}
    policy, by, step, num_clips = (given[name] for name in ("policy", "by", "step", "num_clips"))
    stride, start, end = (given[name] for name in ("stride", "start", "end"))
    choice("policy", policy, ("random", "regular", "every"))
    choice("by", by, _UNITS)
    choice("edge", given["edge"], _EDGES)
    if policy == "every":
        if num_clips is not None:
            raise bad("num_clips", num_clips, "it with policy='random' or 'regular'; 'every' takes step")
        chosen: Dict[str, Dict[str, float]] = {"every": {"step": real("step", step, "frames or seconds above 0 with policy='every'", above=0.0)}}
    else:
        if step is not None:
            raise bad("step", step, "it with policy='every'")
        chosen = {policy: {"num_clips": whole("num_clips", 1 if num_clips is None else num_clips, 1)}}
        if policy == "random":
            chosen[policy]["seed"] = whole("seed", given["seed"], 0) % 2**64
    if by == "frames":
        steps: Dict[str, Optional[float]] = {
            "stride": 1 if stride is None else whole("stride", stride, 1),
            "start": 0 if start is None else whole("start", start, 0),
            "end": None if end is None else whole("end", end, 1),
        }
    else:
        times = (("stride", stride), ("start", start), ("end", end))
        steps = {name: None if value is None else real(name, value, "seconds") for name, value in times}
    return {"policy": chosen, "frames_per_clip": whole("frames_per_clip", given["frames_per_clip"], 1), "steps": {by: steps}, "edge": given["edge"]}


def one_after_another(options: Mapping[str, Any]) -> Dict[str, Any]:
    """Checked options for whole videos: clips follow one another where neither a policy nor a step is given."""
    made: Dict[str, Any] = {**SAMPLING_DEFAULTS, "policy": "every", **options}
    if made["policy"] == "every" and made["step"] is None:
        length = whole("frames_per_clip", made["frames_per_clip"], 1)
        if made["stride"] is not None:
            real("stride", made["stride"], "a number above 0", above=0.0)
        made["step"] = length * (made["stride"] or 1)
    # A range may be counted from the end of a video.
    without_range: Dict[str, Any] = {**made, "start": None, "end": None}
    sampling_of(**without_range)
    return made


def sample_clips(
    reader: VideoReader[Frames, Column],
    *,
    num_clips: Optional[int] = None,
    frames_per_clip: int = 16,
    stride: Optional[float] = None,
    policy: str = "random",
    by: str = "frames",
    step: Optional[float] = None,
    seed: int = 0,
    start: Optional[float] = None,
    end: Optional[float] = None,
    edge: str = "repeat",
) -> Clips[Frames, Column]:
    """Reads clips of a video. Each GOP is decoded once, even where clips overlap.

    Parameters
    ----------
    reader : VideoReader
        The video; its output options apply.
    num_clips : int
        How many, for the policies "random" and "regular"; 1 by default.
    frames_per_clip : int
        Frames of each clip.
    stride : int or float
        From one frame of a clip to the next: frames (1 by default), or seconds (the mean time between frames by default).
    policy : str
        Where clips start: "random" (by ``seed``, in the order drawn), "regular" (evenly spread from the first to the last
        possible place), or "every" ``step`` frames or seconds.
    by : str
        Unit of stride, step, start and end: "frames", or "seconds", where the frame on screen at each time is used.
    seed : int
        The same seed gives the same places, on every machine and in every version.
    start, end : int or float, optional
        The range in which clips may start; by default from the first frame to the last start whose clip is whole. Negative ones count
        from the end, and an end beyond the video is the video's.
    edge : str
        What replaces frames beyond the end: "repeat" the clip's last one, "wrap" to its first, "mirror", or "error".

    Returns
    -------
    Clips

    Raises
    ------
    ValueError
        For impossible options, ranges and clips; the message gives the available range.
    """
    found = clip_numbers(
        reader, num_clips=num_clips, frames_per_clip=frames_per_clip, stride=stride, policy=policy, by=by, step=step, seed=seed,
        start=start, end=end, edge=edge,
    )  # fmt: skip
    batch = reader.read([number for clip, _ in found for number in clip])
    shape = (len(found), frames_per_clip)
    data: Any = batch.data
    if hasattr(data, "reshape"):
        data = data.reshape(*shape, *data.shape[1:])
    counts = [count for _, count in found]
    columns: Tuple[Any, Any, Any] = (batch.numbers, batch.seconds, batch.durations)
    # PyTorch without NumPy has no array of strings.
    status: Any = batch.status
    status = status.reshape(shape) if hasattr(status, "reshape") else tuple(zip(*[iter(status)] * frames_per_clip))
    filled: Any = columns[0].new_tensor(counts) if hasattr(columns[0], "new_tensor") else np.array(counts, np.int64)
    numbers, seconds, durations = (column.reshape(shape) for column in columns)
    return Clips(data, numbers, seconds, durations, status, filled)


#: Options and their defaults.
SAMPLING_DEFAULTS: Mapping[str, Any] = {name: option.default for name, option in list(inspect.signature(sample_clips).parameters.items())[1:]}
