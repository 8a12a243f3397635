"""framerail in NeMo Curator: stages that decode the bytes of a video in memory, without a temporary file.

Needs NeMo Curator (``pip install nemo-curator``).

Examples
--------
>>> from nemo_curator.pipeline import Pipeline  # doctest: +SKIP
>>> pipeline = Pipeline("faces")  # doctest: +SKIP
>>> pipeline.add_stage(VideoReader("videos/"))  # doctest: +SKIP
>>> pipeline.add_stage(DecodeFrames(fps=2, size=(224, 224)))  # doctest: +SKIP
>>> pipeline.add_stage(Detect(stages="infer centerface every=5"))  # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

try:
    from nemo_curator.stages.base import ProcessingStage
    from nemo_curator.stages.resources import Resources
    from nemo_curator.tasks.video import VideoTask
except ImportError as _error:
    raise ImportError(f"framerail.curator needs NeMo Curator ({_error}): pip install nemo-curator") from _error

from .errors import DecodeError, PipelineError, UnsupportedError
from .jobs.detections import Detector
from .reader import VideoReader

__all__ = ["DecodeFrames", "Detect"]

#: What is wrong with a video, as opposed to with a call.
_SOURCE_ERRORS = (DecodeError, UnsupportedError, OSError, PipelineError)


@dataclass
class DecodeFrames(ProcessingStage[VideoTask, VideoTask]):
    """Decodes ``source_bytes`` of each video into ``frame_array`` [T, H, W, C] and fills in its metadata.

    Attributes
    ----------
    fps : float, optional
        Frames per second that are kept; all by default.
    size : (height, width), optional
    cpus : float
        CPUs of a worker, and threads of its decoder.
    """

    fps: Optional[float] = None
    size: Optional[Tuple[int, int]] = None
    cpus: float = 1.0
    name: str = "framerail_decode_frames"

    def __post_init__(self) -> None:
        self.resources = Resources(cpus=self.cpus)

    def inputs(self) -> Tuple[List[str], List[str]]:
        return ["data"], ["source_bytes"]

    def outputs(self) -> Tuple[List[str], List[str]]:
        return ["data"], ["frame_array", "metadata"]

    def process(self, task: Any) -> Any:
        """Decodes one video; what is wrong with it is noted in its ``errors``."""
        video = task.data
        if video.source_bytes is None:
            video.errors["framerail"] = "no source_bytes"
            return task
        try:
            with VideoReader(video.source_bytes, layout="THWC", output="numpy", size=self.size, threads=max(int(self.cpus), 1)) as reader:
                count = len(reader)
                known, about = reader.metadata, video.metadata
                numbers = list(range(count))
                if self.fps is not None:
                    times = reader.times
                    first, end = float(times.seconds[0]), float(times.seconds[-1] + times.durations[-1])
                    wanted = [first + tick / self.fps for tick in range(int((end - first) * self.fps + 1e-6) + 1)]
                    numbers = reader.numbers_at([at for at in wanted if at < end])
                video.frame_array = reader.read_frames(numbers)
                about.size, about.width, about.height = len(video.source_bytes), known.width, known.height
                about.num_frames, about.framerate, about.duration = count, known.average_fps, known.duration_seconds
                about.video_codec, about.pixel_format = known.codec, known.pixel_format
                about.bit_rate_k = None if known.bit_rate is None else known.bit_rate // 1000
        except _SOURCE_ERRORS as error:
            video.errors["framerail"] = " ".join(str(error).split())
        return task


@dataclass
class Detect(ProcessingStage[VideoTask, VideoTask]):
    """Runs stages of a pipeline on ``source_bytes`` of each video; detections go into the task's ``_metadata["detections"]``.

    Attributes
    ----------
    stages : str
        What comes after `read`, such as "infer centerface every=5".
    device : str, optional
        As in ``Pipeline``.
    cpus, gpus : float
        What a worker takes.
    """

    stages: str = ""
    device: Optional[str] = None
    cpus: float = 1.0
    gpus: float = 0.0
    name: str = "framerail_detect"

    def __post_init__(self) -> None:
        self.resources = Resources(cpus=self.cpus, gpus=self.gpus) if self.gpus else Resources(cpus=self.cpus)
        self._detector: Optional[Detector] = None

    def inputs(self) -> Tuple[List[str], List[str]]:
        return ["data"], ["source_bytes"]

    def outputs(self) -> Tuple[List[str], List[str]]:
        return ["data"], []

    def setup(self, worker_metadata: Any = None) -> None:
        """Checks the stages; the model is loaded with the first video and stays."""
        self._detector = Detector(self.stages, self.device, max(int(self.cpus), 1))

    def process(self, task: Any) -> Any:
        """Looks at one video; what is wrong with it is noted in its ``errors``."""
        if self._detector is None:
            self.setup()
        video = task.data
        try:
            found = self._detector.video(str(video.input_video), video.source_bytes)  # type: ignore[union-attr]
        except _SOURCE_ERRORS as error:
            video.errors["framerail"] = " ".join(str(error).split())
            return task
        task._metadata["detections"] = [
            {"frame": frame, "seconds": seconds, "box": list(one.bbox_xyxy), "score": one.score, "label": one.label, "track_id": one.track_id}
            for frame, seconds, detections in found
            for one in detections
        ]
        return task
