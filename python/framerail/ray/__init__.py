"""framerail on Ray: data sets of clips and frames, pipelines over folders and buckets, models in actors.

Needs Ray (``pip install "ray[data]"``). Scheduling, retries and backpressure are Ray's. See ``docs/scale.md``.
"""

try:
    import ray as _ray  # noqa: F401
except ImportError as _error:
    raise ImportError("framerail.ray needs Ray: pip install 'ray[data]'") from _error

from ..jobs.report import JobRow, Report
from .detect import Detect
from .read import read_clips, read_frames
from .run import run

__all__ = ["Detect", "JobRow", "Report", "read_clips", "read_frames", "run"]
