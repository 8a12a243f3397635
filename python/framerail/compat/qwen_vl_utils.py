"""framerail as a video reader of ``qwen_vl_utils``: ``install()``, then ``fetch_video`` and ``process_vision_info`` as ever."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Dict, List, Tuple, Union

from ..reader import VideoReader

if TYPE_CHECKING:
    import torch

    Element = Mapping[str, Union[str, int, float]]
    Metadata = Dict[str, Union[str, int, float, List[int]]]

NAME = "framerail"


def read_video(element: "Element") -> Tuple["torch.Tensor", "Metadata", float]:
    """Reads what ``fetch_video`` asks of a backend: frames [T, C, H, W], what is known of the video, and the rate of the samples.

    ``video``, ``video_start``, ``video_end``, ``fps``, ``nframes``, ``min_frames`` and ``max_frames`` of the element count, by the rules
    of ``qwen_vl_utils`` itself.
    """
    import torch
    from qwen_vl_utils import vision_process  # type: ignore[import-not-found,import-untyped,unused-ignore]

    path = str(element["video"])
    path = path[len("file://") :] if path.startswith("file://") else path
    device = os.environ.get("FRAMERAIL_DEVICE", "cpu")
    # The conversion of its other readers: the same frames.
    exact = None if device != "cpu" else "swscale"
    with VideoReader(path, layout="THWC", output="torch", device=device, exact=exact) as reader:
        rate = reader.metadata.average_fps or 0.0
        first, last, total = vision_process.calculate_video_frame_range(element, len(reader), rate)
        count = vision_process.smart_nframes(element, total_frames=total, video_fps=rate)
        numbers: List[int] = torch.linspace(first, last, count).round().long().tolist()
        frames: torch.Tensor = reader.read(numbers).data.permute(0, 3, 1, 2)
    metadata: Metadata = {"fps": rate, "frames_indices": numbers, "total_num_frames": total, "video_backend": NAME}
    return frames, metadata, count / max(total, 1e-6) * rate


def install() -> None:
    """Registers framerail in ``VIDEO_READER_BACKENDS`` and makes it the reader in use, as ``FORCE_QWENVL_VIDEO_READER`` does."""
    from qwen_vl_utils import vision_process  # pyright: ignore[reportAttributeAccessIssue]

    vision_process.VIDEO_READER_BACKENDS[NAME] = read_video
    vision_process.FORCE_QWENVL_VIDEO_READER = NAME
    vision_process.get_video_reader_backend.cache_clear()
