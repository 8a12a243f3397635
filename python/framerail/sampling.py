"""Frames for video models: some frames of the whole video, in a size that fits the model."""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING, Any, List, Optional, Tuple, Union

from .frames import FrameBatch
from .lazy import np
from .options import bad, choice, known, real, whole
from .options import OUTPUT_DEFAULTS
from .reader import VideoReader

if TYPE_CHECKING:
    import os

    from .options import Normalize

    Source = Union[VideoReader, str, bytes, "os.PathLike[str]", IO[bytes]]
    OutputValue = Union[None, str, bool, int, Tuple[int, int], Tuple[float, float, float, float], Normalize]

SNAPS = ("exact", "keyframe")


def sampled_numbers(
    reader: VideoReader,
    *,
    num_frames: Optional[int] = None,
    fps: Optional[float] = None,
    start_seconds: Optional[float] = None,
    end_seconds: Optional[float] = None,
    min_frames: int = 1,
    max_frames: Optional[int] = None,
    frame_factor: int = 1,
    snap: str = "exact",
) -> List[int]:
    """Numbers of evenly spaced frames, including the first and the last of the span.

    Parameters
    ----------
    reader : VideoReader
        The video.
    num_frames : int, optional
        How many; at most the number of frames in the video, except for ``frame_factor``.
    fps : float, optional
        As many as a video at this rate has, at least ``min_frames`` and at most ``max_frames``. Default, without ``num_frames``: every
        frame.
    start_seconds, end_seconds : float, optional
        The span, on the file's clock. Default: the whole video.
    min_frames, max_frames, frame_factor : int
        Bounds of the number of frames, and a divisor of it: rounded down, but not below one multiple.
    snap : str
        "keyframe" chooses the nearest frame at which decoding can start instead: one frame is decoded for each, and frames may repeat.

    Raises
    ------
    ValueError
        For options that exclude each other or are out of range, and spans without a frame.
    """
    if num_frames is not None and fps is not None:
        raise ValueError("options 'num_frames' and 'fps' exclude each other; use one")
    choice("snap", snap, SNAPS)
    factor = whole("frame_factor", frame_factor, 1)
    lowest = whole("min_frames", min_frames, 1)
    highest = None if max_frames is None else whole("max_frames", max_frames, 1)
    times = reader.times
    first, last = 0, len(times) - 1
    if start_seconds is not None:
        begin = real("start_seconds", start_seconds, "finite seconds")
        first = int(np.searchsorted(times.seconds + times.durations, begin, side="right"))
    if end_seconds is not None:
        last = int(np.searchsorted(times.seconds, real("end_seconds", end_seconds, "finite seconds"), side="left")) - 1
    count = last - first + 1
    if count < 1:
        raise ValueError(f"options 'start_seconds', 'end_seconds': no frame from {start_seconds} to {end_seconds} s")
    if num_frames is not None:
        wanted = float(min(whole("num_frames", num_frames, 1), count))
    elif fps is not None:
        lasts = float(times.seconds[last] + times.durations[last] - times.seconds[first])
        wanted = lasts * real("fps", fps, "frames per second above 0", above=0.0)
    else:
        wanted = float(count)
    wanted = max(wanted, lowest)
    wanted = min(wanted, count if highest is None else min(highest, count))
    number = max(int(wanted + 1e-6) // factor * factor, factor)
    chosen = np.linspace(first, last, number).round().astype(np.int64) if number > 1 else np.array([(first + last) // 2])
    if snap == "keyframe":
        keys = np.flatnonzero(times.is_keyframe)
        if len(keys):
            after = np.searchsorted(keys, chosen).clip(0, len(keys) - 1)
            before = (after - 1).clip(0)
            closer = np.abs(keys[before] - chosen) <= np.abs(keys[after] - chosen)
            chosen = np.where(closer, keys[before], keys[after])
    found: List[int] = chosen.tolist()
    return found


def fitting_size(
    height: int,
    width: int,
    *,
    max_pixels: Optional[int] = None,
    min_pixels: Optional[int] = None,
    multiple_of: int = 1,
) -> Tuple[int, int]:
    """The (height, width) nearest to a frame's that a model accepts: multiples, within the pixel bounds, of about the same shape.

    The rule is that of Qwen-VL's ``smart_resize``.

    Raises
    ------
    ValueError
        For bounds that exclude each other.
    """
    factor = whole("multiple_of", multiple_of, 1)
    if max_pixels is not None and min_pixels is not None and max_pixels < min_pixels:
        raise ValueError(f"options 'min_pixels' and 'max_pixels': {min_pixels} is above {max_pixels}")
    if max_pixels is not None and whole("max_pixels", max_pixels, 1) < factor * factor:
        raise bad("max_pixels", max_pixels, f"at least {factor * factor}, the square of multiple_of")
    rows, columns = (max(factor, round(side / factor) * factor) for side in (height, width))
    if max_pixels is not None and rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif min_pixels is not None and rows * columns < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return rows, columns


def sample_frames(
    source: "Source",
    *,
    num_frames: Optional[int] = None,
    fps: Optional[float] = None,
    start_seconds: Optional[float] = None,
    end_seconds: Optional[float] = None,
    min_frames: int = 1,
    max_frames: Optional[int] = None,
    frame_factor: int = 1,
    max_pixels: Optional[int] = None,
    min_pixels: Optional[int] = None,
    multiple_of: int = 1,
    snap: str = "exact",
    **output: "OutputValue",
) -> FrameBatch:
    """Evenly spaced frames, resized for a model, in one call.

    Parameters
    ----------
    source : VideoReader, or what a VideoReader opens
        A reader stays open and keeps its options.
    num_frames, fps, start_seconds, end_seconds, min_frames, max_frames, frame_factor, snap
        Which frames: see ``sampled_numbers``.
    max_pixels, min_pixels, multiple_of : int
        Size of a frame: see ``fitting_size``. Without bounds and with ``multiple_of=1`` frames keep their size.
    **output
        ``layout``, ``dtype``, ``resize``, ``normalize`` and others as in ``VideoReader.batches``.

    Returns
    -------
    FrameBatch
        In order of time, with number and time of each frame.

    Examples
    --------
    >>> import framerail as fr
    >>> batch = fr.sample_frames("in.mp4", fps=2, max_frames=64, max_pixels=640 * 28 * 28, multiple_of=28)  # doctest: +SKIP
    """
    known(output, OUTPUT_DEFAULTS)
    if not isinstance(source, VideoReader):
        with VideoReader(source) as opened:
            return sample_frames(
                opened,
                num_frames=num_frames,
                fps=fps,
                start_seconds=start_seconds,
                end_seconds=end_seconds,
                min_frames=min_frames,
                max_frames=max_frames,
                frame_factor=frame_factor,
                max_pixels=max_pixels,
                min_pixels=min_pixels,
                multiple_of=multiple_of,
                snap=snap,
                **output,
            )
    numbers = sampled_numbers(
        source,
        num_frames=num_frames,
        fps=fps,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        min_frames=min_frames,
        max_frames=max_frames,
        frame_factor=frame_factor,
        snap=snap,
    )
    if max_pixels is not None or min_pixels is not None or multiple_of != 1:
        shown = source.header
        output["size"] = fitting_size(shown.height, shown.width, max_pixels=max_pixels, min_pixels=min_pixels, multiple_of=multiple_of)
    if not output:
        return source.read(numbers)
    changed: Any = output
    before: Any = {name: source._options[name] for name in output}
    source.set_output(**changed)
    try:
        return source.read(numbers)
    finally:
        source.set_output(**before)
