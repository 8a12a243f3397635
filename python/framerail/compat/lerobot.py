"""framerail as the video decoder of LeRobot: ``install()`` replaces ``decode_video_frames``."""

from __future__ import annotations

import importlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Union

import numpy as np

from ..reader import VideoReader

if TYPE_CHECKING:
    import torch

#: Readers that are kept open, in each process.
MOST_OPEN = 64
#: Where LeRobot's releases have the function, and modules that took it from there.
_MODULES = ("lerobot.datasets.video_utils", "lerobot.common.datasets.video_utils")
_USERS = (
    "lerobot.datasets.lerobot_dataset",
    "lerobot.datasets.dataset_reader",
    "lerobot.datasets.streaming_dataset",
    "lerobot.common.datasets.lerobot_dataset",
)

_lock = threading.Lock()
_open: "OrderedDict[str, VideoReader]" = OrderedDict()


#: LeRobot's functions that decode frames, of the same arguments.
_FUNCTIONS = ("decode_video_frames", "decode_video_frames_torchcodec")


class FrameTimestampError(ValueError):
    """No frame is as near to a time as the tolerance asks. Raised as LeRobot's error of this name where LeRobot is imported."""


def _error(message: str) -> ValueError:
    """The error as programs that catch LeRobot's expect it."""
    for name in _MODULES:
        theirs = getattr(sys.modules.get(name), "FrameTimestampError", None)
        if isinstance(theirs, type) and issubclass(theirs, ValueError):
            both: type[ValueError] = type("FrameTimestampError", (FrameTimestampError, theirs), {"__module__": __name__})
            return both(message)
    return FrameTimestampError(message)


def _reader(path: str) -> VideoReader:
    with _lock:
        reader = _open.pop(path, None)
        if reader is None or reader.closed:
            reader = VideoReader(path, layout="THWC", output="torch", exact="swscale")
        _open[path] = reader
        while len(_open) > MOST_OPEN:
            _open.popitem(last=False)[1].close()
        return reader


def decode_video_frames(
    video_path: Union[str, Path],
    timestamps: Sequence[float],
    tolerance_s: float,
    backend: Optional[str] = None,
    return_uint8: bool = False,
    **kwargs: object,
) -> "torch.Tensor":
    """The frames nearest to these times.

    Parameters
    ----------
    video_path : str or Path
        The file; readers are kept open, 64 in each process.
    timestamps : sequence of float
        Seconds on the file's clock.
    tolerance_s : float
        Largest distance in seconds between a time and its frame.
    backend : str, optional
        Ignored: LeRobot's name of another decoder.
    return_uint8 : bool
        Whether frames are uint8 instead of float32 from 0 to 1.
    **kwargs
        Ignored: further options of LeRobot's decoders, such as their cache.

    Returns
    -------
    torch.Tensor
        [T, C, H, W].

    Raises
    ------
    FrameTimestampError
        For a time without a frame that near.
    """
    import torch

    reader = _reader(str(video_path))
    starts = reader.times.seconds
    wanted = np.asarray(timestamps, np.float64)
    after = np.searchsorted(starts, wanted).clip(0, len(starts) - 1)
    before = (after - 1).clip(0)
    numbers = np.where(np.abs(starts[before] - wanted) <= np.abs(starts[after] - wanted), before, after)
    far: List[float] = wanted[np.abs(starts[numbers] - wanted) >= tolerance_s].tolist()
    if far:
        raise _error(
            f"{video_path}: no frame within {tolerance_s} s of {far[0]} s ({len(far)} of {len(wanted)} times); the nearest is at "
            f"{float(starts[numbers][np.argmax(np.abs(starts[numbers] - wanted))])} s. Frames and data of this item are not in step."
        )
    frames: torch.Tensor = reader.read(numbers.tolist()).data.permute(0, 3, 1, 2)
    return frames if return_uint8 else frames.to(torch.float32) / 255


def install() -> None:
    """Replaces LeRobot's ``decode_video_frames`` and ``decode_video_frames_torchcodec``, also in modules that imported them before.

    Raises
    ------
    ImportError
        When LeRobot is not installed.
    """
    found = False
    for name in _MODULES + _USERS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for function in _FUNCTIONS:
            if hasattr(module, function):
                setattr(module, function, decode_video_frames)
                found = True
    if not found:
        raise ImportError("LeRobot is not installed, or its decode_video_frames has moved")
