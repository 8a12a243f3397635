"""Detections of videos and of frames in memory, with a model that stays loaded."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from .. import _framerail
from ..pipeline import Pipeline
from .template import Template


class FrameDetections(NamedTuple):
    """The detections of a frame."""

    frame: int
    seconds: float
    detections: List[Any]


class Detector:
    """Runs stages on videos, and on frames.

    Raises
    ------
    PipelineUsageError, ValueError
        For stages that are mistaken, before any video comes.
    """

    def __init__(self, stages: str, device: Optional[str], threads: int) -> None:
        _framerail.keep_models(True)
        self._template = Template(f"read {{path}} ! {stages} ! null")
        self._device, self._threads = device, threads
        self._template.check(device)

    def video(self, path: str, content: Optional[bytes]) -> List[FrameDetections]:
        """The detections of a file, or of a whole file in memory; a row for each frame."""
        return self._run(path if content is None else f"given:{path}", content, {})

    def frames(self, images: Any) -> List[FrameDetections]:
        """The detections of frames in RGB, uint8 [T, H, W, 3]."""
        height, width = images.shape[1:3]
        raw = {"format": "rawvideo", "fps": "25", "options": f"video_size={width}x{height},pixel_format=rgb24"}
        found = self._run("given:frames.rgb", np.ascontiguousarray(images).tobytes(), raw)
        if len(found) != len(images):
            raise RuntimeError(f"{len(images)} frames went in and {len(found)} came out; leave out stages that drop frames")
        return found

    def _run(self, address: str, content: Any, read: Dict[str, str]) -> List[FrameDetections]:
        found: List[FrameDetections] = []
        options = self._template.threads_options(self._threads)
        options["read"] = {**options.get("read", {}), **read}
        text = self._template.filled(path=address, options=options)
        sources = {} if content is None else {address: bytes(content)}
        pipeline = Pipeline(text, device=self._device, sources=sources)

        def take(items: Any) -> None:
            found.extend(FrameDetections(item.index, item.seconds, item.detections) for item in items)

        pipeline.on(pipeline.stages[-1], take, batch=16).run()
        return found
