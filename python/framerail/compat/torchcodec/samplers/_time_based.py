"""Clips at times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import List, Optional, Tuple, Union

import torch

from .._frame import FrameBatch
from ..decoders import VideoDecoder
from ._common import _POLICY_FUNCTIONS, as_clips, check_common


def _range(start: Optional[float], end: Optional[float], reach: float, begin_stream: float, end_stream: float) -> Tuple[float, float]:
    """Where clips may begin: from the first time to before the second."""
    if start is None:
        start = begin_stream
    elif start < begin_stream:
        raise ValueError(f"sampling_range_start ({start}) must be at least {begin_stream}")
    elif start >= end_stream:
        raise ValueError(f"sampling_range_start ({start}) must be smaller than {end_stream}")
    if end is None:
        end = end_stream - reach
    elif end <= begin_stream:
        raise ValueError(f"sampling_range_end ({end}) must be at least {begin_stream}")
    if start >= end:
        raise ValueError(f"sampling_range_start ({start}) must be smaller than sampling_range_end ({end})")
    return start, min(end, end_stream)


def _build_all_clips_timestamps(
    *,
    clip_start_seconds: Iterable[Union[float, torch.Tensor]],
    num_frames_per_clip: int,
    seconds_between_frames: float,
    end_stream_seconds: float,
    policy_fun: Callable[..., List[float]],
) -> List[float]:
    """Times of frames, one clip behind the other."""
    chosen: List[float] = []
    for start in (float(at) for at in clip_start_seconds):
        times = [start + at * seconds_between_frames for at in range(num_frames_per_clip)]
        clip = [at for at in times if at < end_stream_seconds]
        chosen += clip if len(clip) == num_frames_per_clip else policy_fun(clip, num_frames_per_clip)
    return chosen


def _sample(
    decoder: VideoDecoder,
    num_clips: Optional[int],
    seconds_between_clip_starts: Optional[float],
    num_frames_per_clip: int,
    seconds_between_frames: Optional[float],
    sampling_range_start: Optional[float],
    sampling_range_end: Optional[float],
    policy: str,
) -> FrameBatch:
    check_common(decoder, num_frames_per_clip, policy)
    if seconds_between_clip_starts is not None and seconds_between_clip_starts <= 0:
        raise ValueError(f"seconds_between_clip_starts ({seconds_between_clip_starts}) must be > 0")
    if num_clips is not None and num_clips <= 0:
        raise ValueError(f"num_clips ({num_clips}) must be > 0")
    known = decoder.metadata
    if known.average_fps is None:
        raise ValueError("Could not infer average fps from video metadata. Try using an index-based sampler instead.")
    if known.end_stream_seconds is None:
        raise ValueError("Could not infer stream end from video metadata. Try using an index-based sampler instead.")
    if seconds_between_frames is None:
        seconds_between_frames = 1 / known.average_fps
    elif seconds_between_frames <= 0:
        raise ValueError(f"seconds_between_frames ({seconds_between_frames}) must be > 0, got")
    reach = (num_frames_per_clip - 1) * seconds_between_frames
    start, end = _range(sampling_range_start, sampling_range_end, reach, known.begin_stream_seconds, known.end_stream_seconds)
    if num_clips is not None:
        starts = torch.rand(num_clips, dtype=torch.float64) * (end - start) + start
    else:
        assert seconds_between_clip_starts is not None
        starts = torch.arange(start, end, seconds_between_clip_starts, dtype=torch.float64)
        # Rounding may give the end itself.
        starts = starts[starts < end]
    times = _build_all_clips_timestamps(
        clip_start_seconds=starts,
        num_frames_per_clip=num_frames_per_clip,
        seconds_between_frames=seconds_between_frames,
        end_stream_seconds=known.end_stream_seconds,
        policy_fun=_POLICY_FUNCTIONS[policy],
    )
    return as_clips(decoder.get_frames_played_at(times), len(starts), num_frames_per_clip)


def clips_at_random_timestamps(
    decoder: VideoDecoder,
    *,
    num_clips: int = 1,
    num_frames_per_clip: int = 1,
    seconds_between_frames: Optional[float] = None,
    sampling_range_start: Optional[float] = None,
    sampling_range_end: Optional[float] = None,
    policy: str = "repeat_last",
) -> FrameBatch:
    """Clips that begin at random times, by PyTorch's generator.

    ``policy`` says what becomes of clips that reach beyond the end: "repeat_last", "wrap" or "error".
    """
    return _sample(decoder, num_clips, None, num_frames_per_clip, seconds_between_frames, sampling_range_start, sampling_range_end, policy)


def clips_at_regular_timestamps(
    decoder: VideoDecoder,
    *,
    seconds_between_clip_starts: float,
    num_frames_per_clip: int = 1,
    seconds_between_frames: Optional[float] = None,
    sampling_range_start: Optional[float] = None,
    sampling_range_end: Optional[float] = None,
    policy: str = "repeat_last",
) -> FrameBatch:
    """Clips that begin at even times. See ``clips_at_random_timestamps``."""
    return _sample(
        decoder,
        None,
        seconds_between_clip_starts,
        num_frames_per_clip,
        seconds_between_frames,
        sampling_range_start,
        sampling_range_end,
        policy,
    )
