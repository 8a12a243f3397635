"""What all samplers do: check, fill up clips, and put clips on an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Dict, List, TypeVar

from .._frame import FrameBatch
from ..decoders import VideoDecoder

_Place = TypeVar("_Place", int, float)


def _repeat_last_policy(values: List[_Place], desired_len: int) -> List[_Place]:
    return values + values[-1:] * (desired_len - len(values))


def _wrap_policy(values: List[_Place], desired_len: int) -> List[_Place]:
    return [values[at % len(values)] for at in range(desired_len)]


def _error_policy(values: List[_Place], desired_len: int) -> List[_Place]:
    raise ValueError(
        "You set the 'error' policy, and the sampler tried to decode a frame that is beyond the number of frames in the video. "
        "Try to leave sampling_range_end to its default value?"
    )


_POLICY_FUNCTIONS: Dict[str, Callable[..., List[float]]] = {
    "repeat_last": _repeat_last_policy,
    "wrap": _wrap_policy,
    "error": _error_policy,
}


def check_common(decoder: VideoDecoder, num_frames_per_clip: int, policy: str) -> None:
    """Refuses what no sampler takes."""
    if len(decoder) < 1:
        raise ValueError(f"Decoder must have at least one frame, found {len(decoder)} frames.")
    if num_frames_per_clip <= 0:
        raise ValueError(f"num_frames_per_clip ({num_frames_per_clip}) must be strictly positive")
    if policy not in _POLICY_FUNCTIONS:
        raise ValueError(f"Invalid policy ({policy}). Supported values are {_POLICY_FUNCTIONS.keys()}.")


def as_clips(frames: FrameBatch, num_clips: int, num_frames_per_clip: int) -> FrameBatch:
    """Frames as clips."""
    places = (num_clips, num_frames_per_clip)
    return FrameBatch(
        frames.data.reshape(*places, *frames.data.shape[1:]), frames.pts_seconds.view(places), frames.duration_seconds.view(places)
    )
