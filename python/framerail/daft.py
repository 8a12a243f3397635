"""framerail in Daft: frames and detections of videos as expressions.

Needs Daft (``pip install daft``). A column has paths or addresses, or bytes of whole files, which are decoded in memory.

Examples
--------
>>> import daft, framerail.daft as fr_daft  # doctest: +SKIP
>>> df = daft.from_glob_path("videos/*.mp4")  # doctest: +SKIP
>>> df = df.with_column("frames", fr_daft.Frames(every=25, size=(224, 224))(df["path"]))  # doctest: +SKIP
>>> df = df.with_column("boxes", fr_daft.Detections("infer centerface every=5")(df["path"]))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Union

try:
    import daft
except ImportError as _error:
    raise ImportError("framerail.daft needs Daft: pip install daft") from _error

import numpy as np

from .jobs.detections import Detector
from .options import reader_options, whole
from .reader import VideoReader

__all__ = ["Detections", "Frames"]

#: One detection.
_DETECTION = daft.DataType.struct(
    {
        "frame": daft.DataType.int64(),
        "seconds": daft.DataType.float64(),
        "box": daft.DataType.list(daft.DataType.float32()),
        "score": daft.DataType.float32(),
        "label": daft.DataType.string(),
        "track_id": daft.DataType.int64(),
    }
)


def _source_of(value: Union[str, bytes]) -> str:
    """A path from a column of Daft's, which has ``file://`` before those of this machine."""
    return value[len("file://") :] if isinstance(value, str) and value.startswith("file://") else value  # type: ignore[return-value]


@daft.cls
class Frames:
    """Frames of each video as a tensor [T, H, W, C].

    Parameters
    ----------
    every : int
        Every Nth frame.
    limit : int, optional
        Most frames of a video, evenly spread.
    **options
        Of ``VideoReader``, such as ``size=(224, 224)``.
    """

    def __init__(self, every: int = 1, limit: Optional[int] = None, **options: Any) -> None:
        self._every = whole("every", every, 1)
        self._limit = None if limit is None else whole("limit", limit, 1)
        self._options = reader_options(options)

    @daft.method(return_dtype=daft.DataType.tensor(daft.DataType.uint8()))
    def __call__(self, video: Any) -> Any:
        if video is None:
            return None
        with VideoReader(_source_of(video), **self._options) as reader:
            numbers = list(range(0, len(reader), self._every))
            if self._limit is not None and len(numbers) > self._limit:
                numbers = [numbers[at] for at in np.linspace(0, len(numbers) - 1, self._limit).round().astype(int)]
            return reader.read_frames(numbers)


@daft.cls
class Detections:
    """What the stages of a pipeline find in each video: a list of structs, one for each detection. Frames stay where they are decoded.

    Parameters
    ----------
    stages : str
        What comes after `read`, such as "infer centerface every=5".
    device : str, optional
        As in ``Pipeline``.
    threads : int
        Threads of a decoder and of a model on the CPU.
    """

    def __init__(self, stages: str, device: Optional[str] = None, threads: int = 1) -> None:
        self._detector = Detector(stages, device, threads)

    @daft.method(return_dtype=daft.DataType.list(_DETECTION))
    def __call__(self, video: Any) -> Optional[List[Dict[str, Any]]]:
        if video is None:
            return None
        source = _source_of(video)
        found = self._detector.video(source, None) if isinstance(source, str) else self._detector.video("video", source)
        return [
            {
                "frame": frame, "seconds": seconds, "box": list(one.bbox_xyxy), "score": one.score, "label": one.label,
                "track_id": -1 if one.track_id is None else one.track_id,
            }
            for frame, seconds, detections in found
            for one in detections
        ]  # fmt: skip
