"""framerail as a video loader of vLLM.

An installed framerail registers itself through the entry point ``vllm.general_plugins``; ``VLLM_VIDEO_LOADER_BACKEND=framerail`` chooses
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from ..reader import VideoReader
from ..sampling import fitting_size

NAME = "framerail"

Metadata = Dict[str, Union[str, int, float, bool, List[int]]]


def load_bytes(
    data: bytes,
    num_frames: int = -1,
    *,
    fps: float = -1,
    max_duration: float = -1,
    min_pixels: int = -1,
    max_pixels: int = -1,
    multiple_of: int = 1,
    device: str = "cpu",
    check_size: Optional[Callable[[int, int], None]] = None,
    **kwargs: Union[None, str, int, float, bool],
) -> Tuple[np.ndarray, Metadata]:
    """Frames of a whole file in memory at even distances.

    Parameters
    ----------
    data : bytes
        The file.
    num_frames : int
        How many; -1 for every one. No more than there are.
    fps : float
        Frames per second of the video's time instead, but no more than ``num_frames``; -1 for no rate.
    max_duration : float
        With ``fps``: seconds whose frames are taken at this rate; a longer video gives as many frames as one of this length.
    min_pixels, max_pixels, multiple_of : int
        Size of frames, as in ``framerail.sample_frames``; -1 for the video's own.
    device : str
        Where frames are decoded; they are returned on the host.
    check_size : callable, optional
        Called with width and height of the frames before any is decoded; raises where they are too large.
    **kwargs
        Further options of vLLM's, which are ignored.

    Returns
    -------
    frames : numpy.ndarray
        uint8 [T, H, W, 3], RGB.
    metadata : dict
        "total_num_frames", "fps", "duration", "video_backend", "frames_indices", "do_sample_frames" as vLLM's own loaders give them.
    """
    exact = "swscale" if device == "cpu" and max_pixels <= 0 and min_pixels <= 0 and multiple_of == 1 else None
    output = "numpy" if device == "cpu" else "torch"
    with VideoReader(data, layout="THWC", output=output, device=device, exact=exact) as reader:
        shown, total = reader.metadata, len(reader)
        if check_size is not None:
            check_size(shown.width, shown.height)
        rate = shown.average_fps or 0.0
        duration = shown.duration_seconds or 0.0
        wanted = total if num_frames <= 0 else min(num_frames, total)
        if fps > 0 and duration > 0:
            lasts = min(duration, max_duration) if max_duration > 0 else duration
            wanted = max(min(wanted, int(lasts * fps)), 1)
        numbers: List[int] = np.linspace(0, total - 1, wanted, dtype=int).tolist()
        if exact is None and (max_pixels > 0 or min_pixels > 0 or multiple_of > 1):
            bounds = {"max_pixels": max_pixels if max_pixels > 0 else None, "min_pixels": min_pixels if min_pixels > 0 else None}
            reader.set_output(size=fitting_size(shown.height, shown.width, multiple_of=multiple_of, **bounds))
        frames: Any = reader.read(numbers).data
    metadata: Metadata = {
        "total_num_frames": total,
        "fps": rate,
        "duration": duration,
        "video_backend": NAME,
        "frames_indices": numbers,
        "do_sample_frames": wanted == total,
    }
    return (frames if isinstance(frames, np.ndarray) else frames.cpu().numpy()), metadata


def _size_check() -> Optional[Callable[[int, int], None]]:
    """vLLM's check of a frame's size against ``VLLM_MAX_IMAGE_PIXELS``; none in releases without it."""
    try:
        from vllm.multimodal.video_decoders import check_frame_pixel_limit  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    check: Callable[[int, int], None] = check_frame_pixel_limit
    return check


def register() -> None:
    """Registers the loader in vLLM's ``VIDEO_LOADER_REGISTRY``; called by vLLM through the entry point."""
    from vllm.multimodal.video import VIDEO_LOADER_REGISTRY, VideoLoader  # type: ignore[import-not-found,import-untyped,unused-ignore]

    class FramerailVideoLoader(VideoLoader):  # type: ignore[misc,unused-ignore]
        """vLLM's interface of a loader."""

        @classmethod
        def load_bytes(cls, data: bytes, num_frames: int = -1, **kwargs: Union[int, float, str]) -> Tuple[np.ndarray, Metadata]:
            return load_bytes(data, num_frames, check_size=_size_check(), **kwargs)  # type: ignore[arg-type]

    VIDEO_LOADER_REGISTRY.register(NAME)(FramerailVideoLoader)
