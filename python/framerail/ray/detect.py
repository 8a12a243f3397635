"""Models on the rows of Ray data sets, in actors that keep them loaded."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from ..jobs.detections import Detector
from ..jobs.template import Template
from ..options import bad


def Detect(stages: str, *, column: Optional[str] = None, device: Optional[str] = None, threads: int = 0, keep: bool = False) -> type:  # noqa: N802 - a class for map_batches
    """A class for ``map_batches`` that runs stages of a pipeline on each row and gives their detections.

    Rows have frames, as ``read_frames`` ("image") and ``read_clips`` ("frames") give them; or the path of a video ("path"), or a whole
    video in memory ("bytes"), which are decoded there. Prefer the latter: boxes travel, and frames do not.

    Parameters
    ----------
    stages : str
        What comes after `read`, such as "infer ssd300 batch=32 precision=fp16" or "infer centerface ! track".
    column : str, optional
        The column to use; by default the first of "image", "frames", "bytes" and "path" that exists.
    device : str, optional
        As in ``Pipeline``; by default a GPU that Ray gave the actor, else the CPU.
    threads : int
        Threads of a decoder and of a model on the CPU; 0 for as many as the actor has CPUs.
    keep : bool
        Keep frames among the results.

    Returns
    -------
    type
        A class whose objects take a batch as a dict of arrays and give one with the other columns, and "boxes" [N, 4] as left, top,
        right, bottom in pixels, "scores", "labels", "label_ids" and "track_ids" (-1 without one) of each frame. Rows of videos become a
        row for each frame, with "frame" and "seconds".

    Examples
    --------
    >>> ds.map_batches(fr_ray.Detect("infer ssd300 batch=32"), num_gpus=1,
    ...                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8))  # doctest: +SKIP
    """
    Template(f"read {{path}} ! {stages} ! null")
    given = {"stages": stages, "column": column, "device": device, "threads": threads, "keep": keep}

    class Given(_Rows):
        def __init__(self) -> None:
            super().__init__(**given)  # type: ignore[arg-type]

    Given.__name__ = Given.__qualname__ = "Detect"
    return Given


class _Rows:
    """Runs stages on rows."""

    def __init__(self, stages: str, column: Optional[str], device: Optional[str], threads: int, keep: bool) -> None:
        self._column, self._keep = column, keep
        self._detector = Detector(stages, device or _device_here(), threads or _cpus_here())

    def __call__(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        column = self._column or next((name for name in ("image", "frames", "bytes", "path") if name in batch), None)
        if column is None or column not in batch:
            raise bad("column", self._column, f"one of {', '.join(batch)}")
        values = batch[column]
        if isinstance(values, np.ndarray) and values.dtype != object and values.ndim >= 4:
            return self._frames(batch, column, values)
        return self._videos(batch, column)

    def _frames(self, batch: Dict[str, Any], column: str, values: Any) -> Dict[str, Any]:
        """Rows whose frames are decoded: a row each, or a clip."""
        shape = values.shape
        images = values.reshape(-1, *shape[-3:])
        if images.dtype != np.uint8:
            raise bad("column", column, "frames in uint8: leave out dtype and normalize where they are read")
        if images.shape[-1] != 3:
            images = np.moveaxis(images, -3, -1)
        found = self._detector.frames(images)
        kept = {name: value for name, value in batch.items() if name != column or self._keep}
        rows = len(values)
        per_row = len(images) // max(rows, 1)
        columns = _columns(found)
        if values.ndim == 4:
            return {**kept, **columns}
        # A clip's detections are concatenated; "frame_in_clip" is the frame of each.
        merged: Dict[str, List[Any]] = {name: [] for name in (*columns, "frame_in_clip")}
        for row in range(rows):
            some = range(row * per_row, (row + 1) * per_row)
            for name, cells in columns.items():
                merged[name].append(np.concatenate([cells[at] for at in some]) if name != "labels" else [one for at in some for one in cells[at]])
            merged["frame_in_clip"].append(np.concatenate([np.full(len(columns["scores"][at]), at - some[0], np.int64) for at in some]))
        return {**kept, **{name: _objects(cells) for name, cells in merged.items()}}

    def _videos(self, batch: Dict[str, Any], column: str) -> Dict[str, Any]:
        """Rows of whole videos: a row for each frame."""
        rows: Dict[str, List[Any]] = {}
        paths = batch.get("path", [f"row-{number}.mp4" for number in range(len(batch[column]))])
        for place, path in enumerate(paths):
            content = batch[column][place] if column != "path" else None
            found = self._detector.video(str(path), content)
            others = {name: value[place] for name, value in batch.items() if name != column or name == "path"}
            columns: Dict[str, Any] = {**_columns(found), "frame": [one[0] for one in found], "seconds": [one[1] for one in found]}
            for name, cells in columns.items():
                rows.setdefault(name, []).extend(cells)
            for name, value in others.items():
                rows.setdefault(name, []).extend([value] * len(found))
        return {name: _objects(cells) if name in _RAGGED else np.asarray(cells) for name, cells in rows.items()}


#: Columns with several values a row.
_RAGGED = frozenset(("boxes", "scores", "labels", "label_ids", "track_ids", "frame_in_clip"))


def _columns(found: List[Any]) -> Dict[str, Any]:
    boxes, scores, labels, ids, tracks = [], [], [], [], []
    for _, _, detections in found:
        boxes.append(np.array([one.bbox_xyxy for one in detections], np.float32).reshape(-1, 4))
        scores.append(np.array([one.score for one in detections], np.float32))
        labels.append([one.label for one in detections])
        ids.append(np.array([one.label_id for one in detections], np.int64))
        tracks.append(np.array([-1 if one.track_id is None else one.track_id for one in detections], np.int64))
    cells: Dict[str, List[Any]] = {"boxes": boxes, "scores": scores, "labels": labels, "label_ids": ids, "track_ids": tracks}
    return {name: _objects(values) for name, values in cells.items()}


def _objects(values: List[Any]) -> Any:
    """An array with one object a row."""
    made = np.empty(len(values), object)
    for place, value in enumerate(values):
        made[place] = value
    return made


def _device_here() -> Optional[str]:
    import ray

    return "cuda" if ray.is_initialized() and ray.get_gpu_ids() else None


def _cpus_here() -> int:
    import ray

    if not ray.is_initialized():
        return 1
    reserved = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    return max(int(reserved), 1)


__all__ = ["Detect"]
