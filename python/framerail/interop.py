"""Conversion of detections for other libraries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional

from . import _framerail
from .lazy import np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas
    import supervision


def _full_mask(mask: _framerail.InstanceMask, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The pixels of a frame whose centre lies in a cell with a coverage of at least one half."""
    x1, y1, x2, y2 = mask.bbox_xyxy
    rows, columns = mask.coverage.shape
    across = np.floor((np.arange(width) + 0.5 - x1) / (x2 - x1) * columns).astype(np.int64)
    down = np.floor((np.arange(height) + 0.5 - y1) / (y2 - y1) * rows).astype(np.int64)
    inside = ((down >= 0) & (down < rows))[:, None] & ((across >= 0) & (across < columns))[None]
    cells = mask.coverage[np.clip(down, 0, rows - 1)[:, None], np.clip(across, 0, columns - 1)[None]]
    covered: npt.NDArray[np.bool_] = inside & (cells >= 128)
    return covered


def _mask_of(found: _framerail.Detection) -> Optional[_framerail.InstanceMask]:
    return next((attribute.mask for attribute in found.attributes if attribute.kind == "mask"), None)


def to_supervision(frame: _framerail.FrameItem) -> supervision.Detections:
    """The detections of a frame as ``supervision.Detections``: boxes, scores, classes, identities, and masks where all have one.

    Parameters
    ----------
    frame : FrameItem
        A frame of a pipeline, in a stage function or callback.

    Returns
    -------
    supervision.Detections
        With the labels' names as ``data["class_name"]``.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("to_supervision needs the package supervision: pip install supervision") from error
    found = list(frame.detections)
    masks = [mask for mask in map(_mask_of, found) if mask is not None]
    ids = [one.track_id for one in found]
    return supervision.Detections(
        xyxy=np.array([one.bbox_xyxy for one in found], np.float32).reshape(-1, 4),
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([one.label_id for one in found], int),
        tracker_id=np.array(ids, int) if ids and None not in ids else None,
        mask=np.stack([_full_mask(mask, frame.width, frame.height) for mask in masks]) if masks and len(masks) == len(found) else None,
        data={"class_name": np.array([one.label for one in found], dtype=str)},
    )


def to_pandas(frames: Iterable[_framerail.FrameItem]) -> pandas.DataFrame:
    """The detections of frames as a ``pandas.DataFrame``, one row each.

    Parameters
    ----------
    frames : ItemBatch or list of FrameItem
        Frames of a pipeline, in a stage function or callback.

    Returns
    -------
    pandas.DataFrame
        Columns: stream, frame, seconds, label, label_id, score, x1, y1, x2, y2, track_id (missing where there is none).
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas needs the package pandas: pip install pandas") from error
    columns = {
        "stream": "int64", "frame": "int64", "seconds": "float64", "label": "str", "label_id": "int64", "score": "float64",
        "x1": "float64", "y1": "float64", "x2": "float64", "y2": "float64", "track_id": "Int64",
    }  # fmt: skip
    rows = [
        (frame.stream, frame.index, frame.seconds, one.label, one.label_id, one.score, *one.bbox_xyxy, one.track_id)
        for frame in frames
        for one in frame.detections
    ]
    return pandas.DataFrame(rows, columns=list(columns)).astype(columns)
