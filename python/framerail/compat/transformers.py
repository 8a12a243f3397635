"""framerail as a video decoder of ``transformers``: ``install()``, then ``load_video(..., backend="framerail")``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, List, Tuple, Union

import numpy as np

from ..reader import VideoReader

if TYPE_CHECKING:
    import torch
    from transformers.video_utils import VideoMetadata  # type: ignore[import-not-found,import-untyped,unused-ignore]

NAME = "framerail"


def read_video(
    video_path: Union[str, IO[bytes]], sample_indices_fn: Callable[..., Sequence[int]], **kwargs: Union[str, int, float, bool]
) -> Tuple[np.ndarray, "VideoMetadata"]:
    """Reads what ``load_video`` asks of a backend: the frames that ``sample_indices_fn(metadata=..., **kwargs)`` chooses,
    [T, H, W, 3], and what is known of the video."""
    from transformers.video_utils import VideoMetadata

    device = str(kwargs.get("device", "cpu"))
    # The conversion of its other decoders: the same frames.
    exact = None if device != "cpu" else "swscale"
    with VideoReader(video_path, layout="THWC", output="numpy" if device == "cpu" else "torch", device=device, exact=exact) as reader:
        shown = reader.metadata
        metadata = VideoMetadata(
            total_num_frames=len(reader),
            fps=shown.average_fps,
            duration=shown.duration_seconds,
            video_backend=NAME,
            height=shown.height,
            width=shown.width,
        )
        numbers: List[int] = [int(number) for number in sample_indices_fn(metadata=metadata, **kwargs)]
        frames: np.ndarray = reader.read(numbers).data  # type: ignore[assignment]
    metadata.frames_indices = numbers
    return frames, metadata


def read_tensor(
    video_path: Union[str, IO[bytes]], sample_indices_fn: Callable[..., Sequence[int]], **kwargs: Union[str, int, float, bool]
) -> Tuple["torch.Tensor", "VideoMetadata"]:
    """The same as a tensor [T, 3, H, W], as the backends "torchcodec" and "torchvision" hand it out."""
    import torch

    frames, metadata = read_video(video_path, sample_indices_fn, **kwargs)
    tensor = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
    # A view, as TorchCodec's frames are: torchvision resizes it faster than a copy.
    return tensor.permute(0, 3, 1, 2), metadata


def install(*, replace: bool = True) -> None:
    """Registers framerail in ``VIDEO_DECODERS``.

    Parameters
    ----------
    replace : bool
        Whether it also serves programs that name another backend, or none.
    """
    from transformers import video_utils  # type: ignore[import-not-found,import-untyped,unused-ignore]

    video_utils.VIDEO_DECODERS[NAME] = read_video
    if replace:
        for name in list(video_utils.VIDEO_DECODERS):
            video_utils.VIDEO_DECODERS[name] = read_tensor if name in ("torchcodec", "torchvision") else read_video
