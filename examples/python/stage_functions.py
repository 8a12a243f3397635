"""Python functions as stages: one finds something, one changes pixels, one takes frames out. Needs NumPy alone.

    python stage_functions.py IN.mp4 OUT.mp4

Finds what moves: the box around the pixels that differ from the frame before.
"""

from __future__ import annotations

import sys

import framerail as fr
import numpy as np


@fr.stage(on="cpu")
class Motion:
    """Attaches a box around what has changed since the frame before."""

    def __init__(self, least: int = 24) -> None:
        self.least = least
        self.before: np.ndarray | None = None

    def __call__(self, batch: fr.ItemBatch) -> None:
        (frame,) = batch
        luma = np.asarray(frame.planes()[0]).astype(np.int16)
        if self.before is not None and self.before.shape == luma.shape:
            rows, columns = np.nonzero(abs(luma - self.before) > self.least)
            if len(rows):
                box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
                frame.detections = [fr.Detection(box, label="motion")]
        self.before = luma


@fr.stage(batch=8, pixels=False)
def moving_only(batch: fr.ItemBatch) -> list[bool]:
    """Takes frames out in which nothing was found."""
    return [bool(frame.detections) for frame in batch]


@fr.stage(on="cpu")
def frame_it(batch: fr.ItemBatch) -> None:
    """Darkens what lies outside of the first box, in place."""
    for frame in batch:
        luma = np.asarray(frame.planes(writable=True)[0])
        x1, y1, x2, y2 = (int(edge) for edge in frame.detections[0].bbox_xyxy)
        inside = luma[y1:y2, x1:x2].copy()
        luma //= 2
        luma[y1:y2, x1:x2] = inside


def main(source: str, target: str) -> None:
    # `python NAME` in the text sets the position of a function; insert_after and insert_before add one without it.
    pipeline = fr.Pipeline(f"read '{source}' ! python motion ! write '{target}' overwrite=true")
    pipeline.function("motion", Motion(least=24))
    pipeline.insert_after("motion", moving_only)
    pipeline.insert_after("moving_only", frame_it)
    stats = pipeline.run()
    dropped = next(stage for stage in stats["stages"] if stage["name"] == "moving_only")["counters"]["frames_dropped"]
    print(f"{stats['stages'][0]['frames_out']} frames, {dropped} of them without motion")


if __name__ == "__main__":
    main(*sys.argv[1:])
