"""Clips at frame numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import List, Optional, Tuple, Union

import torch

from .._frame import FrameBatch
from ..decoders import VideoDecoder
from ._common import _POLICY_FUNCTIONS, as_clips, check_common


def _span(num_indices_between_frames: int, num_frames_per_clip: int) -> int:
    """Frames from the first of a clip to its last, both counted."""
    return num_indices_between_frames * (num_frames_per_clip - 1) + 1


def _range(start: int, end: Optional[int], span: int, count: int) -> Tuple[int, int]:
    """Where clips may begin: from the first number to before the second."""
    start = start + count if start < 0 else start
    if start >= count:
        raise ValueError(f"sampling_range_start ({start}) must be smaller than the number of frames ({count}).")
    if end is None:
        end = max(count - span + 1, 1)
        if start >= end:
            raise ValueError(
                f"We determined that sampling_range_end should be {end}, but it is smaller than or equal to sampling_range_start ({start})."
            )
        return start, end
    end = min(end + count if end < 0 else end, count)
    if start >= end:
        raise ValueError(f"sampling_range_start ({start}) must be smaller than sampling_range_end ({end}).")
    return start, end


def _build_all_clips_indices(
    *,
    clip_start_indices: Iterable[Union[int, torch.Tensor]],
    num_frames_per_clip: int,
    num_indices_between_frames: int,
    num_frames_in_video: int,
    policy_fun: Callable[..., List[float]],
) -> List[int]:
    """Frame numbers of clips, one clip behind the other."""
    span = _span(num_indices_between_frames, num_frames_per_clip)
    chosen: List[int] = []
    for start in (int(at) for at in clip_start_indices):
        clip = list(range(start, min(start + span, num_frames_in_video), num_indices_between_frames))
        chosen += clip if len(clip) == num_frames_per_clip else policy_fun(clip, num_frames_per_clip)  # type: ignore[arg-type]
    return chosen


def _sample(
    decoder: VideoDecoder,
    is_random: bool,
    num_clips: int,
    num_frames_per_clip: int,
    num_indices_between_frames: int,
    sampling_range_start: int,
    sampling_range_end: Optional[int],
    policy: str,
) -> FrameBatch:
    check_common(decoder, num_frames_per_clip, policy)
    if num_clips <= 0:
        raise ValueError(f"num_clips ({num_clips}) must be > 0")
    if num_indices_between_frames <= 0:
        raise ValueError(f"num_indices_between_frames ({num_indices_between_frames}) must be strictly positive")
    span = _span(num_indices_between_frames, num_frames_per_clip)
    start, end = _range(sampling_range_start, sampling_range_end, span, len(decoder))
    if is_random:
        starts = torch.randint(low=start, high=end, size=(num_clips,))
    else:
        starts = torch.linspace(start, end - 1, steps=num_clips, dtype=torch.int32)
    numbers = _build_all_clips_indices(
        clip_start_indices=starts,
        num_frames_per_clip=num_frames_per_clip,
        num_indices_between_frames=num_indices_between_frames,
        num_frames_in_video=len(decoder),
        policy_fun=_POLICY_FUNCTIONS[policy],
    )
    return as_clips(decoder.get_frames_at(numbers), num_clips, num_frames_per_clip)


def clips_at_random_indices(
    decoder: VideoDecoder,
    *,
    num_clips: int = 1,
    num_frames_per_clip: int = 1,
    num_indices_between_frames: int = 1,
    sampling_range_start: int = 0,
    sampling_range_end: Optional[int] = None,
    policy: str = "repeat_last",
) -> FrameBatch:
    """Clips that begin at random frames, by PyTorch's generator.

    ``policy`` says what becomes of clips that reach beyond the end: "repeat_last", "wrap" or "error".
    """
    return _sample(
        decoder, True, num_clips, num_frames_per_clip, num_indices_between_frames, sampling_range_start, sampling_range_end, policy
    )


def clips_at_regular_indices(
    decoder: VideoDecoder,
    *,
    num_clips: int = 1,
    num_frames_per_clip: int = 1,
    num_indices_between_frames: int = 1,
    sampling_range_start: int = 0,
    sampling_range_end: Optional[int] = None,
    policy: str = "repeat_last",
) -> FrameBatch:
    """Clips that begin at even distances. See ``clips_at_random_indices``."""
    return _sample(
        decoder, False, num_clips, num_frames_per_clip, num_indices_between_frames, sampling_range_start, sampling_range_end, policy
    )
